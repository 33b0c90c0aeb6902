import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { must } from '@aviary/core';
import { waitFor } from '@aviary/service-kit';
import { Person } from './person.ts';
import type { Stage } from './platform-script.ts';
import { act, type Tell } from './told-step.ts';

/** Those whom the tour is about, in one run. */
interface Cast {
  tell: Tell;
  /** Begins a team. */
  ada: Person;
  /** Is its second member. */
  grace: Person;
  /** Has another team. */
  mallory: Person;
  team: string;
  signal: AbortSignal;
  /** All that they do is done by this password. */
  password: { text: string; is: string };
}

/**
 * Shows how people share a platform. Runs the command line program as they would, prints each command with what came back, and throws at
 * the first that is not as promised. What it made is gone afterwards, accounts and all.
 */
export async function tourTeams({ steps, signal }: Pick<Stage, 'steps' | 'signal'>, apiUrl: string): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const directory = await mkdtemp(path.join(tmpdir(), 'aviary-tour-'));
  stack.defer(() => rm(directory, { recursive: true, force: true }));
  // Another run on the same platform has other addresses.
  const run = randomBytes(3).toString('hex');
  const person = (name: string) =>
    Person.create({ name, email: `${name}-${run}@example.com` }, { directory, apiUrl, signal });
  const cast: Cast = {
    tell: (line) => process.stdout.write(`${line}\n`),
    ada: await person('ada'),
    grace: await person('grace'),
    mallory: await person('mallory'),
    team: `observatory ${run}`,
    signal,
    password: { text: randomBytes(12).toString('base64url'), is: 'password' },
  };
  await steps.run('people sign up', () => signUp(cast));
  await steps.run('two work in a team', () => formTeam(cast));
  const sandbox = await steps.run('its second member makes a sandbox', () => makeSandbox(cast));
  try {
    await steps.run('another team sees nothing of it', () => lookFromOutside(cast, sandbox));
    const key = await steps.run('a program gets a key that reads', () => useKey(cast, sandbox));
    await steps.run('who leaves the team is out at once, with their keys', () => removeMember(cast, { sandbox, key }));
    await steps.run('the audit log tells all of it', () => readAudit(cast, sandbox));
  } catch (error) {
    // Nothing is left running. The owner can, whoever made it.
    await cast.ada.run(['sandbox', 'rm', sandbox]).catch(() => undefined);
    throw error;
  }
  await steps.run('accounts are deleted with the teams that have nobody else', () => deleteAccounts(cast));
}

async function signUp({ tell, ada, grace, mallory, password }: Cast): Promise<void> {
  for (const person of [ada, grace, mallory]) {
    const says = [`as ${person.email}`, `in the team ${person.name}'s team (owner)`];
    await act({ person, tell }, ['signup', '--email', person.email, '--name', person.name], { stdin: password, says });
  }
  const wrong = { text: 'not the password', is: 'guess' };
  await act({ person: mallory, tell }, ['login', '--email', ada.email], { stdin: wrong, code: 5, says: ['wrong'] });
}

async function formTeam({ tell, ada, grace, team }: Cast): Promise<void> {
  const byAda = { person: ada, tell };
  const byGrace = { person: grace, tell };
  await act(byAda, ['team', 'create', team], { says: [team] });
  await act(byAda, ['team', 'switch', team], { says: ['(owner)'] });
  const { stdout } = await act(byAda, ['team', 'invite', grace.email], { says: [`${grace.email} is invited`] });
  const invitation = { text: must(/^avyi_\S+$/m.exec(stdout)?.[0], 'the invitation is printed'), is: 'invitation' };
  await act(byGrace, ['team', 'accept'], { stdin: invitation, says: [`in the team ${team} (member)`] });
  await act(byGrace, ['team', 'accept'], { stdin: invitation, code: 3 });
  await act(byGrace, ['team', 'switch', team], { says: ['(member)'] });
  await act(byGrace, ['team', 'rename', 'mine'], { code: 5, says: ['needs the role admin'] });
  await act(byAda, ['team', 'members'], { says: [grace.email, 'member'] });
}

async function makeSandbox({ tell, ada, grace }: Cast): Promise<string> {
  const byGrace = { person: grace, tell };
  const { stdout } = await act(byGrace, ['sandbox', 'create', '--name', 'survey', '--wait', '300'], {
    says: ['running'],
  });
  const id = must(/sb-[0-9a-f-]{36}/.exec(stdout)?.[0], 'a sandbox has an id');
  await act(byGrace, ['sandbox', 'exec', id, '--', 'echo 42 light years > /tmp/found; cat /tmp/found'], {
    says: ['42 light years'],
  });
  await act({ person: ada, tell }, ['sandbox', 'exec', 'survey', '--', 'cat /tmp/found'], { says: ['42 light years'] });
  return id;
}

