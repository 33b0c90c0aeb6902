import { auditRoutes } from '@aviary/api-contract';
import { hasRole } from '@aviary/core';
import { type MemberCaller, registerRoutes } from '../http/register-routes.ts';
import type { Module } from '../module.ts';
import { type AuditReader, exportAudit, readAuditPage } from './read-audit.ts';

/** Who did what in a team, for its members. */
export const auditModule: Module = {
  name: 'audit',
  routes(app, context) {
    const { db } = context.database;
    registerRoutes(app, context, {
      table: auditRoutes,
      handlers: {
        listAuditLogs: ({ caller, query }) => readAuditPage(db, readerOf(caller), query),
        exportAuditLogs: async ({ caller, query }) => exportAudit(db, readerOf(caller), query),
      },
    });
  },
  // What was told stays, under the id of a team that is never given again.
  teamResources: () => [{ tables: ['audit_logs'] }],
};

/** Members see what is for the whole team; those who run it see all. The role is the database's. */
function readerOf({ teamId, via }: MemberCaller): AuditReader {
  const seesAll = hasRole(via.role, 'admin');
  return { teamId, scope: seesAll ? null : 'team' };
}
