import type { Module } from '../module.ts';

/** Who may call: keeps it true for what is open, and writes when keys were used. */
export const accessModule: Module = {
  name: 'access',
  loops: ({ openCalls, keyUses }) => [(signal) => openCalls.run(signal), (signal) => keyUses.run(signal)],
};