async function lookFromOutside({ tell, mallory, team }: Cast, sandbox: string): Promise<void> {
  const byMallory = { person: mallory, tell };
  await act(byMallory, ['sandbox', 'list'], { says: ['no sandboxes'], hides: [sandbox] });
  const found = await act(byMallory, ['sandbox', 'get', sandbox], { code: 3 });
  // One that never was is told of in the same words.
  const never = 'sb-00000000-0000-7000-8000-000000000000';
  const missing = await mallory.run(['sandbox', 'get', never]);
  const words = (text: string) => text.replaceAll(/sb-\S+|request id: \S+/g, '…');
  if (words(missing.stderr) !== words(found.stderr))
    throw new Error(`a sandbox of others is told from one that is not: ${found.stderr}`);
  for (const verb of ['pause', 'rm']) await act(byMallory, ['sandbox', verb, sandbox], { code: 3 });
  await act(byMallory, ['sandbox', 'exec', sandbox, '--', 'cat /tmp/found'], { code: 3, hides: ['42 light years'] });
  await act(byMallory, ['team', 'members', '--team', team], { code: 3 });
  await act(byMallory, ['audit', '--resource', 'sandbox'], { says: ['no such entries'] });
}

async function useKey({ tell, grace }: Cast, sandbox: string): Promise<{ text: string; is: string }> {
  const byGrace = { person: grace, tell };
  const { stdout } = await grace.run(['key', 'create', 'dashboard', '--scope', 'read', '--json']);
  const { key: text, id } = JSON.parse(stdout) as { key: string; id: string };
  tell(
    `${grace.name}$ aviary key create dashboard --scope read\n    ${id}\n    export AVIARY_API_KEY=${text.slice(0, 12)}…`,
  );
  const key = { text, is: `${text.slice(0, 12)}…` };
  await act(byGrace, ['whoami'], { key, says: ['the API key dashboard', 'for read'] });
  await act(byGrace, ['sandbox', 'get', sandbox], { key, says: ['running'] });
  await act(byGrace, ['sandbox', 'pause', sandbox], { key, code: 5, says: ['this API key is for read'] });
  return key;
}

async function removeMember(
  { tell, ada, grace }: Cast,
  { sandbox, key }: { sandbox: string; key: { text: string; is: string } },
): Promise<void> {
  await act({ person: ada, tell }, ['team', 'remove', grace.email], { says: ['is out of the team'] });
  await act({ person: grace, tell }, ['sandbox', 'get', sandbox], { code: 5, says: ['not a member'] });
  await act({ person: grace, tell }, ['sandbox', 'get', sandbox], { key, code: 5, says: ['revoked'] });
  await act({ person: ada, tell }, ['sandbox', 'get', sandbox], { says: ['running'] });
}

async function readAudit({ tell, ada, grace, mallory, team, signal }: Cast, sandbox: string): Promise<void> {
  const expected = [
    `team.create by ${ada.email}`,
    `invitation.create by ${ada.email}`,
    `invitation.accept by ${grace.email}`,
    `sandbox.create by ${grace.email}`,
    `api_key.create by ${grace.email}`,
    `member.remove by ${ada.email}`,
    `api_key.revoke by ${ada.email}`,
    'api_key.refused by dashboard',
  ];
  const readLog = async () => {
    const { stdout } = await ada.run(['audit', '--ndjson']);
    const lines = stdout.trimEnd().split('\n');
    return lines.map((line) => JSON.parse(line) as { action: string; actor: { name: string } }).reverse();
  };
  // Refused keys are told of together, some seconds late.
  const what = `the audit log telling, in this order, of ${expected.join(', ')}`;
  await waitFor({ what, timeoutMs: 60_000, intervalMs: 1_000, signal }, async () => {
    let at = 0;
    for (const { action, actor } of await readLog()) if (`${action} by ${actor.name}` === expected[at]) at++;
    return at === expected.length;
  });
  const says = [team, grace.email, sandbox, 'api_key.refused'];
  await act({ person: ada, tell }, ['audit'], { says, hides: [mallory.email] });
}

async function deleteAccounts({ tell, ada, grace, mallory, password, team }: Cast): Promise<void> {
  await act({ person: ada, tell }, ['sandbox', 'rm', 'survey'], { says: ['destroyed'] });
  for (const person of [grace, mallory, ada]) {
    await act({ person, tell }, ['account', 'delete', person.email], { stdin: password, says: ['is deleted'] });
  }
  const says = ['wrong'];
  await act({ person: ada, tell }, ['login', '--email', ada.email], { stdin: password, code: 5, says, hides: [team] });
}
