import type { Module } from '../module.ts';
import { registerOperationRoutes } from './operation-routes.ts';

/** The engine that carries out accepted commands. What there is to carry out comes from the other modules. */
export const operationsModule: Module = {
  name: 'operations',
  routes: registerOperationRoutes,
  loops: ({ runner, waits }) => [(signal) => runner.run(signal), (signal) => waits.run(signal)],
};
