import { AppError } from './errors.ts';

/** Each kind of id and the prefix it has on the wire: `sb-0190…`. Inside, and in the database, ids are bare UUIDs. */
export const idPrefixes = {
  sandbox: 'sb',
  team: 'team',
  user: 'usr',
  apiKey: 'key',
  session: 'ses',
  identity: 'idn',
  passkey: 'psk',
  invitation: 'inv',
  mail: 'mail',
  auditEntry: 'aud',
  host: 'host',
  template: 'tpl',
  generation: 'gen',
  operation: 'op',
  event: 'evt',
  hostToken: 'htk',
  refreshToken: 'hrt',
} as const satisfies Record<string, string>;

export type IdKind = keyof typeof idPrefixes;

/** A lower-case UUID of one kind. Only {@link newId}, {@link parseId} and {@link asId} make one. */
export type Id<K extends IdKind> = string & { readonly __idKind: K };

export type SandboxId = Id<'sandbox'>;
export type TeamId = Id<'team'>;
export type UserId = Id<'user'>;
export type ApiKeyId = Id<'apiKey'>;
export type SessionId = Id<'session'>;
export type IdentityId = Id<'identity'>;
export type PasskeyId = Id<'passkey'>;
export type InvitationId = Id<'invitation'>;
export type MailId = Id<'mail'>;
export type AuditEntryId = Id<'auditEntry'>;
export type HostId = Id<'host'>;
export type TemplateId = Id<'template'>;
export type GenerationId = Id<'generation'>;
export type OperationId = Id<'operation'>;
export type EventId = Id<'event'>;

const uuidSource = '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}';
const uuidPattern = new RegExp(`^${uuidSource}$`);

/** The all-zero UUID: the platform's own team, and the built-in template `minimal`. */
export const nilUuid = '00000000-0000-0000-0000-000000000000';
export const platformTeamId = nilUuid as TeamId;
export const minimalTemplateId = nilUuid as TemplateId;

/** A UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then random, so that ids sort by age. */
export function uuidv7(nowMs: number = Date.now()): string {
  const time = Math.floor(nowMs).toString(16).padStart(12, '0');
  // The random part and the variant are those of version 4.
  return `${time.slice(0, 8)}-${time.slice(8)}-7${crypto.randomUUID().slice(15)}`;
}

/** A new id of `kind`. */
export function newId<K extends IdKind>(kind: K, nowMs?: number): Id<K> {
  void kind;
  return uuidv7(nowMs) as Id<K>;
}

/** The id as the API shows it, e.g. `sb-0190c2d4-…`. */
export function formatId<K extends IdKind>(kind: K, id: Id<K>): string {
  return `${idPrefixes[kind]}-${id}`;
}

/** A regular expression of the wire ids of one kind, without anchors: what the API's document says is what {@link parseId} takes. */
export function wireIdSource(kind: IdKind): string {
  return `${idPrefixes[kind]}-${uuidSource}`;
}

const kindWords = {
  sandbox: 'a sandbox id',
  team: 'a team id',
  user: 'a user id',
  apiKey: "an API key's id",
  session: "a session's id",
  identity: "a linked identity's id",
  passkey: "a passkey's id",
  invitation: "an invitation's id",
  mail: "a mail's id",
  auditEntry: "an audit entry's id",
  host: 'a host id',
  template: "a snapshot's id",
  generation: 'a generation id',
  operation: 'an operation id',
  event: 'an event id',
  hostToken: "a host token's id",
  refreshToken: "a refresh token's id",
} as const satisfies Record<IdKind, string>;

/** Says that `text` is no id of `kind`, and how one looks. */
export function notAnId(kind: IdKind, text: string): string {
  const shown = JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
  return `not ${kindWords[kind]}: ${shown}; they look like ${idPrefixes[kind]}-0190c2d4-7a1b-7c3d-8e5f-0123456789ab`;
}

/** Reads a wire id. Throws `invalid_request` naming the expected form. */
export function parseId<K extends IdKind>(kind: K, text: string, field = `${kind}_id`): Id<K> {
  const prefix = `${idPrefixes[kind]}-`;
  const uuid = text.slice(prefix.length);
  if (!text.startsWith(prefix) || !uuidPattern.test(uuid)) {
    throw new AppError('invalid_request', notAnId(kind, text), { details: { field } });
  }
  return uuid as Id<K>;
}

/** Brands a bare UUID read from a trusted store or an internal RPC. Throws `invalid_request` when it is not a UUID. */
export function asId<K extends IdKind>(kind: K, uuid: string): Id<K> {
  if (!uuidPattern.test(uuid))
    throw new AppError('invalid_request', `${kind} id is not a lower-case UUID`, { details: { field: kind } });
  return uuid as Id<K>;
}

/** The 32 hex digits that stand for a sandbox in host names and in the E2B API. */
export function sandboxHostLabel(id: SandboxId): string {
  return id.replaceAll('-', '');
}
