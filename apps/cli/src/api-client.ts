import { readFileSync } from 'node:fs';
import { AppError, errorText } from '@aviary/core';
import { AviaryClient } from '@aviary/sdk';
import { bootstrapFiles, type CliConfig } from './config.ts';
import { readAnnouncedUrl } from './platform/platform-lock.ts';

/** A client with the key from the environment, else with the one that `aviary up` left on this machine. */
export function connectToApi(config: CliConfig): AviaryClient {
  const apiKey = config.apiKey ?? readLocalKey(config.dataDir);
  return new AviaryClient({ apiUrl: findApiUrl(config), apiKey, userAgent: 'aviary-cli/0.1.0' });
}

/** Where the API is: as set, else where the platform of the data directory says that it is, else at the usual place. */
export function findApiUrl({ apiUrl, isApiUrlSet, dataDir }: CliConfig): string {
  return isApiUrlSet ? apiUrl : (readAnnouncedUrl(dataDir) ?? apiUrl);
}

function readLocalKey(dataDir: string): string {
  const file = bootstrapFiles(dataDir).apiKey;
  try {
    return readFileSync(file, 'utf8').trim();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EACCES') {
      const message = `no API key: set AVIARY_API_KEY, e.g. export AVIARY_API_KEY="$(sudo cat ${file})"`;
      throw new AppError('unauthorized', message, { cause: error });
    }
    if (code === 'ENOENT') {
      const message = `no API key: set AVIARY_API_KEY, or start Aviary on this machine with 'aviary up', which makes ${file}`;
      throw new AppError('unauthorized', message, { cause: error });
    }
    throw new AppError('unauthorized', `cannot read the API key in ${file}: ${errorText(error)}`, { cause: error });
  }
}
