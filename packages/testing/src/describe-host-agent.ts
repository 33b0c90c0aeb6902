import {
  type GenerationId,
  minimalTemplateId,
  newId,
  platformTeamId,
  type SandboxId,
  type TemplateId,
} from '@aviary/core';
import { type HostAgent, SandboxState } from '@aviary/proto/hostagent';
import { readAppError } from '@aviary/service-kit/connect-errors';
import { type Client, ConnectError } from '@connectrpc/connect';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

/** A host agent that answers calls, for {@link describeHostAgent}. */
export interface StartedHostAgent extends AsyncDisposable {
  client: Client<typeof HostAgent>;
}

const size = { vcpus: 1, memoryMib: 512, diskMib: 5_120 };
const teamId = newId('team');
const startTimeoutMs = 600_000;

/**
 * What every host agent promises the control plane: states, error codes, once per operation id, saved states, files. Runs against the
 * fake, which the control plane's tests rely on, and against the real one with microVMs. One sandbox goes through all of it in
 * order, because each start of a real one takes seconds.
 */
export function describeHostAgent(name: string, start: () => Promise<StartedHostAgent>): void {
  describe(`${name} as a host agent`, () => {
    let agent: StartedHostAgent;
    let client: Client<typeof HostAgent>;
    const sandboxId = newId('sandbox');
    const templateId = newId('template');

    beforeAll(async () => {
      agent = await start();
      client = agent.client;
    }, startTimeoutMs);
    afterAll(() => agent?.[Symbol.asyncDispose](), 60_000);

    const operation = () => ({ operationId: newId('operation'), sandboxId });
    const builtIn = { teamId: platformTeamId, templateId: minimalTemplateId };
    const createRequest = (id: SandboxId, template: { teamId: string; templateId: string } = builtIn) => ({
      ...{ operationId: newId('operation'), sandboxId: id, teamId, template, timeoutSec: 0 },
      ...size,
    });
    const read = async (path: string, from: SandboxId = sandboxId) => {
      const chunks = await Array.fromAsync(client.readFile({ sandboxId: from, path }), ({ chunk }) => chunk);
      return Buffer.concat(chunks).toString();
    };
    const write = (path: string, text: string, { isWhole = true } = {}) => {
      const messages = (async function* () {
        yield { content: { case: 'meta' as const, value: { sandboxId, path, user: '' } } };
        yield { content: { case: 'chunk' as const, value: Buffer.from(text) } };
        if (isWhole) yield { content: { case: 'end' as const, value: true } };
      })();
      return client.writeFile(messages);
    };
    const stateOf = async (id: SandboxId) => {
      const { sandboxes } = await client.listSandboxes({});
      return sandboxes.find((info) => info.sandboxId === id)?.state;
    };

    it('creates a sandbox once per operation, and no second of its id', async () => {
      const request = createRequest(sandboxId);
      const { sandbox } = await client.createSandbox(request);
      expect(sandbox).toMatchObject({
        sandboxId,
        state: SandboxState.RUNNING,
        startPath: 'cold_boot',
        teamId,
        ...size,
      });
      expect((await client.createSandbox(request)).sandbox?.startedAtUnixMs).toBe(sandbox?.startedAtUnixMs);
      expect(await failureOf(client.createSandbox(createRequest(sandboxId)))).toMatchObject({ code: 'already_exists' });
      expect(await stateOf(sandboxId)).toBe(SandboxState.RUNNING);
    });

    it('refuses what it cannot make, with the field at fault', async () => {
      const id = newId('sandbox');
      const tooSmall = client.createSandbox({ ...createRequest(id), vcpus: 0 });
      expect(await failureOf(tooSmall)).toEqual({ code: 'invalid_request', details: { field: 'vcpus' } });
      const unknown = client.createSandbox(createRequest(id, { teamId, templateId: newId('template') }));
      expect(await failureOf(unknown)).toEqual({ code: 'not_found', details: { field: 'template' } });
      const malformed = client.createSandbox({ ...createRequest(id), sandboxId: '../../etc' });
      expect(await failureOf(malformed)).toMatchObject({ code: 'invalid_request' });
      expect(await stateOf(id)).toBeUndefined();
    });

    it('says not_found for every call on a sandbox that it does not have', async () => {
      const other = { operationId: newId('operation'), sandboxId: newId('sandbox') };
      const calls: Promise<unknown>[] = [
        ...[client.pauseSandbox(other), client.resumeSandbox(other), client.pingSandbox(other)],
        ...[client.setTimeout(other), client.listGenerations(other)],
        client.updateGeneration({ ...other, generationId: newId('generation'), pinned: true }),
        client.forkSandbox({ ...other, targets: [{ sandboxId: newId('sandbox') }] }),
        client.createSnapshot({ ...other, template: { teamId, templateId } }),
        client.exec({ ...other, cmd: '/bin/true' }),
        Array.fromAsync(client.execStream({ ...other, cmd: '/bin/true' })),
        Array.fromAsync(client.readFile({ ...other, path: '/etc/passwd' })),
        ...[client.listDir({ ...other, path: '/' }), client.makeDir({ ...other, path: '/m' })],
        client.removePath({ ...other, path: '/m' }),
      ];
      const codes = (await Promise.all(calls.map(failureOf))).map(({ code }) => code);
      expect(codes).toEqual(calls.map(() => 'not_found'));
      // What is gone is what was asked for.
      await client.destroySandbox(other);
      await client.deleteSnapshot({ operationId: other.operationId, template: { teamId, templateId } });
    });

    it('runs commands', async () => {
      const { end } = await client.exec({ sandboxId, cmd: '/bin/true', args: [], timeoutSec: 60 });
      expect(end).toMatchObject({ exitCode: 0, signal: '', timedOut: false, droppedStdoutBytes: 0n });
      const streamed = await Array.fromAsync(client.execStream({ sandboxId, cmd: '/bin/true', timeoutSec: 60 }));
      expect(streamed[0]?.event.case).toBe('start');
      expect(streamed.at(-1)?.event).toMatchObject({ case: 'end', value: { exitCode: 0, signal: '' } });
      const nothing = { code: 'invalid_request', details: { field: 'cmd' } };
      expect(await failureOf(client.exec({ sandboxId, cmd: '' }))).toEqual(nothing);
      expect(await failureOf(Array.fromAsync(client.execStream({ sandboxId, cmd: '' })))).toEqual(nothing);
    });

    it('keeps files, and names the path that is wrong', async () => {
      const file = '/home/user/conformance/ü/file';
      expect((await write(file, 'first')).size).toBe(5n);
      expect(await read(file)).toBe('first');
      const { entries } = await client.listDir({ sandboxId, path: '/home/user/conformance', depth: 2 });
      expect(entries.map(({ path, type }) => [path, type])).toEqual([
        ['/home/user/conformance/ü', 'directory'],
        [file, 'file'],
      ]);
      const listed = { sandboxId, path: '/home/user/conformance', depth: 2, pageSize: 1 };
      const firstPage = await client.listDir(listed);
      const lastPage = await client.listDir({ ...listed, cursor: firstPage.nextCursor });
      expect([firstPage, lastPage].map((page) => page.entries.map(({ path }) => path))).toEqual([
        ['/home/user/conformance/ü'],
        [file],
      ]);
      expect(lastPage.nextCursor).toBe('');
      const directory = { sandboxId, path: '/home/user/conformance/made/deep' };
      expect((await client.makeDir(directory)).entry).toMatchObject({ name: 'deep', type: 'directory' });
      const at = (code: string) => ({ code, details: { field: 'path' } });
      expect(await failureOf(client.makeDir(directory))).toEqual(at('already_exists'));
      await client.removePath({ sandboxId, path: '/home/user/conformance/made' });
      await client.removePath({ sandboxId, path: '/home/user/conformance/made' });
      expect(await failureOf(client.listDir({ ...directory, depth: 1 }))).toEqual(at('not_found'));
      expect(await failureOf(client.listDir({ sandboxId, path: file, depth: 1 }))).toEqual(at('invalid_request'));
      expect(await failureOf(read('/home/user/conformance/none'))).toEqual(at('not_found'));
      expect(await failureOf(read('/home/user/conformance'))).toEqual(at('invalid_request'));
      expect(await failureOf(client.makeDir({ sandboxId, path: '/tmp/a\0b' }))).toEqual(at('invalid_request'));
      await write(file, 'cut off', { isWhole: false }).catch(() => undefined);
      expect(await read(file)).toBe('first');
      const headless = (async function* () {
        yield { content: { case: 'chunk' as const, value: Buffer.from('x') } };
      })();
      expect(await failureOf(client.writeFile(headless))).toMatchObject({ code: 'invalid_request' });
    });

    it('pauses once per operation, and then only resumes', async () => {
      const request = operation();
      const { sandbox, generation } = await client.pauseSandbox(request);
      expect(sandbox).toMatchObject({ state: SandboxState.PAUSED, reason: '', generationId: generation?.generationId });
      expect((await client.pauseSandbox(request)).generation?.generationId).toBe(generation?.generationId);
      const paused = { code: 'invalid_state', details: expect.objectContaining({ state: 'paused' }) };
      const calls = [
        client.pauseSandbox(operation()),
        client.pingSandbox({ sandboxId }),
        client.exec({ sandboxId, cmd: 'a' }),
      ];
      // All are looked at from the start: a pause waits for what is under way, and the others do not.
      expect(await Promise.all(calls.map(failureOf))).toEqual(calls.map(() => paused));
      await client.setTimeout({ sandboxId, timeoutSec: 60 });
    });

    it('resumes once per operation, and not what runs', async () => {
      const request = { ...operation(), timeoutSec: 900 };
      const { sandbox } = await client.resumeSandbox(request);
      expect(sandbox).toMatchObject({ state: SandboxState.RUNNING, startPath: 'resume', reason: '', timeoutSec: 900 });
      expect((await client.resumeSandbox(request)).sandbox?.startedAtUnixMs).toBe(sandbox?.startedAtUnixMs);
      expect(await failureOf(client.resumeSandbox(operation()))).toEqual({
        code: 'invalid_state',
        details: expect.objectContaining({ state: 'running' }),
      });
      expect(await read('/home/user/conformance/ü/file')).toBe('first');
      expect((await client.pingSandbox({ sandboxId })).sandbox?.sandboxId).toBe(sandboxId);
    });

    it('keeps generations, which can be labelled and gone back to while it runs', async () => {
      const { generations } = await client.listGenerations({ sandboxId });
      expect(generations).toHaveLength(1);
      const generationId = generations[0]?.generationId as GenerationId;
      const labelled = await client.updateGeneration({ sandboxId, generationId, name: 'clean', pinned: true });
      expect(labelled.generation).toMatchObject({ generationId, name: 'clean', pinned: true });
      const unknown = { sandboxId, generationId: newId('generation') };
      expect(await failureOf(client.updateGeneration({ ...unknown, pinned: true }))).toMatchObject({
        code: 'not_found',
      });
      expect(await failureOf(client.resumeSandbox({ ...operation(), ...unknown }))).toMatchObject({
        code: 'not_found',
      });
      expect(await stateOf(sandboxId)).toBe(SandboxState.RUNNING);
      await write('/home/user/conformance/ü/file', 'second');
      const { sandbox } = await client.resumeSandbox({ ...operation(), generationId });
      expect(sandbox).toMatchObject({ state: SandboxState.RUNNING, generationId });
      expect(await read('/home/user/conformance/ü/file')).toBe('first');
    });

    it('saves what ran before a rewind, so that one can go forward again', async () => {
      const before = (await client.listGenerations({ sandboxId })).generations;
      const [clean, second] = before.map((one) => one.generationId) as [GenerationId, GenerationId];
      expect(before.map((one) => one.current)).toEqual([true, false]);
      await client.resumeSandbox({ ...operation(), generationId: second });
      expect(await read('/home/user/conformance/ü/file')).toBe('second');
      await client.resumeSandbox({ ...operation(), generationId: clean });
      expect(await read('/home/user/conformance/ü/file')).toBe('first');
      const after = (await client.listGenerations({ sandboxId })).generations;
      expect(after.map((one) => one.parentId)).toEqual(['', clean, clean, second]);
    });

    it('forks once per operation; a target that is taken does not hurt the others', async () => {
      const copy = newId('sandbox');
      const request = { ...operation(), targets: [{ sandboxId: copy }, { sandboxId }], timeoutSec: 30 };
      const { results, generation } = await client.forkSandbox(request);
      expect(results.map((result) => [result.sandboxId, result.sandbox?.state, result.error !== ''])).toEqual([
        [copy, SandboxState.RUNNING, false],
        [sandboxId, undefined, true],
      ]);
      expect(results[0]?.sandbox).toMatchObject({ startPath: 'restore', timeoutSec: 30, ...size });
      const again = await client.forkSandbox(request);
      expect(again.generation?.generationId).toBe(generation?.generationId);
      expect(again.results[0]?.sandbox?.startedAtUnixMs).toBe(results[0]?.sandbox?.startedAtUnixMs);
      expect(await read('/home/user/conformance/ü/file', copy)).toBe('first');
      expect(await stateOf(sandboxId)).toBe(SandboxState.RUNNING);
      await client.destroySandbox({ operationId: newId('operation'), sandboxId: copy });
      expect(await stateOf(copy)).toBeUndefined();
    });

    it('makes templates, from which sandboxes of the same size start', async () => {
      const template = { teamId, templateId: templateId as TemplateId };
      const request = { ...operation(), template };
      const made = await client.createSnapshot(request);
      expect(made).toMatchObject(size);
      expect((await client.createSnapshot(request)).sizeBytes).toBe(made.sizeBytes);
      const copy = newId('sandbox');
      const larger = client.createSandbox({ ...createRequest(copy, template), memoryMib: 1_024 });
      expect(await failureOf(larger)).toMatchObject({ code: 'invalid_request', details: { field: 'template' } });
      const { sandbox } = await client.createSandbox(createRequest(copy, template));
      expect(sandbox).toMatchObject({ state: SandboxState.RUNNING, startPath: 'restore' });
      await client.deleteSnapshot({ operationId: newId('operation'), template });
      expect(await read('/home/user/conformance/ü/file', copy)).toBe('first');
      const late = client.createSandbox(createRequest(newId('sandbox'), template));
      expect(await failureOf(late)).toMatchObject({ code: 'not_found' });
    });

    it('pauses all that runs, and destroys what is paused, twice', async () => {
      const { sandboxes } = await client.listSandboxes({});
      const { pausedSandboxIds, failures } = await client.pauseAll({ operationId: newId('operation') });
      expect([pausedSandboxIds.toSorted(), failures]).toEqual([sandboxes.map((info) => info.sandboxId).toSorted(), {}]);
      for (const info of [...sandboxes, ...sandboxes])
        await client.destroySandbox({ operationId: newId('operation'), sandboxId: info.sandboxId });
      expect((await client.listSandboxes({})).sandboxes).toEqual([]);
    });
  });
}

/** The product's own code and details of a failed call. */
async function failureOf(call: Promise<unknown>): Promise<{ code: string | null; details: unknown }> {
  const error = await call.then(
    () => {
      throw new Error('the call did not fail');
    },
    (reason: unknown) => ConnectError.from(reason),
  );
  const named = readAppError(error);
  return { code: named?.code ?? null, details: named?.details };
}
