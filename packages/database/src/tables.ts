import type {
  ApiKeyId,
  AuditScope,
  AuditStatus,
  EventId,
  GenerationId,
  HostId,
  Id,
  IdentityId,
  KeyScope,
  MailId,
  OperationId,
  PasskeyId,
  SandboxId,
  SandboxStatus,
  SessionId,
  TeamId,
  TeamRole,
  TemplateId,
  UserId,
} from '@aviary/core';
import type { ColumnType, Generated, JSONColumnType } from 'kysely';

type Json<T extends object> = JSONColumnType<T, string | undefined, string>;
/** One without a default. */
type RequiredJson<T extends object> = JSONColumnType<T, string, string>;
type Timestamp = ColumnType<Date, Date | undefined, Date>;
type NullableTimestamp = ColumnType<Date | null, Date | null | undefined, Date | null>;

export interface TeamTable {
  id: TeamId;
  name: string;
  slug: string;
  created_at: Timestamp;
  deleted_at: NullableTimestamp;
  cleared_at: NullableTimestamp;
}

export interface ApiKeyTable {
  id: ApiKeyId;
  team_id: TeamId;
  name: string;
  key_hash: string;
  key_prefix: string;
  created_at: Timestamp;
  expires_at: NullableTimestamp;
  last_used_at: NullableTimestamp;
  scopes: Json<KeyScope[]>;
  created_by: UserId | null;
  revoked_at: NullableTimestamp;
}

export type UserStatus = 'active' | 'deactivated' | 'deleted';

export interface UserTable {
  id: UserId;
  email: string;
  email_key: string;
  name: string;
  password_hash: string | null;
  is_admin: Generated<boolean>;
  status: Generated<UserStatus>;
  email_verified_at: NullableTimestamp;
  created_at: Timestamp;
  updated_at: Timestamp;
  deleted_at: NullableTimestamp;
  pause_until: NullableTimestamp;
}

export interface TeamMemberTable {
  team_id: TeamId;
  user_id: UserId;
  role: TeamRole;
  created_at: Timestamp;
}

export interface TeamInvitationTable {
  id: Id<'invitation'>;
  team_id: TeamId;
  email: string;
  email_key: string;
  role: Exclude<TeamRole, 'owner'>;
  token_hash: string;
  invited_by: UserId | null;
  created_at: Timestamp;
  expires_at: Date;
  accepted_at: NullableTimestamp;
  revoked_at: NullableTimestamp;
}

export interface SessionTable {
  id: SessionId;
  user_id: UserId;
  user_agent: Generated<string>;
  ip_address: Generated<string>;
  created_at: Timestamp;
  last_seen_at: Timestamp;
  expires_at: Date;
  revoked_at: NullableTimestamp;
  revoke_reason: string | null;
  team_id: TeamId | null;
}

export interface SessionTokenTable {
  token_hash: string;
  session_id: SessionId;
  created_at: Timestamp;
  used_at: NullableTimestamp;
}

export interface OneTimeTokenTable {
  token_hash: string;
  purpose: string;
  created_at: Timestamp;
  expires_at: Date;
  user_id: UserId | null;
  is_mailed: Generated<boolean>;
}

export interface MailTable {
  id: MailId;
  kind: string;
  email: string;
  email_key: string;
  subject_id: string;
  payload: Json<object>;
  state: Generated<'waiting' | 'logged' | 'failed'>;
  attempts: Generated<number>;
  next_attempt_at: Date;
  last_error: string | null;
  created_at: Date;
  expires_at: Date;
}

export interface TotpFactorTable {
  user_id: UserId;
  sealed_secret: string;
  confirmed_at: NullableTimestamp;
  last_step: Generated<number>;
  failures: Generated<number>;
  failures_since: NullableTimestamp;
  created_at: Timestamp;
}

export interface RecoveryCodeTable {
  user_id: UserId;
  code_hash: string;
}

export interface LogInChallengeTable {
  token_hash: string;
  purpose: 'second_factor' | 'passkey_registration' | 'passkey_log_in';
  user_id: UserId | null;
  method: string | null;
  created_at: Timestamp;
  expires_at: Date;
}

export interface IdentityTable {
  id: IdentityId;
  user_id: UserId;
  issuer: string;
  subject: string;
  email: string | null;
  created_at: Timestamp;
  last_used_at: Timestamp;
}

export interface SignInAttemptTable {
  state_hash: string;
  browser_hash: string;
  provider: string;
  nonce: string;
  code_verifier: string;
  return_to: string;
  code_challenge: string | null;
  session_id: SessionId | null;
  created_at: Timestamp;
  expires_at: Date;
}

export interface SignInCodeTable {
  code_hash: string;
  user_id: UserId;
  provider: string;
  browser_hash: string | null;
  code_challenge: string | null;
  created_at: Timestamp;
  expires_at: Date;
}

export interface PasskeyTable {
  id: PasskeyId;
  user_id: UserId;
  name: string;
  credential_id: string;
  public_key: string;
  counter: number;
  transports: Json<string[]>;
  is_synced: boolean;
  created_at: Timestamp;
  last_used_at: NullableTimestamp;
}

export interface TeamQuotaTable {
  team_id: TeamId;
  sandboxes: number | null;
  vcpus: number | null;
  memory_mib: number | null;
  disk_mib: number | null;
  templates: number | null;
  updated_at: Timestamp;
}

export interface SigningKeyTable {
  id: string;
  public_jwk: RequiredJson<object>;
  private_jwk: RequiredJson<object>;
  created_at: Timestamp;
}

