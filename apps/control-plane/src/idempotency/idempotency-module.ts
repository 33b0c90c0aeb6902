import type { Module } from '../module.ts';

/** Keeps the keys of requests under way claimed. */
export const idempotencyModule: Module = {
  name: 'idempotency',
  loops: ({ idempotency }) => [(signal) => idempotency.run(signal)],
};
