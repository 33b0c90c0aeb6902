import type { Module } from '../module.ts';
import { registerHostRoutes } from './host-routes.ts';

/** Machines that run sandboxes: their registration, their credentials, their heartbeats. */
export const hostsModule: Module = { name: 'hosts', routes: registerHostRoutes };
