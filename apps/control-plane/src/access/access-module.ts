import type { Module } from '../module.ts';
import { registerCallerRoutes } from './caller-routes.ts';

/** Who may call, and tells them who they are: keeps it true for what is open, and writes when keys were used. */
export const accessModule: Module = {
  name: 'access',
  routes: registerCallerRoutes,
  loops: ({ openCalls, keyUses }) => [(signal) => openCalls.run(signal), (signal) => keyUses.run(signal)],
};
