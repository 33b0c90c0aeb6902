import { readFileSync } from 'node:fs';
import { AppError, errorText } from '@aviary/core';
import { AviaryClient } from '@aviary/sdk';
import { chooseProfile, profilesFile, readProfiles } from './account/profile-store.ts';
import { sessionToken } from './account/session-token.ts';
import { bootstrapFiles, type CliConfig } from './config.ts';
import { readAnnouncedUrl } from './platform/platform-lock.ts';

/** How this program names itself to servers. */
export const userAgent = 'aviary-cli/0.1.0';

/**
 * A client with the key from the environment, else as whom one has logged in, else with the key that `aviary up` left on this machine.
 * Without `mayRenew` a session that has run out stays so, and calls throw `unauthorized`.
 */
export function connectToApi(config: CliConfig, { mayRenew = true }: { mayRenew?: boolean } = {}): AviaryClient {
  if (config.apiKey === undefined) {
    const known = connectByProfile(config, mayRenew);
    if (known) return known;
  }
  const apiUrl = findApiUrl(config);
  const apiKey = config.apiKey ?? readLocalKey(config.dataDir, apiUrl);
  return new AviaryClient({ apiUrl, apiKey, userAgent });
}

/** By the profile in use; a server that the environment names is not shown what another one gave. */
function connectByProfile(config: CliConfig, mayRenew: boolean): AviaryClient | undefined {
  const file = profilesFile(config.env);
  const chosen = file === undefined ? undefined : chooseProfile(readProfiles(file), config.profile);
  if (file === undefined || !chosen) return undefined;
  const { name, profile } = chosen;
  const { apiUrl, credential } = profile;
  if (config.isApiUrlSet && URL.parse(config.apiUrl)?.origin !== URL.parse(apiUrl)?.origin) {
    if (config.profile === undefined) return undefined;
    const message = `the profile ${JSON.stringify(name)} is for ${apiUrl}, and the environment names ${config.apiUrl}; unset one of them`;
    throw new AppError('invalid_request', message);
  }
  if (credential.type === 'api_key') return new AviaryClient({ apiUrl, apiKey: credential.apiKey, userAgent });
  return new AviaryClient({ apiUrl, accessToken: sessionToken({ file, name, userAgent, mayRenew }), userAgent });
}

/** Where the API is: as set, else where the platform of the data directory says that it is, else at the usual place. */
export function findApiUrl({ apiUrl, isApiUrlSet, dataDir }: CliConfig): string {
  return isApiUrlSet ? apiUrl : (readAnnouncedUrl(dataDir) ?? apiUrl);
}

function readLocalKey(dataDir: string, apiUrl: string): string {
  const file = bootstrapFiles(dataDir).apiKey;
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EACCES') {
      const message = `not logged in to ${apiUrl}: use 'aviary login', or set AVIARY_API_KEY, e.g. export AVIARY_API_KEY="$(sudo cat ${file})"`;
      throw new AppError('unauthorized', message, { cause: error });
    }
    if (code === 'ENOENT') {
      const message = `not logged in to ${apiUrl}: use 'aviary login --url URL', or set AVIARY_API_KEY; 'aviary up' makes a key for this machine, ${file}`;
      throw new AppError('unauthorized', message, { cause: error });
    }
    throw new AppError('unauthorized', `cannot read the API key in ${file}: ${errorText(error)}`, { cause: error });
  }
}
