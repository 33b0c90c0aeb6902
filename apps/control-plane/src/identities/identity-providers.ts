import { AppError } from '@aviary/core';
import type { Clock, Logger } from '@aviary/service-kit';
import { createGithubClient } from './github-client.ts';
import { defaultProviderTimes, type ProviderClient } from './identity-provider.ts';
import { createOidcClient } from './oidc-client.ts';
import type { ProviderSettings } from './provider-settings.ts';

/** A server where people can sign in. */
export interface Provider extends Pick<ProviderSettings, 'id' | 'kind' | 'name' | 'issuer'> {
  client: ProviderClient;
}

export interface ProviderOptions {
  /** Deadline of one request to a provider. Default 5 s. */
  requestMs: number;
  /** Deadline of all requests of one sign-in. Default 10 s. */
  signInMs: number;
}

/** The servers where people can sign in, as the configuration names them. */
export class IdentityProviders {
  readonly all: readonly Provider[];

  constructor(
    deps: { clock: Clock; logger: Logger },
    settings: readonly ProviderSettings[],
    options: Partial<ProviderOptions> = {},
  ) {
    const times = { ...deps, ...defaultProviderTimes, ...options };
    this.all = settings.map((one) => ({
      id: one.id,
      kind: one.kind,
      name: one.name,
      issuer: one.issuer,
      client: one.kind === 'github' ? createGithubClient(times, one) : createOidcClient(times, one),
    }));
  }

  /** Throws `not_found`. */
  get(id: string): Provider {
    const found = this.all.find((one) => one.id === id);
    if (found) return found;
    throw new AppError('not_found', 'there is no such sign-in provider; GET /v1/auth/providers lists them');
  }
}

/** How the audit log calls a log-in there. */
export function logInMethod({ id }: Pick<Provider, 'id'>): string {
  return `provider:${id}`;
}
