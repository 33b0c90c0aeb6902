import type { AddedMember, FoundUser, Invitation, Member, Quota, Team, TeamDetails } from './resources.ts';
import type { CallOptions, Transport } from './transport.ts';

/** What can be given to a member; a team has one owner, who hands it over. */
export type GivenRole = 'admin' | 'member';

/** Where a team, or something of it, is in the API. */
function teamPath(teamId: string, rest = ''): string {
  return `/v1/teams/${encodeURIComponent(teamId)}${rest}`;
}

/** Teams, their members and invitations: for people who have logged in. Every method throws AviaryError. */
export class Teams {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Makes a team; the caller is its owner. */
  async create(name: string, options: CallOptions = {}): Promise<Team> {
    return await this.#send('POST', '/v1/teams', { name }, options);
  }

  /** The caller's teams. */
  list(options: CallOptions = {}): AsyncGenerator<Team, void, undefined> {
    return this.#transport.pages({ method: 'GET', path: '/v1/teams', query: { limit: 200 }, ...options });
  }

  /** A team with its first 200 members. */
  async get(teamId: string, options: CallOptions = {}): Promise<TeamDetails> {
    return await this.#transport.json({ method: 'GET', path: teamPath(teamId), ...options });
  }

  async rename(teamId: string, name: string, options: CallOptions = {}): Promise<Team> {
    return await this.#transport.json({ method: 'PATCH', path: teamPath(teamId), json: { name }, ...options });
  }

  /** Deletes a team with all it has: at once for people and keys, on its hosts as they can be reached. */
  async delete(teamId: string, options: CallOptions = {}): Promise<void> {
    await this.#transport.json({ method: 'DELETE', path: teamPath(teamId), ...options });
  }

  members(teamId: string, options: CallOptions = {}): AsyncGenerator<Member, void, undefined> {
    return this.#list(teamPath(teamId, '/members'), options);
  }

  /** Somebody with an account whose address is verified is in at once; anybody else is invited. */
  async addMember(
    teamId: string,
    request: { email: string; role?: GivenRole },
    options: CallOptions = {},
  ): Promise<AddedMember> {
    return await this.#send('POST', teamPath(teamId, '/members'), request, options);
  }

  async updateMember(
    teamId: string,
    { userId, role }: { userId: string; role: GivenRole },
    options: CallOptions = {},
  ): Promise<Member> {
    const path = teamPath(teamId, `/members/${encodeURIComponent(userId)}`);
    return await this.#transport.json({ method: 'PATCH', path, json: { role }, ...options });
  }

  /** Takes a member out; the keys that they made in the team are revoked. */
  async removeMember(teamId: string, userId: string, options: CallOptions = {}): Promise<void> {
    const path = teamPath(teamId, `/members/${encodeURIComponent(userId)}`);
    await this.#transport.json({ method: 'DELETE', path, ...options });
  }

  /** The owner hands the team over first, or deletes it. */
  async leave(teamId: string, options: CallOptions = {}): Promise<void> {
    await this.#send('POST', teamPath(teamId, '/leave'), undefined, options);
  }

  /** Makes another member the owner, and the caller an admin. */
  async transfer(teamId: string, userId: string, options: CallOptions = {}): Promise<Team> {
    return await this.#send('POST', teamPath(teamId, '/transfer'), { user_id: userId }, options);
  }

  /** Invitations that are open. */
  invitations(teamId: string, options: CallOptions = {}): AsyncGenerator<Invitation, void, undefined> {
    return this.#list(teamPath(teamId, '/invitations'), options);
  }

  async revokeInvitation(teamId: string, invitationId: string, options: CallOptions = {}): Promise<void> {
    const path = teamPath(teamId, `/invitations/${encodeURIComponent(invitationId)}`);
    await this.#transport.json({ method: 'DELETE', path, ...options });
  }

  /** Joins the team that invited the caller's address. The token is good once. */
  async acceptInvitation(token: string, options: CallOptions = {}): Promise<Team> {
    return await this.#send('POST', '/v1/invitations/accept', { token }, options);
  }

  /** What the team may have at once, and has; also for its API keys. */
  async quota(teamId: string, options: CallOptions = {}): Promise<Quota> {
    return await this.#transport.json({ method: 'GET', path: teamPath(teamId, '/quota'), ...options });
  }

  /** People in the caller's teams whose address begins with `email`, at most ten. */
  async searchUsers(email: string, options: CallOptions = {}): Promise<FoundUser[]> {
    const call = { method: 'GET', path: '/v1/users/search', query: { email } } as const;
    return (await this.#transport.json<{ items: FoundUser[] }>({ ...call, ...options })).items;
  }

  #list<T>(path: string, options: CallOptions): AsyncGenerator<T, void, undefined> {
    return this.#transport.pages({ method: 'GET', path, query: { limit: 200 }, ...options });
  }

  async #send<T>(method: 'POST', path: string, json: object | undefined, options: CallOptions): Promise<T> {
    const body = json === undefined ? {} : { json };
    return await this.#transport.json({ method, path, isSentOnce: true, ...body, ...options });
  }
}
