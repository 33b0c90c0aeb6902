import { connectToApi } from '../api-client.ts';
import type { Candidate, Command, LookUpContext, Values } from '../command.ts';
import { loadConfig } from '../config.ts';
import { expectedWord } from './expected-word.ts';

/** The word by which a shell's script asks this program for candidates. */
export const completeWord = '__complete';

/** How long the API is asked for names: somebody waits at a prompt. */
const lookUpTimeoutMs = 1_000;

export interface Completion {
  /** Paths on this machine may come as well, which shells know best. */
  arePaths: boolean;
  candidates: readonly Candidate[];
}

export interface CompleteOptions {
  env: Readonly<Record<string, string | undefined>>;
  timeoutMs?: number;
}

/**
 * What the last of `words`, of which any part is typed, may become. What cannot be found out, or not within `timeoutMs` (default 1 s), is
 * left out. Never throws, asks nobody, renews no session.
 */
export async function complete(
  commands: readonly Command[],
  words: readonly string[],
  { env, timeoutMs = lookUpTimeoutMs }: CompleteOptions,
): Promise<Completion> {
  const before = words.slice(0, -1);
  const current = words.at(-1) ?? '';
  const { words: known, values, prefix, given, taken } = expectedWord(commands, before, current);
  const arePaths = values === 'paths';
  const found = await lookUp(values, given, { env, timeoutMs });
  const candidates = [
    ...known,
    // A name that looks like a flag would be taken for one.
    ...found
      .filter(({ value }) => prefix !== '' || (!value.startsWith('-') && !taken.includes(value)))
      .map((one) => ({ ...one, value: `${prefix}${one.value}` })),
  ];
  return { arePaths, candidates: candidates.filter(({ value }) => value.startsWith(current) && isPlain(value)) };
}

/**
 * As the scripts read it: `words` or `paths` in the first line, then a candidate a line, with a tab before what is said about it.
 */
export function renderCompletion({ arePaths, candidates }: Completion): string {
  const lines = candidates.map(({ value, summary }) =>
    summary === undefined ? value : `${value}\t${asLine(summary)}`,
  );
  return `${[arePaths ? 'paths' : 'words', ...lines].join('\n')}\n`;
}

async function lookUp(
  values: Values | undefined,
  given: readonly string[],
  { env, timeoutMs }: Required<CompleteOptions>,
): Promise<readonly Candidate[]> {
  if (values === undefined || values === 'paths') return [];
  if (typeof values !== 'function') return values.map((value) => ({ value }));
  const ending = new AbortController();
  const late = Promise.withResolvers<readonly Candidate[]>();
  const timer = setTimeout(() => late.resolve([]), timeoutMs);
  try {
    // Whoever does not heed the signal is not waited for either.
    return await Promise.race([late.promise, values(lookUpContext(env, ending.signal), given)]);
  } catch {
    return []; // a prompt is no place for complaints: the command itself says what is wrong
  } finally {
    clearTimeout(timer);
    ending.abort();
  }
}

function lookUpContext(env: CompleteOptions['env'], signal: AbortSignal): LookUpContext {
  const config = loadConfig(env);
  return { config, signal, client: () => connectToApi(config, { mayRenew: false }) };
}

/** Names are others' to give: none of them moves the cursor, or is two lines. */
function isPlain(text: string): boolean {
  return text !== '' && !/\p{C}|[\u2028\u2029]/u.test(text);
}

function asLine(text: string): string {
  return text.replaceAll(/[\p{C}\u2028\u2029]+/gu, ' ');
}
