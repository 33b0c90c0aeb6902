import type { NewPasskeyCredential, PasskeyAssertion } from '@aviary/api-contract';
import { verifyAuthenticationResponse, verifyRegistrationResponse } from '@simplewebauthn/server';
import { decodeAttestationObject, decodeClientDataJSON, isoBase64URL } from '@simplewebauthn/server/helpers';
import type { PasskeySite } from './passkey-site.ts';

/** COSE's numbers of EdDSA, ES256 and RS256: what authenticators have. The library's own list depends on what the runtime is trying out. */
export const signatureAlgorithms = [-8, -7, -257] as const;

/** What was signed for a challenge is looked at for this site. */
interface Expected {
  site: PasskeySite;
  challenge: string;
}

/** A credential that an authenticator has made. */
export interface MadeCredential {
  credentialId: string;
  publicKey: string;
  counter: number;
  isSynced: boolean;
}

/** Why a credential does not do. */
export interface CredentialFault {
  /** For the log: what it says may be an attacker's. */
  fault: unknown;
  /** It came with certificates. */
  isCertified?: boolean;
}

/** The challenge that the client says it has signed; undefined when it says nothing that can be read. */
export function readChallenge({ response }: NewPasskeyCredential | PasskeyAssertion): string | undefined {
  try {
    const { challenge } = decodeClientDataJSON(response.clientDataJSON);
    return typeof challenge === 'string' && challenge !== '' ? challenge : undefined;
  } catch {
    return undefined;
  }
}

/** Whether an authenticator that verified its user has made this credential for us. */
export async function checkNewCredential(
  { response, ...credential }: NewPasskeyCredential,
  { site, challenge }: Expected,
): Promise<MadeCredential | CredentialFault> {
  try {
    const format = readFormat(response.attestationObject);
    if (format.isCertified) return { fault: `attestation ${format.name} with certificates`, isCertified: true };
    const { verified, registrationInfo: made } = await verifyRegistrationResponse({
      response: {
        ...credential,
        type: 'public-key',
        response: {
          clientDataJSON: response.clientDataJSON,
          attestationObject: response.attestationObject,
        },
        clientExtensionResults: {},
      },
      expectedChallenge: challenge,
      expectedOrigin: site.origin,
      expectedRPID: site.rpId,
      requireUserVerification: true,
      supportedAlgorithmIDs: [...signatureAlgorithms],
    });
    if (!verified) return { fault: 'the attestation is not good' };
    return {
      credentialId: made.credential.id,
      publicKey: isoBase64URL.fromBuffer(made.credential.publicKey),
      counter: made.credential.counter,
      isSynced: made.credentialBackedUp,
    };
  } catch (fault) {
    return { fault };
  }
}

/**
 * We ask for no word of the authenticator's maker. Whoever sends certificates all the same would have us read them, and fetch the lists of
 * revoked ones from wherever they say.
 */
function readFormat(attestationObject: string): { name: string; isCertified: boolean } {
  const attestation = decodeAttestationObject(isoBase64URL.toBuffer(attestationObject));
  const name = attestation.get('fmt');
  const isOwn = name === 'none' || (name === 'packed' && attestation.get('attStmt').get('x5c') === undefined);
  return { name, isCertified: !isOwn };
}

/** Whether the authenticator with `publicKey` has verified its user and signed this for us; its count is the caller's to compare. */
export async function checkAssertion(
  { response, ...credential }: PasskeyAssertion,
  { site, challenge, publicKey }: Expected & { publicKey: string },
): Promise<{ counter: number; isSynced: boolean } | CredentialFault> {
  try {
    const { clientDataJSON, authenticatorData, signature } = response;
    const { verified, authenticationInfo: shown } = await verifyAuthenticationResponse({
      response: {
        ...credential,
        type: 'public-key',
        response: { clientDataJSON, authenticatorData, signature },
        clientExtensionResults: {},
      },
      expectedChallenge: challenge,
      expectedOrigin: site.origin,
      expectedRPID: site.rpId,
      requireUserVerification: true,
      // Any count passes here.
      credential: { id: credential.id, publicKey: isoBase64URL.toBuffer(publicKey), counter: 0 },
    });
    if (!verified) return { fault: 'the signature is not good' };
    return { counter: shown.newCounter, isSynced: shown.credentialBackedUp };
  } catch (fault) {
    return { fault };
  }
}
