// Plain JavaScript for any Node from 20 on, without dependencies: it runs before anything is installed.
import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import path from 'node:path';
import { runNode } from '../apps/cli/bin/run-node.mjs';

const root = path.join(import.meta.dirname, '..');
const pinnedNode = path.join(root, 'node_modules', 'node', 'bin', 'node');

/** True when npm's record of what it installed is there and not older than the lock file. */
function isInstalled() {
  const record = path.join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(record) || !existsSync(pinnedNode)) return false;
  return statSync(record).mtimeMs >= statSync(path.join(root, 'package-lock.json')).mtimeMs;
}

function install() {
  console.error('installing npm packages …');
  const npm = process.env.npm_execpath;
  const [file, first] = npm ? [process.execPath, [npm]] : ['npm', []];
  // Not `npm ci`: it refuses a lock file made where other platforms' optional packages were not to be had. This installs
  // the locked versions all the same, and with --no-save leaves the checkout as it is.
  const args = [
    ...first,
    'install',
    '--no-save',
    '--no-audit',
    '--no-fund',
    '--engine-strict=false',
    '--loglevel=error',
  ];
  const { status, error } = spawnSync(file, args, { cwd: root, stdio: ['ignore', 2, 2] });
  if (error || status !== 0) {
    const why = error ? error.message : `it ended with ${status}`;
    throw new Error(`npm install failed (${why}): read its message above; the npm registry must be reachable`);
  }
}

/** Runs a TypeScript file of this directory on the Node that the lock file pins, with this process's arguments. Sets the exit code. */
export function runPinned(script) {
  try {
    if (!isInstalled()) install();
  } catch (error) {
    console.error(error.message);
    process.exitCode = 1;
    return;
  }
  const args = [
    '--disable-warning=ExperimentalWarning',
    path.join(import.meta.dirname, script),
    ...process.argv.slice(2),
  ];
  const bin = path.join(root, 'node_modules', '.bin');
  const env = { ...process.env, PATH: `${bin}${path.delimiter}${process.env.PATH ?? ''}` };
  runNode(pinnedNode, args, env);
}
