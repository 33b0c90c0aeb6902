import { readFile } from 'node:fs/promises';
import { bootstrapFiles, type CliConfig } from '../config.ts';

/** How the first administrator claims a platform: a page to open, and the code that it holds. */
export interface ClaimLink {
  url: string;
  code: string;
}

/** Undefined when somebody has claimed it, or this user may not read the code. */
export async function findClaimLink(
  { dataDir, publicUrl }: Pick<CliConfig, 'dataDir' | 'publicUrl'>,
  apiUrl: string,
): Promise<ClaimLink | undefined> {
  const code = (await readFile(bootstrapFiles(dataDir).claimCode, 'utf8').catch(() => '')).trim();
  return code === '' ? undefined : { url: new URL(`/account/claim#${code}`, publicUrl ?? apiUrl).href, code };
}
