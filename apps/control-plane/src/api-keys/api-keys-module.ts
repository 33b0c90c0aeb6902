import type { Module } from '../module.ts';
import { registerApiKeyRoutes } from './api-key-routes.ts';

/** Keys of programs: made, listed, revoked. */
export const apiKeysModule: Module = { name: 'api-keys', routes: registerApiKeyRoutes };
