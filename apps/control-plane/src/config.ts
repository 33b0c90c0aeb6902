import path from 'node:path';
import { AppError } from '@aviary/core';
import { EnvReader, type MetricsSettings, readMetricsSettings } from '@aviary/service-kit';
import type { AccountSettings } from './accounts/account-deps.ts';
import { defaultPasswordCost, type PasswordCost } from './accounts/password-hash.ts';
import { defaultRateLimits, type RateLimitOptions } from './http/rate-limits.ts';
import { type ProviderSettings, readProviderSettings } from './identities/provider-settings.ts';
import type { MailSettings } from './mail/mailer.ts';
import { readSmtpSettings } from './mail/smtp-settings.ts';
import type { SmtpSettings } from './mail/smtp-transport.ts';

/** What the control plane reads from its environment. */
export interface ControlPlaneConfig {
  host: string;
  port: number;
  /** Holds `bootstrap/` and, without a database URL, `control-plane/pglite/`. */
  dataDirectory: string;
  /** A PostgreSQL URL; undefined means the embedded PGlite. */
  databaseUrl: string | undefined;
  logLevel: string;
  /** A fault to inject, for tests; see FaultPoints. */
  fault: string | undefined;
  /** Hold every answer against the contract, and answer 500 where one does not fit: for development and tests. */
  checksAnswers?: boolean;
  /** Requests per minute; undefined is without limits. */
  rateLimits?: RateLimitOptions;
  /** Addresses or networks of proxies, separated by commas, whose `X-Forwarded-For` is believed. */
  trustedProxies?: string | undefined;
  /** Stop when standard input, a supervisor's pipe, ends. */
  exitWithParent?: boolean;
  /** Where people reach the platform; default: where it listens. */
  publicUrl?: URL | undefined;
  /** What a password's hash costs; default: what is advised today. */
  passwordCost?: PasswordCost;
  /** The mail server; undefined: links go to the log. */
  smtp?: SmtpSettings | undefined;
  /** Where people can sign in instead of by password; default: nowhere. */
  identityProviders?: readonly ProviderSettings[];
  /** Where `/metrics` is answered; default: nowhere. */
  metrics?: MetricsSettings | undefined;
}

/** Reads `AVIARY_*`. Throws `invalid_request` naming the variable. */
export function loadConfig(env: Readonly<Record<string, string | undefined>>): ControlPlaneConfig {
  const reader = new EnvReader(env);
  return {
    host: reader.string('AVIARY_HOST', '127.0.0.1'),
    port: reader.integer('AVIARY_PORT', { fallback: 7070, min: 0, max: 65_535 }),
    dataDirectory: path.resolve(reader.string('AVIARY_DATA_DIR', '/var/lib/aviary')),
    databaseUrl: reader.optional('AVIARY_DATABASE_URL'),
    logLevel: reader.string('AVIARY_LOG_LEVEL', 'info'),
    fault: reader.optional('AVIARY_FAULT'),
    checksAnswers: reader.boolean('AVIARY_CHECK_ANSWERS') || ['development', 'test'].includes(env['NODE_ENV'] ?? ''),
    rateLimits: readRateLimits(reader),
    trustedProxies: reader.optional('AVIARY_TRUSTED_PROXIES'),
    exitWithParent: reader.boolean('AVIARY_EXIT_WITH_PARENT'),
    publicUrl: readUrl(reader, 'AVIARY_PUBLIC_URL'),
    passwordCost: {
      memoryKib: reader.integer('AVIARY_PASSWORD_MEMORY_KIB', {
        fallback: defaultPasswordCost.memoryKib,
        min: 64,
        max: 2 ** 20,
      }),
      passes: reader.integer('AVIARY_PASSWORD_PASSES', { fallback: defaultPasswordCost.passes, min: 1, max: 64 }),
    },
    smtp: readSmtpSettings(reader),
    identityProviders: readProviderSettings(reader),
    metrics: readMetricsSettings(reader, 'AVIARY_METRICS'),
  };
}

function readRateLimits(reader: EnvReader): RateLimitOptions {
  const read = (name: string, fallback: number) => reader.integer(name, { fallback, min: 0, max: 10_000_000 });
  return {
    perKey: read('AVIARY_RATE_LIMIT_KEY', defaultRateLimits.perKey),
    perUser: read('AVIARY_RATE_LIMIT_USER', defaultRateLimits.perUser),
    perTeam: read('AVIARY_RATE_LIMIT_TEAM', defaultRateLimits.perTeam),
    perAddress: read('AVIARY_RATE_LIMIT_ADDRESS', defaultRateLimits.perAddress),
  };
}

/** What accounts go by. */
export function accountSettings(config: ControlPlaneConfig): AccountSettings {
  return { publicUrl: publicUrl(config), passwordCost: config.passwordCost ?? defaultPasswordCost };
}

/** What mail goes by. */
export function mailSettings(config: ControlPlaneConfig): MailSettings {
  return { publicUrl: publicUrl(config), smtp: config.smtp };
}

function publicUrl(config: ControlPlaneConfig): URL {
  const host = ['0.0.0.0', '::'].includes(config.host) ? 'localhost' : config.host;
  return config.publicUrl ?? new URL(`http://${host.includes(':') ? `[${host}]` : host}:${config.port}`);
}

function readUrl(reader: EnvReader, name: string): URL | undefined {
  const text = reader.optional(name);
  if (text === undefined) return undefined;
  const url = URL.parse(text);
  if (url && ['http:', 'https:'].includes(url.protocol)) return url;
  throw new AppError(
    'invalid_request',
    `${name} must be a URL such as https://aviary.example.com, not ${JSON.stringify(text)}`,
    {
      details: { field: name },
    },
  );
}
