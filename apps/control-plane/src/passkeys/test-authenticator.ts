import { createHash, generateKeyPairSync, type KeyObject, randomBytes, sign } from 'node:crypto';
import type {
  NewPasskeyCredential,
  PasskeyAssertion,
  PasskeyCreationOptions,
  PasskeyRequestOptions,
} from '@aviary/api-contract';
import { must } from '@aviary/core';

interface KeptCredential {
  id: Buffer;
  rpId: string;
  userHandle: string;
  privateKey: KeyObject;
  counter: number;
}

/** What goes otherwise than in an honest browser and authenticator. */
export interface Tampering {
  /** The page that asked. */
  origin?: string;
  rpId?: string;
  isUserVerified?: boolean;
  type?: string;
  challenge?: string;
  /** Attestation of another format, with a statement. */
  attestation?: { format: string; statement: Map<string, unknown> };
}

const flags = { userPresent: 0x01, userVerified: 0x04, backupEligible: 0x08, backedUp: 0x10, attested: 0x40 };

/** For tests: an authenticator with discoverable credentials (ES256), and the browser around it (https://www.w3.org/TR/webauthn-3/). */
export class TestAuthenticator {
  readonly #origin: string;
  readonly #isCounting: boolean;
  #credentials: KeptCredential[] = [];

  constructor({ origin, isCounting = false }: { origin: string; isCounting?: boolean }) {
    this.#origin = origin;
    this.#isCounting = isCounting;
  }

  /** `navigator.credentials.create()`. */
  create(options: PasskeyCreationOptions, tampering: Tampering = {}): NewPasskeyCredential {
    if (options.excludeCredentials.some((one) => this.#find((kept) => encode(kept.id) === one.id)))
      throw new Error('InvalidStateError');
    const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
    const rpId = tampering.rpId ?? options.rp.id;
    const kept = { id: randomBytes(32), rpId, userHandle: options.user.id, privateKey, counter: 0 };
    this.#credentials.push(kept);
    const length = Buffer.alloc(2);
    length.writeUInt16BE(kept.id.length);
    const attested = Buffer.concat([Buffer.alloc(16), length, kept.id, cbor(coseKey(publicKey))]);
    const authData = this.#authenticatorData(kept, { attested, ...tampering });
    const { format, statement } = tampering.attestation ?? { format: 'none', statement: new Map() };
    const attestation = new Map<string, unknown>([
      ['fmt', format],
      ['attStmt', statement],
      ['authData', authData],
    ]);
    return {
      ...describe(kept),
      response: {
        clientDataJSON: encode(this.#clientData('webauthn.create', options.challenge, tampering)),
        attestationObject: encode(cbor(attestation)),
        transports: ['internal'],
      },
    };
  }

  /** `navigator.credentials.get()` without a name: the last credential for the site. */
  get(options: PasskeyRequestOptions, tampering: Tampering = {}): PasskeyAssertion {
    const kept = must(
      this.#find(({ rpId }) => rpId === options.rpId),
      'no passkey for this site',
    );
    if (this.#isCounting) kept.counter++;
    const clientData = this.#clientData('webauthn.get', options.challenge, tampering);
    const authData = this.#authenticatorData(kept, tampering);
    const signed = Buffer.concat([authData, createHash('sha256').update(clientData).digest()]);
    return {
      ...describe(kept),
      response: {
        clientDataJSON: encode(clientData),
        authenticatorData: encode(authData),
        signature: encode(sign('sha256', signed, kept.privateKey)),
        userHandle: kept.userHandle,
      },
    };
  }

  /** Another device with all that this one holds now. */
  copy(): TestAuthenticator {
    const other = new TestAuthenticator({ origin: this.#origin, isCounting: this.#isCounting });
    other.#credentials = this.#credentials.map((one) => ({ ...one }));
    return other;
  }

  #find(matches: (kept: KeptCredential) => boolean): KeptCredential | undefined {
    return this.#credentials.findLast(matches);
  }

  #clientData(type: string, challenge: string, tampering: Tampering): Buffer {
    const { origin = this.#origin } = tampering;
    const said = { type: tampering.type ?? type, challenge: tampering.challenge ?? challenge, origin };
    return Buffer.from(JSON.stringify({ ...said, crossOrigin: false }));
  }

  #authenticatorData(
    kept: KeptCredential,
    { attested, rpId = kept.rpId, isUserVerified = true }: Tampering & { attested?: Buffer },
  ): Buffer {
    const head = Buffer.alloc(5);
    head[0] =
      flags.userPresent |
      (isUserVerified ? flags.userVerified : 0) |
      (this.#isCounting ? 0 : flags.backupEligible | flags.backedUp) |
      (attested ? flags.attested : 0);
    head.writeUInt32BE(kept.counter, 1);
    return Buffer.concat([createHash('sha256').update(rpId).digest(), head, attested ?? Buffer.alloc(0)]);
  }
}

function describe({ id }: KeptCredential): Pick<PasskeyAssertion, 'id' | 'rawId' | 'type'> {
  return { id: encode(id), rawId: encode(id), type: 'public-key' };
}

function encode(bytes: Buffer): string {
  return bytes.toString('base64url');
}

/** RFC 9053, 7.1.1: an EC2 key on P-256 for ES256. */
function coseKey(publicKey: KeyObject): Map<number, unknown> {
  const { x = '', y = '' } = publicKey.export({ format: 'jwk' });
  return new Map<number, unknown>([
    [1, 2],
    [3, -7],
    [-1, 1],
    [-2, Buffer.from(x, 'base64url')],
    [-3, Buffer.from(y, 'base64url')],
  ]);
}

/** RFC 8949, as far as it is needed: integers, bytes, texts, arrays and maps. */
function cbor(value: unknown): Buffer {
  if (typeof value === 'number') return value < 0 ? head(1, -1 - value) : head(0, value);
  if (Buffer.isBuffer(value)) return Buffer.concat([head(2, value.length), value]);
  if (typeof value === 'string') return Buffer.concat([head(3, Buffer.byteLength(value)), Buffer.from(value)]);
  if (Array.isArray(value)) return Buffer.concat([head(4, value.length), ...value.map(cbor)]);
  if (value instanceof Map)
    return Buffer.concat([head(5, value.size), ...[...value].flatMap(([key, inner]) => [cbor(key), cbor(inner)])]);
  throw new Error(`no CBOR for ${typeof value}`);
}

function head(major: number, length: number): Buffer {
  if (length < 24) return Buffer.from([(major << 5) | length]);
  if (length < 0x100) return Buffer.from([(major << 5) | 24, length]);
  return Buffer.from([(major << 5) | 25, length >> 8, length & 0xff]);
}
