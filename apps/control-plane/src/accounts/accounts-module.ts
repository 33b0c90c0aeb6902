import type { Module } from '../module.ts';
import { registerAuthRoutes } from './auth-routes.ts';
import { registerMeRoutes } from './me-routes.ts';

/** People: how they sign up and in, their sessions, their own accounts. */
export const accountsModule: Module = {
  name: 'accounts',
  routes: (app, context) => {
    registerAuthRoutes(app, context);
    registerMeRoutes(app, context);
  },
};
