import {
  chmodSync,
  closeSync,
  constants,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import path from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { must } from '@aviary/core';
import { enterNamespace, unshareNamespaces, withThreadCredentials } from '@aviary/linux';
import type { TakenOverOptions, TakenOverReport } from './taken-over-vmm.ts';

/** Where a program that was taken over would look first. */
const temporaryDirectories = ['/', '/tmp', '/var/tmp', '/dev', '/dev/shm', '/run', '/etc', '/usr', '/usr/bin', '/lib'];

const { pid, uid, gid, files } = workerData as TakenOverOptions;
const descriptors = readdirSync(`/proc/${pid}/fd`).map((name) => `/proc/${pid}/fd/${name}`);
const namespaces = (['mount', 'network', 'ipc', 'uts'] as const).map((kind) => ({
  kind,
  fd: openSync(`/proc/${pid}/ns/${kind === 'mount' ? 'mnt' : kind === 'network' ? 'net' : kind}`, 'r'),
}));
unshareNamespaces(['mount']);
// First in our own namespace, where there is a /proc: a descriptor that is opened anew allows what the file's mode does.
const reopened = asVmm(() => descriptors.filter((file) => succeeds(() => closeSync(openSync(file, constants.O_RDWR)))));
for (const { kind, fd } of namespaces) enterNamespace(kind, fd);
const report: TakenOverReport = asVmm(() => ({
  reopened,
  visible: walk('/'),
  written: files.filter(canChange),
  made: temporaryDirectories.filter((directory) => succeeds(() => writeFileSync(path.join(directory, 'made'), ''))),
}));
must(parentPort, 'this file is the start of a worker thread').postMessage(report);

function asVmm<T>(work: () => T): T {
  return withThreadCredentials({ uid, gid, groups: [] }, work);
}

/** Everything below `directory` that can be listed, but what QEMU's distribution brings. */
function walk(directory: string): string[] {
  const found: string[] = [];
  for (const name of names(directory)) {
    const file = path.join(directory, name);
    if (/^\/(usr|lib|lib64)$/.test(file)) continue;
    if (lstatSync(file).isDirectory()) found.push(...walk(file));
    else found.push(file);
  }
  return found;
}

/** Not every directory can be listed; what is in those is tried by name. */
function names(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

function canChange(file: string): boolean {
  const directory = path.dirname(file);
  return [
    () => closeSync(openSync(file, constants.O_RDWR)),
    () => closeSync(openSync(file, constants.O_WRONLY)),
    () => truncateSync(file, 0),
    () => chmodSync(file, 0o666),
    () => linkSync(file, `${file}-linked`),
    () => renameSync(file, `${file}-moved`),
    () => rmSync(file),
    () => writeFileSync(path.join(directory, 'beside'), ''),
    () => mkdirSync(path.join(directory, 'beside.d')),
  ].some(succeeds);
}

function succeeds(work: () => void): boolean {
  try {
    work();
    return true;
  } catch {
    return false;
  }
}
