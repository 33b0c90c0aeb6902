import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import type { UserId } from '@aviary/core';
import type { SigningKey } from '../hosts/signing-key.ts';

const algorithm = 'aes-256-gcm';
const nonceLength = 12;
const tagLength = 16;

/**
 * Encrypts what the store keeps of a user. The key comes of the platform's signing key, which all replicas share and which is in the same
 * store: a leaked table, row or query log gives nothing away, and a row that is put at another user is refused; whoever
 * reads the whole store can decrypt it, and could as well sign tokens. There is no other secret that all replicas have.
 */
export function sealSecret(signingKey: Pick<SigningKey, 'deriveKey'>, userId: UserId, secret: string): string {
  const nonce = randomBytes(nonceLength);
  const cipher = createCipheriv(algorithm, signingKey.deriveKey('second factors'), nonce);
  cipher.setAAD(Buffer.from(userId));
  const sealed = Buffer.concat([nonce, cipher.update(secret, 'utf8'), cipher.final(), cipher.getAuthTag()]);
  return sealed.toString('base64url');
}

/** What {@link sealSecret} was given. Throws when it was of another user, or is damaged. */
export function openSecret(signingKey: Pick<SigningKey, 'deriveKey'>, userId: UserId, sealed: string): string {
  const bytes = Buffer.from(sealed, 'base64url');
  const decipher = createDecipheriv(algorithm, signingKey.deriveKey('second factors'), bytes.subarray(0, nonceLength), {
    authTagLength: tagLength,
  });
  decipher.setAAD(Buffer.from(userId));
  decipher.setAuthTag(bytes.subarray(-tagLength));
  return decipher.update(bytes.subarray(nonceLength, -tagLength), undefined, 'utf8') + decipher.final('utf8');
}
