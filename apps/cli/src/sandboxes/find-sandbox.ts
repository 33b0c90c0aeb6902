import { AppError, nameLabel, sandboxStatuses } from '@aviary/core';
import type { AviaryClient, CreateSandbox, Sandbox } from '@aviary/sdk';
import type { Argument, Candidate, CommandContext, LookUpContext } from '../command.ts';
import { firstFew } from '../first-few.ts';

/** An id as the API wants it: nothing has to be looked up. */
const wholeId = /^sb-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** How few characters of an id may stand for it. */
const minPartLength = 3;
/** Statuses of sandboxes that there still are: what there is to see or to clean up. */
export const livingStatuses = sandboxStatuses.filter((status) => status !== 'stopped');

/** The argument that names a sandbox: `sb-…`, a part of it, or the name that it was created with. */
export const sandboxIdArg: Argument = {
  name: 'id',
  summary: "the sandbox's id, its name, or the first characters of either half of the id",
  resolve: findSandboxId,
  values: knownSandboxes,
};

/**
 * The id of the one sandbox that `text` means: a whole id as it is; else, of those that are not stopped, the one of that name, or whose id or
 * whose host name in the guest (`sb-` and the id's last group) begins with it. Throws `not_found`, or `invalid_request` when several do.
 */
async function findSandboxId({ client, signal }: CommandContext, text: string): Promise<string> {
  if (wholeId.test(text)) return text;
  const all = await Array.fromAsync(client().sandboxes.list({ status: livingStatuses, pageSize: 200 }, { signal }));
  const named = all.filter(({ metadata }) => metadata?.[nameLabel] === text);
  const found = named.length > 0 ? named : all.filter((sandbox) => isPartOf(text, sandbox));
  const [only, ...others] = found;
  if (!only) throw new AppError('not_found', `there is no sandbox ${text}; 'aviary sandbox list' shows yours`);
  if (others.length > 0) {
    const ids = found.slice(0, 5).map(({ id }) => id);
    throw new AppError('invalid_request', `${text} may be any of ${found.length} sandboxes: ${ids.join(', ')} …`);
  }
  return only.id;
}

async function knownSandboxes({ client, signal }: LookUpContext): Promise<readonly Candidate[]> {
  const all = await firstFew(client().sandboxes.list({ status: livingStatuses, pageSize: 200 }, { signal }));
  return all.flatMap(({ id, status, template, metadata }) => {
    const name = metadata?.[nameLabel];
    const about = `${status}, from ${template}`;
    if (name === undefined) return [{ value: id, summary: about }];
    return [
      { value: name, summary: about },
      { value: id, summary: `${name}: ${about}` },
    ];
  });
}

/** Throws `already_exists` when a sandbox that is not stopped has the name that `wanted` asks for: it would mean either of them. */
export async function checkNameIsFree(
  client: Pick<AviaryClient, 'sandboxes'>,
  { metadata }: CreateSandbox,
  signal: AbortSignal,
): Promise<void> {
  const name = metadata?.[nameLabel];
  if (name === undefined) return;
  for await (const sandbox of client.sandboxes.list({ status: livingStatuses, pageSize: 200 }, { signal })) {
    if (sandbox.metadata?.[nameLabel] !== name) continue;
    const what = `the name ${name} is that of sandbox ${sandbox.id}, which is ${sandbox.status}`;
    throw new AppError('already_exists', `${what}; take another, or remove it with 'aviary sandbox rm ${name}'`);
  }
}

function isPartOf(text: string, { id }: Sandbox): boolean {
  const part = text.replace(/^sb-/, '');
  const own = id.slice('sb-'.length);
  return part.length >= minPartLength && (own.startsWith(part) || own.slice(own.lastIndexOf('-') + 1).startsWith(part));
}
