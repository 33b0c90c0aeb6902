import { nameLabel } from '@aviary/core';
import type { CreateSandbox } from '@aviary/sdk';
import { type Flag, type Flags, parsePairs } from '../command.ts';
import { knownTemplates } from '../templates/known-templates.ts';

/** Flags that say what a new sandbox is like. */
export const createFlags = {
  template: {
    type: 'string',
    short: 't',
    placeholder: 'NAME',
    summary: 'template to start from (default minimal)',
    values: knownTemplates,
  },
  vcpus: { type: 'integer', min: 1, summary: 'virtual CPUs (default: as the template)' },
  memory: { type: 'integer', min: 1, placeholder: 'MIB', summary: 'memory (default: as the template)' },
  disk: { type: 'integer', min: 1, placeholder: 'MIB', summary: 'disk (default: as the template)' },
  'idle-timeout': { type: 'integer', placeholder: 'SEC', summary: 'pause after so long without activity; 0 is never' },
  env: {
    type: 'string',
    short: 'e',
    isMultiple: true,
    placeholder: 'KEY=VALUE',
    summary: 'environment of every command in it',
  },
  name: {
    type: 'string',
    placeholder: 'NAME',
    summary: 'what to call it, one at a time; commands take it in place of the id',
  },
  metadata: { type: 'string', isMultiple: true, placeholder: 'KEY=VALUE', summary: 'your own labels' },
} as const satisfies Record<string, Flag>;

/** How long a command waits for a sandbox to settle, unless told otherwise. */
export const defaultWaitSec = 300;

export const waitFlags = {
  wait: {
    type: 'integer',
    placeholder: 'SEC',
    summary: `wait so long for it to settle; 0 returns at once (default ${defaultWaitSec})`,
  },
} as const satisfies Record<string, Flag>;

/** Reads {@link createFlags}. */
export function readCreateFlags(flags: Flags): CreateSandbox {
  const template = flags.string('template');
  const vcpus = flags.integer('vcpus');
  const memoryMib = flags.integer('memory');
  const diskMib = flags.integer('disk');
  const timeoutSec = flags.integer('idle-timeout');
  const envs = flags.strings('env');
  const metadata = flags.strings('metadata');
  const name = flags.string('name');
  return {
    ...(template === undefined ? {} : { template }),
    ...(vcpus === undefined ? {} : { vcpus }),
    ...(memoryMib === undefined ? {} : { memory_mb: memoryMib }),
    ...(diskMib === undefined ? {} : { disk_size_mb: diskMib }),
    ...(timeoutSec === undefined ? {} : { timeout_sec: timeoutSec }),
    ...(envs.length === 0 ? {} : { envs: parsePairs('env', envs) }),
    ...(metadata.length === 0 && name === undefined
      ? {}
      : { metadata: { ...parsePairs('metadata', metadata), ...(name === undefined ? {} : { [nameLabel]: name }) } }),
  };
}
