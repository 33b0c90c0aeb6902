import type { Module } from '../module.ts';

/** Keeps the keys of requests under way claimed. */
export const idempotencyModule: Module = {
  name: 'idempotency',
  // They go by their age.
  teamResources: () => [{ tables: ['idempotency_keys'] }],
  loops: ({ idempotency }) => [(signal) => idempotency.run(signal)],
};
