import { readFileSync } from 'node:fs';
import path from 'node:path';
import { providerId } from '@aviary/api-contract';
import { AppError } from '@aviary/core';
import type { EnvReader } from '@aviary/service-kit';
import { type Static, Type } from 'typebox';
import { findFault } from '../http/answer-check.ts';

/** A server where people can sign in, as who runs the platform has registered with it. */
export interface ProviderSettings {
  /** In paths and redirect URIs: it stays. */
  id: string;
  kind: 'oidc' | 'github';
  /** For people. */
  name: string;
  /** The issuer's URL, or that of a GitHub. */
  issuer: string;
  /** Where a GitHub's API is. */
  apiUrl: string;
  clientId: string;
  clientSecret: string;
  scopes: readonly string[];
}

const maxProviders = 32;
const closed = { additionalProperties: false };
const word = Type.String({ minLength: 1, maxLength: 512 });

const Providers = Type.Array(
  Type.Object(
    {
      id: providerId,
      kind: Type.Enum(['oidc', 'github']),
      name: Type.Optional(Type.String({ minLength: 1, maxLength: 64 })),
      issuer: Type.Optional(word),
      api_url: Type.Optional(word),
      client_id: word,
      client_secret: word,
      scopes: Type.Optional(Type.Array(Type.String({ pattern: '^[!#-\\[\\]-~]{1,128}$' }), { maxItems: 32 })),
    },
    closed,
  ),
  { maxItems: maxProviders },
);

const githubUrl = 'https://github.com';
const defaultScopes = { oidc: ['openid', 'email', 'profile'], github: ['read:user', 'user:email'] } as const;

const variable = 'AVIARY_AUTH_PROVIDERS';

/**
 * Reads `AVIARY_AUTH_PROVIDERS`: a JSON list, or the path of a file that holds one. Throws `invalid_request` that repeats nothing of the
 * text, which holds secrets.
 */
export function readProviderSettings(reader: EnvReader): ProviderSettings[] {
  const value = reader.optional(variable);
  if (value === undefined) return [];
  if (value.trimStart().startsWith('[')) return parseProviders(value, variable);
  if (!path.isAbsolute(value))
    throw refuse(variable, 'must be a JSON list, or the absolute path of a file that holds one');
  return parseProviders(readText(value), `${variable} (${value})`);
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw refuse(variable, `names ${file}, which cannot be read`, cause);
  }
}

function parseProviders(text: string, field: string): ProviderSettings[] {
  const entries = parseEntries(text, field);
  const providers = entries.map((entry) => readProvider(entry, field));
  const twice = providers.find(({ id }, index) => providers.findIndex((other) => other.id === id) !== index);
  if (twice) throw refuse(field, `has two providers with the id ${twice.id}`);
  return providers;
}

function parseEntries(text: string, field: string): Static<typeof Providers> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw refuse(field, 'is not JSON; it must be a list such as [{"id": "github", "kind": "github", …}]');
  }
  const fault = findFault(Providers, value);
  if (fault !== undefined) throw refuse(field, `is not as it must be: ${fault}`);
  return value as Static<typeof Providers>;
}

function readProvider(entry: Static<typeof Providers>[number], field: string): ProviderSettings {
  const { id, kind } = entry;
  const given = entry.issuer ?? (kind === 'github' ? githubUrl : undefined);
  if (given === undefined) throw refuse(field, `has no issuer for ${id}`);
  const url = readUrl(given, { field, what: `the issuer of ${id}` });
  const issuer = kind === 'github' ? url.replace(/\/+$/, '') : url;
  const scopes: readonly string[] = entry.scopes ?? defaultScopes[kind];
  if (kind === 'oidc' && !scopes.includes('openid')) throw refuse(field, `has no scope openid for ${id}`);
  return {
    id,
    kind,
    name: entry.name ?? id,
    issuer,
    apiUrl: readUrl(entry.api_url ?? githubApi(issuer), { field, what: `the api_url of ${id}` }).replace(/\/+$/, ''),
    clientId: entry.client_id,
    clientSecret: entry.client_secret,
    scopes,
  };
}

/** A GitHub of one's own (GitHub Enterprise Server) has its API beneath it. */
function githubApi(issuer: string): string {
  return issuer === githubUrl ? 'https://api.github.com' : `${issuer}/api/v3`;
}

/** Secrets and sign-ins go over it: without TLS only within one machine. */
function readUrl(text: string, { field, what }: { field: string; what: string }): string {
  const url = URL.parse(text);
  const isPlain = url !== null && url.search === '' && url.hash === '' && url.username === '' && url.password === '';
  if (!isPlain || !(url.protocol === 'https:' || (url.protocol === 'http:' && isLoopback(url))))
    throw refuse(field, `has no good URL for ${what}; it must be one such as https://id.example.com`);
  // The "/" after a host means nothing; one after a path belongs to an issuer's name.
  return url.pathname === '/' ? url.origin : url.href;
}

export function isLoopback({ hostname }: URL): boolean {
  return ['127.0.0.1', '[::1]', 'localhost'].includes(hostname);
}

function refuse(field: string, what: string, cause?: unknown): AppError {
  return new AppError('invalid_request', `${field} ${what}`, { details: { field }, cause });
}
