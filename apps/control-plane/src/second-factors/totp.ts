import { Secret, TOTP } from 'otpauth';

/** Codes of this many periods before and after the present one are taken: clocks differ. */
const window = 1;

/** A new secret of 160 bits, in base32. */
export function newTotpSecret(): string {
  return new Secret({ size: 20 }).base32;
}

/** What an app scans. `platform` is where people reach us: it tells accounts of several platforms apart. */
export function otpauthUri({ secret, email, platform }: { secret: string; email: string; platform: URL }): string {
  return new TOTP({ issuer: `Aviary (${platform.hostname})`, label: email, secret }).toString();
}

/** The period of 30 s since 1970 whose code this is; undefined for one of no period near `now`. */
export function findStep({ secret, code, now }: { secret: string; code: string; now: Date }): number | undefined {
  const totp = new TOTP({ secret });
  const timestamp = now.getTime();
  const delta = totp.validate({ token: code, timestamp, window });
  return delta === null ? undefined : totp.counter({ timestamp }) + delta;
}
