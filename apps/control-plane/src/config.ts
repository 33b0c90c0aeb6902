import path from 'node:path';
import { EnvReader } from '@aviary/service-kit';
import { defaultRateLimits, type RateLimitOptions } from './http/rate-limits.ts';

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
