/** Who of a team may read of it: everybody, or those who run the team. */
export type AuditScope = 'team' | 'admin';

/** How an entry is meant: something was done, is worth knowing, is worth a look, or went wrong. */
export type AuditStatus = 'success' | 'info' | 'warning' | 'error';

type Kind = { scope: AuditScope; status?: AuditStatus };

const forTeam = { scope: 'team' } as const;
const forAdmins = { scope: 'admin' } as const;

/** Everything that the audit log tells. Its name is `resource.action`; the status is `success` unless it says another. Closed: add here first. */
export const auditActions = {
  'sandbox.create': forTeam,
  'sandbox.fork': forTeam,
  'sandbox.pause': forTeam,
  'sandbox.auto_pause': { scope: 'team', status: 'info' },
  'sandbox.resume': forTeam,
  'sandbox.destroy': { scope: 'team', status: 'warning' },
  'generation.update': forTeam,
  'snapshot.create': forTeam,
  'snapshot.delete': { scope: 'team', status: 'warning' },
  'team.create': forTeam,
  'team.rename': forTeam,
  'team.delete': { scope: 'team', status: 'warning' },
  'team.transfer': forAdmins,
  'team.set_quota': forAdmins,
  'member.add': forAdmins,
  'member.remove': { scope: 'admin', status: 'warning' },
  'member.leave': { scope: 'admin', status: 'info' },
  'member.role_update': forAdmins,
  'invitation.create': forAdmins,
  'invitation.accept': forAdmins,
  'invitation.revoke': forAdmins,
  'api_key.create': forTeam,
  'api_key.revoke': { scope: 'team', status: 'warning' },
  'api_key.refused': { scope: 'admin', status: 'warning' },
  'host.registered': forAdmins,
  'host.marked_down': { scope: 'team', status: 'error' },
  'host.marked_up': forTeam,
  'user.sign_up': forAdmins,
  'user.log_in': forAdmins,
  'user.log_in_failed': { scope: 'admin', status: 'warning' },
  'user.log_out': forAdmins,
  'user.session_revoke': forAdmins,
  'user.session_theft': { scope: 'admin', status: 'error' },
  'user.password_change': forAdmins,
  'user.password_refused': { scope: 'admin', status: 'warning' },
  'user.second_factor_enable': forAdmins,
  'user.second_factor_disable': { scope: 'admin', status: 'warning' },
  'user.second_factor_failed': { scope: 'admin', status: 'warning' },
  'user.recovery_code_use': { scope: 'admin', status: 'warning' },
  'user.recovery_codes_renew': forAdmins,
  'user.password_reset_request': { scope: 'admin', status: 'info' },
  'user.password_reset': { scope: 'admin', status: 'warning' },
  'user.email_verify': forAdmins,
  'user.link_create': { scope: 'admin', status: 'warning' },
  'user.identity_link': forAdmins,
  'user.identity_unlink': { scope: 'admin', status: 'warning' },
  'user.passkey_add': forAdmins,
  'user.passkey_rename': forAdmins,
  'user.passkey_remove': { scope: 'admin', status: 'warning' },
  'user.passkey_copied': { scope: 'admin', status: 'error' },
  'user.update': forAdmins,
  'user.activate': forAdmins,
  'user.deactivate': { scope: 'admin', status: 'warning' },
  'user.delete': { scope: 'admin', status: 'warning' },
  'user.restore': forAdmins,
  'user.purge': { scope: 'admin', status: 'info' },
  'user.set_admin': { scope: 'admin', status: 'warning' },
  'platform.claim': forAdmins,
} as const satisfies Record<string, Kind>;

export type AuditAction = keyof typeof auditActions;
export type AuditResource = AuditAction extends `${infer R}.${string}` ? (R extends string ? R : never) : never;

/** The kind of thing that `action` was done to. */
export function auditResource(action: AuditAction): AuditResource {
  return action.slice(0, action.indexOf('.')) as AuditResource;
}