export interface AuditLogTable {
  id: Id<'auditEntry'>;
  team_id: TeamId;
  actor_type: 'user' | 'api_key' | 'host' | 'system';
  actor_id: string | null;
  resource_type: string;
  resource_id: string | null;
  action: string;
  metadata: Json<object>;
  created_at: Timestamp;
  actor_name: Generated<string>;
  scope: Generated<AuditScope>;
  status: Generated<AuditStatus>;
  position: Generated<number>;
}

export type HostStatus = 'pending' | 'online' | 'unreachable' | 'draining';

export interface HostTable {
  id: HostId;
  team_id: TeamId | null;
  status: Generated<HostStatus>;
  address: Generated<string>;
  arch: Generated<string>;
  cpu_cores: Generated<number>;
  memory_mib: Generated<number>;
  disk_gib: Generated<number>;
  agent_version: Generated<string>;
  epoch: Generated<number>;
  last_heartbeat_at: NullableTimestamp;
  created_at: Timestamp;
  updated_at: Timestamp;
}

export interface HostTokenTable {
  id: Id<'hostToken'>;
  host_id: HostId;
  token_hash: string;
  expires_at: Date;
  used_at: NullableTimestamp;
  created_at: Timestamp;
}

export interface HostRefreshTokenTable {
  id: Id<'refreshToken'>;
  host_id: HostId;
  token_hash: string;
  expires_at: Date;
  revoked_at: NullableTimestamp;
  created_at: Timestamp;
}

export interface TemplateTable {
  team_id: TeamId;
  id: TemplateId;
  name: string;
  kind: 'base' | 'snapshot';
  status: Generated<'creating' | 'ready' | 'deleting' | 'error'>;
  status_reason: string | null;
  vcpus: number;
  memory_mib: number;
  disk_mib: number;
  size_bytes: Generated<number>;
  host_id: HostId | null;
  created_at: Timestamp;
}

export interface SandboxTable {
  id: SandboxId;
  team_id: TeamId;
  host_id: HostId;
  template_team_id: TeamId;
  template_id: TemplateId;
  template_name: string;
  status: SandboxStatus;
  status_reason: string | null;
  revision: Generated<number>;
  run: Generated<number>;
  event_sequence: Generated<number>;
  status_changed_at: Timestamp;
  vcpus: number;
  memory_mib: number;
  disk_mib: number;
  timeout_sec: number;
  metadata: Json<Record<string, string>>;
  start_path: string | null;
  generation_id: GenerationId | null;
  last_activity: string | null;
  created_at: Timestamp;
  started_at: NullableTimestamp;
  last_active_at: NullableTimestamp;
  updated_at: Timestamp;
}

export interface GenerationTable {
  id: GenerationId;
  sandbox_id: SandboxId;
  parent_id: GenerationId | null;
  name: string | null;
  pinned: Generated<boolean>;
  cause: string;
  has_memory: boolean;
  memory_bytes: number;
  disk_bytes: number;
  created_at: Date;
}

export interface OperationTable {
  id: OperationId;
  team_id: TeamId;
  sandbox_id: SandboxId | null;
  subject_type: 'sandbox' | 'template' | 'host';
  subject_id: string;
  kind: string;
  payload: Json<object>;
  request_id: string | null;
  state: 'running' | 'succeeded' | 'failed' | 'superseded';
  lease_owner: string;
  lease_until: Date;
  attempts: Generated<number>;
  error: ColumnType<
    { code: string; message: string; details?: Record<string, unknown> } | null,
    string | null | undefined,
    string | null
  >;
  result: ColumnType<object | null, string | null | undefined, string | null>;
  phases: Json<{ name: string; ms: number }[]>;
  created_at: Timestamp;
  finished_at: NullableTimestamp;
}

export interface OutboxEventTable {
  seq: Generated<number>;
  event_id: EventId;
  team_id: TeamId;
  sandbox_id: SandboxId | null;
  type: string;
  payload: RequiredJson<object>;
  created_at: Timestamp;
  published_at: NullableTimestamp;
  position: Generated<number>;
}

export interface EventConsumerTable {
  name: string;
  position: number;
  last: string;
}

export interface IdempotencyKeyTable {
  team_id: TeamId;
  key: string;
  request_hash: string;
  response_status: number | null;
  response_body: ColumnType<unknown, string | null | undefined, string | null>;
  operation_id: OperationId | null;
  lease_owner: string | null;
  lease_until: NullableTimestamp;
  created_at: Timestamp;
}

/** Every table of the control plane, as `schema.sql` shows them. */
export interface Tables {
  teams: TeamTable;
  api_keys: ApiKeyTable;
  users: UserTable;
  team_members: TeamMemberTable;
  team_invitations: TeamInvitationTable;
  sessions: SessionTable;
  session_tokens: SessionTokenTable;
  one_time_tokens: OneTimeTokenTable;
  mails: MailTable;
  totp_factors: TotpFactorTable;
  recovery_codes: RecoveryCodeTable;
  log_in_challenges: LogInChallengeTable;
  identities: IdentityTable;
  sign_in_attempts: SignInAttemptTable;
  sign_in_codes: SignInCodeTable;
  passkeys: PasskeyTable;
  team_quotas: TeamQuotaTable;
  signing_keys: SigningKeyTable;
  audit_logs: AuditLogTable;
  hosts: HostTable;
  host_tokens: HostTokenTable;
  host_refresh_tokens: HostRefreshTokenTable;
  templates: TemplateTable;
  sandboxes: SandboxTable;
  generations: GenerationTable;
  operations: OperationTable;
  outbox_events: OutboxEventTable;
  event_consumers: EventConsumerTable;
  idempotency_keys: IdempotencyKeyTable;
}
