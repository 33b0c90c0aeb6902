import { type AuditQuery, auditRequest } from './audit.ts';
import type {
  AccountLink,
  AdminMail,
  AdminSandbox,
  AdminTeam,
  AdminUser,
  AuditLogEntry,
  Quota,
  SetQuota,
} from './resources.ts';
import type { CallOptions, Transport } from './transport.ts';

const adminPath = '/v1/admin';

/** People, teams and sandboxes of the whole platform: for its administrators. Every method throws AviaryError. */
export class Admin {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Newest first; `search` is a part of an address or a name. */
  users({ search, ...options }: CallOptions & { search?: string } = {}): AsyncGenerator<AdminUser, void, undefined> {
    return this.#list('/users', { search }, options);
  }

  /** Somebody whose account is not purged. */
  async user(userId: string, options: CallOptions = {}): Promise<AdminUser> {
    return await this.#transport.json({ method: 'GET', path: userPath(userId), ...options });
  }

  /** Deletes a person's account, as if they did it themselves. Error `invalid_state` while they own a team that has others. */
  async deleteUser(userId: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'DELETE', path: userPath(userId), ...options });
  }

  /** Restores an account that was deleted not more than 15 days ago; its teams, keys and sessions stay gone. */
  async restoreUser(userId: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'POST', path: userPath(userId, '/restore'), isSentOnce: true, ...options });
  }

  /** Deactivates a person, or lets them in again. Of one who is deactivated sessions end and keys are revoked. */
  async setUserActive(userId: string, isActive: boolean, options: CallOptions = {}): Promise<void> {
    await this.#put(userPath(userId, '/active'), { active: isActive }, options);
  }

  /** Makes a person an administrator of the platform, or no longer. */
  async setUserAdmin(userId: string, isAdmin: boolean, options: CallOptions = {}): Promise<void> {
    await this.#put(userPath(userId, '/admin'), { admin: isAdmin }, options);
  }

  /** A link by which a person sets a new password, or verifies their address: to be handed to them. Good once. */
  async createLink(userId: string, purpose: AccountLink['purpose'], options: CallOptions = {}): Promise<AccountLink> {
    const call = { method: 'POST', path: userPath(userId, '/links'), json: { purpose }, isSentOnce: true } as const;
    return await this.#transport.json({ ...call, ...options });
  }

  /** Mails that were not sent, or not yet, newest first. */
  mails(options: CallOptions = {}): AsyncGenerator<AdminMail, void, undefined> {
    return this.#list('/mails', {}, options);
  }

  /** Takes the second factor away from a person who has lost it; one who has none stays as they are. */
  async removeSecondFactor(userId: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'DELETE', path: userPath(userId, '/second-factor'), ...options });
  }

  /** Newest first, also those that were deleted; `search` is a part of a name or a slug. */
  teams({ search, ...options }: CallOptions & { search?: string } = {}): AsyncGenerator<AdminTeam, void, undefined> {
    return this.#list('/teams', { search }, options);
  }

  async deleteTeam(teamId: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'DELETE', path: teamPath(teamId), ...options });
  }

  async quota(teamId: string, options: CallOptions = {}): Promise<Quota> {
    return await this.#transport.json({ method: 'GET', path: teamPath(teamId, '/quota'), ...options });
  }

  /** Sets all of a team's limits; null is as much as there is. */
  async setQuota(teamId: string, limits: SetQuota, options: CallOptions = {}): Promise<Quota> {
    return await this.#put(teamPath(teamId, '/quota'), limits, options);
  }

  /** Sandboxes of all teams that are not stopped, newest first. */
  sandboxes(options: CallOptions = {}): AsyncGenerator<AdminSandbox, void, undefined> {
    return this.#list('/sandboxes', {}, options);
  }

  /** The platform's own log: people, log-ins, administrators. Newest first. */
  audit(query: AuditQuery = {}, options: CallOptions = {}): AsyncGenerator<AuditLogEntry, void, undefined> {
    return this.#transport.pages({ ...auditRequest(`${adminPath}/audit-logs`, query), ...options });
  }

  #list<T>(path: string, query: { search?: string | undefined }, options: CallOptions) {
    const call = { method: 'GET', path: `${adminPath}${path}`, query: { limit: 200, ...query } } as const;
    return this.#transport.pages<T>({ ...call, ...options });
  }

  async #put<T>(path: string, json: object, options: CallOptions): Promise<T> {
    return await this.#transport.json({ method: 'PUT', path, json, ...options });
  }
}

function userPath(userId: string, rest = ''): string {
  return `${adminPath}/users/${encodeURIComponent(userId)}${rest}`;
}

function teamPath(teamId: string, rest = ''): string {
  return `${adminPath}/teams/${encodeURIComponent(teamId)}${rest}`;
}
