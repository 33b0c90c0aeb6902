import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { newId } from '@aviary/core';
import { silentLogger, systemClock, waitFor } from '@aviary/service-kit';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { ControlPlaneLink } from './control-plane-link.ts';
import { type ControlPlaneStub, startControlPlaneStub } from './control-plane-stub.ts';
import { readCredentials, writeCredentials } from './credentials.ts';
import { EventOutbox } from './event-outbox.ts';

let directory: string;
let controlPlane: ControlPlaneStub;
let link: ControlPlaneLink;
let credentialsFile: string;
let events: EventOutbox;
let cutOffs: string[];
let freeBytes: number;
let measured: number;

beforeEach(async () => {
  freeBytes = 2 ** 40;
  measured = 0;
  cutOffs = [];
  directory = await mkdtemp(path.join(tmpdir(), 'aviary-link-'));
  credentialsFile = path.join(directory, 'credentials.json');
  const hostTokenFile = path.join(directory, 'token');
  await writeFile(hostTokenFile, 'one-time');
  controlPlane = await startControlPlaneStub();
  events = new EventOutbox({
    directory: path.join(directory, 'events'),
    clock: systemClock,
    logger: silentLogger,
  });
  await events.open();
  link = new ControlPlaneLink(
    {
      events,
      clock: systemClock,
      logger: silentLogger,
      onCutOff: async (reason) => void cutOffs.push(reason),
      freeBytes: async () => {
        measured++;
        return freeBytes;
      },
    },
    {
      controlPlaneUrl: controlPlane.url,
      credentialsFile,
      hostTokenFile,
      dataDir: directory,
      address: 'http://127.0.0.1:1',
    },
  );
});

async function register(): Promise<void> {
  link.start();
  await waitFor({ what: 'the registration', timeoutMs: 10_000 }, () => readCredentials(credentialsFile));
}

afterEach(async () => {
  await link[Symbol.asyncDispose]();
  await controlPlane[Symbol.asyncDispose]();
  await rm(directory, { recursive: true });
});

const callWith = async (epoch: unknown) =>
  link.checkCaller(new Headers({ authorization: `Bearer ${await controlPlane.signToken({ epoch })}` }));
const storedEpoch = async () => (await readCredentials(credentialsFile))?.epoch;

test.each([
  ['none', undefined],
  ['a word', 'abc'],
  ['a numeral', '2'],
  ['NaN, which JSON turns into null', Number.NaN],
  ['infinity, which JSON turns into null', Number.POSITIVE_INFINITY],
  ['a number too large to count with', 1e300],
  ['a fraction', 1.5],
  ['a negative one', -1],
])('a token whose epoch is %s is refused, and nothing is written', async (_what, epoch) => {
  await register();
  await expect(callWith(epoch)).rejects.toMatchObject({ code: 'unauthorized' });
  expect(await storedEpoch()).toBe(1);
});

test('a header that names an epoch changes nothing', async () => {
  await register();
  const headers = { authorization: `Bearer ${await controlPlane.signToken()}`, 'x-aviary-epoch': '99' };
  await link.checkCaller(new Headers(headers));
  expect(await storedEpoch()).toBe(1);
});

test('a newer epoch is durable before its call is let in, and older ones are refused from then on', async () => {
  await register();
  await callWith(1);
  await callWith(5);
  expect(await storedEpoch()).toBe(5);
  await expect(callWith(4)).rejects.toMatchObject({ code: 'stale_epoch' });
  await callWith(5);
});

test('of epochs that come at once the highest stays, and the rest of the credentials with it', async () => {
  await register();
  const before = await readCredentials(credentialsFile);
  await Promise.allSettled([3, 9, 6, 2, 8].map(callWith));
  expect(await readCredentials(credentialsFile)).toEqual({ ...before, epoch: 9 });
  expect(await readFile(credentialsFile, 'utf8')).toContain('"epoch":9');
});

test('a host without room registers as soon as there is some', async () => {
  freeBytes = 900 * 2 ** 20;
  link.start();
  await waitFor({ what: 'a try', timeoutMs: 10_000 }, () => measured > 0);
  expect(await readCredentials(credentialsFile)).toBeUndefined();
  freeBytes = 2 ** 40;
  await waitFor({ what: 'the registration', timeoutMs: 10_000 }, () => readCredentials(credentialsFile));
});

test('calls whose token is refused at the same time share one refresh, and are not taken for a host that is put out', async () => {
  await writeCredentials(credentialsFile, controlPlane.credentials());
  await link.open();
  await events.push('sandbox.started', { sandboxId: newId('sandbox'), run: 1 });
  controlPlane.expireToken(2);
  await Promise.all([link.heartbeatOnce(), link.sendEventsOnce()]);
  expect(cutOffs).toEqual([]);
  expect(controlPlane.events).toHaveLength(1);
  expect(await readCredentials(credentialsFile)).toEqual({
    ...controlPlane.credentials(),
    token_expires_at: expect.any(String),
  });
});
