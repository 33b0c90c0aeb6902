import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

/** What a request's credentials allow: everything, the public routes, or nothing. */
export type Access = 'host' | 'sandbox' | 'none';

/**
 * The two tokens that open the agent: the sandbox's (public routes) and the host's (every route). Compared as SHA-256
 * digests in constant time, so that neither content nor length shows in the time taken.
 */
export class AccessTokens {
  #hostDigest: Buffer;
  #accessToken: string | undefined;

  constructor(hostTokenSha256: string) {
    this.#hostDigest = parseDigest(hostTokenSha256);
  }

  /** Replaces both tokens; the host's stays when no digest is given. */
  rotate({ accessToken, hostTokenSha256 }: { accessToken: string; hostTokenSha256?: string }): void {
    if (hostTokenSha256 !== undefined) this.#hostDigest = parseDigest(hostTokenSha256);
    this.#accessToken = accessToken;
  }

  /** The sandbox's token, undefined before the first `/init`: the key of file signatures. */
  get accessToken(): string | undefined {
    return this.#accessToken;
  }

  /**
   * Shows the host that this guest is the one it means, before it sends any secret: the host knows the token that the digest is of. Made for
   * one nonce, so it is of no use to anybody who hears it.
   */
  prove(nonce: string): string {
    return createHmac('sha256', this.#hostDigest).update(`aviary-guest-proof-1:${nonce}`).digest('hex');
  }

  check({ hostToken, accessToken }: { hostToken: string | undefined; accessToken: string | undefined }): Access {
    if (hostToken !== undefined && timingSafeEqual(digest(hostToken), this.#hostDigest)) return 'host';
    const expected = this.#accessToken;
    if (expected !== undefined && accessToken !== undefined && isSameSecret(accessToken, expected)) return 'sandbox';
    return 'none';
  }
}

/** Compares two secrets in constant time, whatever their lengths. */
export function isSameSecret(left: string, right: string): boolean {
  return timingSafeEqual(digest(left), digest(right));
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

function parseDigest(hex: string): Buffer {
  if (!/^[0-9a-f]{64}$/i.test(hex)) throw new TypeError('the host token digest must be 64 hexadecimal digits');
  return Buffer.from(hex, 'hex');
}
