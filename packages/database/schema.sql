CREATE TABLE api_keys (
  id uuid NOT NULL,
  team_id uuid NOT NULL,
  name text NOT NULL,
  key_hash text NOT NULL,
  key_prefix text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  expires_at timestamp with time zone,
  last_used_at timestamp with time zone,
  scopes jsonb NOT NULL DEFAULT '["sandboxes", "templates"]'::jsonb,
  created_by uuid,
  revoked_at timestamp with time zone,
  CONSTRAINT api_keys_created_by_fkey FOREIGN KEY (created_by) REFERENCES users(id) ON DELETE SET NULL,
  CONSTRAINT api_keys_key_hash_key UNIQUE (key_hash),
  CONSTRAINT api_keys_pkey PRIMARY KEY (id),
  CONSTRAINT api_keys_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id)
);
CREATE INDEX api_keys_creator ON public.api_keys USING btree (created_by) WHERE (created_by IS NOT NULL);
CREATE INDEX api_keys_team ON public.api_keys USING btree (team_id);

CREATE TABLE audit_logs (
  id uuid NOT NULL,
  team_id uuid NOT NULL,
  actor_type text NOT NULL,
  actor_id text,
  resource_type text NOT NULL,
  resource_id text,
  action text NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  actor_name text NOT NULL DEFAULT ''::text,
  scope text NOT NULL DEFAULT 'team'::text,
  status text NOT NULL DEFAULT 'success'::text,
  position bigint NOT NULL DEFAULT ((pg_current_xact_id())::text)::bigint,
  CONSTRAINT audit_logs_actor_type_check CHECK ((actor_type = ANY (ARRAY['user'::text, 'api_key'::text, 'host'::text, 'system'::text]))),
  CONSTRAINT audit_logs_pkey PRIMARY KEY (id),
  CONSTRAINT audit_logs_scope_check CHECK ((scope = ANY (ARRAY['team'::text, 'admin'::text]))),
  CONSTRAINT audit_logs_status_check CHECK ((status = ANY (ARRAY['success'::text, 'info'::text, 'warning'::text, 'error'::text])))
);
CREATE INDEX audit_logs_about_person ON public.audit_logs USING btree (resource_id) WHERE (resource_type = ANY (ARRAY['user'::text, 'member'::text]));
CREATE INDEX audit_logs_all ON public.audit_logs USING btree ("position", id);
CREATE INDEX audit_logs_email ON public.audit_logs USING btree (lower((metadata ->> 'email'::text))) WHERE ((metadata ->> 'email'::text) IS NOT NULL);
CREATE INDEX audit_logs_person ON public.audit_logs USING btree (actor_id) WHERE (actor_type = 'user'::text);
CREATE INDEX audit_logs_position ON public.audit_logs USING btree (team_id, "position" DESC, id DESC);

CREATE TABLE event_consumers (
  name text NOT NULL,
  position bigint NOT NULL,
  last text NOT NULL,
  CONSTRAINT event_consumers_pkey PRIMARY KEY (name)
);

CREATE TABLE generations (
  id uuid NOT NULL,
  sandbox_id uuid NOT NULL,
  parent_id uuid,
  name text,
  pinned boolean NOT NULL DEFAULT false,
  cause text NOT NULL,
  has_memory boolean NOT NULL,
  memory_bytes bigint NOT NULL,
  disk_bytes bigint NOT NULL,
  created_at timestamp with time zone NOT NULL,
  CONSTRAINT generations_pkey PRIMARY KEY (id),
  CONSTRAINT generations_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX generations_name ON public.generations USING btree (sandbox_id, name);
CREATE INDEX generations_sandbox ON public.generations USING btree (sandbox_id, created_at);

CREATE TABLE host_refresh_tokens (
  id uuid NOT NULL,
  host_id uuid NOT NULL,
  token_hash text NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  revoked_at timestamp with time zone,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT host_refresh_tokens_host_id_fkey FOREIGN KEY (host_id) REFERENCES hosts(id) ON DELETE CASCADE,
  CONSTRAINT host_refresh_tokens_pkey PRIMARY KEY (id),
  CONSTRAINT host_refresh_tokens_token_hash_key UNIQUE (token_hash)
);
CREATE INDEX host_refresh_tokens_host ON public.host_refresh_tokens USING btree (host_id);

CREATE TABLE host_tokens (
  id uuid NOT NULL,
  host_id uuid NOT NULL,
  token_hash text NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  used_at timestamp with time zone,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT host_tokens_host_id_fkey FOREIGN KEY (host_id) REFERENCES hosts(id) ON DELETE CASCADE,
  CONSTRAINT host_tokens_pkey PRIMARY KEY (id),
  CONSTRAINT host_tokens_token_hash_key UNIQUE (token_hash)
);
CREATE INDEX host_tokens_host ON public.host_tokens USING btree (host_id);

CREATE TABLE hosts (
  id uuid NOT NULL,
  team_id uuid,
  status text NOT NULL DEFAULT 'pending'::text,
  address text NOT NULL DEFAULT ''::text,
  arch text NOT NULL DEFAULT ''::text,
  cpu_cores integer NOT NULL DEFAULT 0,
  memory_mib integer NOT NULL DEFAULT 0,
  disk_gib integer NOT NULL DEFAULT 0,
  agent_version text NOT NULL DEFAULT ''::text,
  epoch integer NOT NULL DEFAULT 0,
  last_heartbeat_at timestamp with time zone,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  updated_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT hosts_pkey PRIMARY KEY (id),
  CONSTRAINT hosts_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'online'::text, 'unreachable'::text, 'draining'::text]))),
  CONSTRAINT hosts_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id)
);
CREATE INDEX hosts_status ON public.hosts USING btree (status);

CREATE TABLE idempotency_keys (
  team_id uuid NOT NULL,
  key text NOT NULL,
  request_hash text NOT NULL,
  response_status integer,
  response_body jsonb,
  operation_id uuid,
  lease_owner uuid,
  lease_until timestamp with time zone,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT idempotency_keys_pkey PRIMARY KEY (team_id, key),
  CONSTRAINT idempotency_keys_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id)
);
CREATE INDEX idempotency_keys_created ON public.idempotency_keys USING btree (created_at);
CREATE INDEX idempotency_keys_leased ON public.idempotency_keys USING btree (lease_owner) WHERE (response_status IS NULL);

CREATE TABLE identities (
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  issuer text NOT NULL,
  subject text NOT NULL,
  email text,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  last_used_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT identities_pkey PRIMARY KEY (id),
  CONSTRAINT identities_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX identities_subject ON public.identities USING btree (issuer, subject);
CREATE INDEX identities_user ON public.identities USING btree (user_id);

CREATE TABLE log_in_challenges (
  token_hash text NOT NULL,
  purpose text NOT NULL,
  user_id uuid,
  method text,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  expires_at timestamp with time zone NOT NULL,
  CONSTRAINT log_in_challenges_pkey PRIMARY KEY (token_hash),
  CONSTRAINT log_in_challenges_purpose_check CHECK ((purpose = ANY (ARRAY['second_factor'::text, 'passkey_registration'::text, 'passkey_log_in'::text]))),
  CONSTRAINT log_in_challenges_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE INDEX log_in_challenges_expiry ON public.log_in_challenges USING btree (expires_at);
CREATE INDEX log_in_challenges_user ON public.log_in_challenges USING btree (user_id);

CREATE TABLE mails (
  id uuid NOT NULL,
  kind text NOT NULL,
  email text NOT NULL,
  email_key text NOT NULL,
  subject_id uuid NOT NULL,
  payload jsonb NOT NULL DEFAULT '{}'::jsonb,
  state text NOT NULL DEFAULT 'waiting'::text,
  attempts integer NOT NULL DEFAULT 0,
  next_attempt_at timestamp with time zone NOT NULL,
  last_error text,
  created_at timestamp with time zone NOT NULL,
  expires_at timestamp with time zone NOT NULL,
  CONSTRAINT mails_kind_email_key_subject_id_key UNIQUE (kind, email_key, subject_id),
  CONSTRAINT mails_pkey PRIMARY KEY (id),
  CONSTRAINT mails_state_check CHECK ((state = ANY (ARRAY['waiting'::text, 'logged'::text, 'failed'::text])))
);
CREATE INDEX mails_due ON public.mails USING btree (next_attempt_at) WHERE (state = 'waiting'::text);
CREATE INDEX mails_expiry ON public.mails USING btree (expires_at);

CREATE TABLE one_time_tokens (
  token_hash text NOT NULL,
  purpose text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  expires_at timestamp with time zone NOT NULL,
  user_id uuid,
  is_mailed boolean NOT NULL DEFAULT false,
  CONSTRAINT one_time_tokens_pkey PRIMARY KEY (token_hash),
  CONSTRAINT one_time_tokens_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE INDEX one_time_tokens_expiry ON public.one_time_tokens USING btree (expires_at);
CREATE INDEX one_time_tokens_user ON public.one_time_tokens USING btree (user_id);

CREATE TABLE operations (
  id uuid NOT NULL,
  team_id uuid NOT NULL,
  sandbox_id uuid,
  subject_type text NOT NULL,
  subject_id uuid NOT NULL,
  kind text NOT NULL,
  payload jsonb NOT NULL DEFAULT '{}'::jsonb,
  request_id text,
  state text NOT NULL,
  lease_owner uuid NOT NULL,
  lease_until timestamp with time zone NOT NULL,
  attempts integer NOT NULL DEFAULT 1,
  error jsonb,
  result jsonb,
  phases jsonb NOT NULL DEFAULT '[]'::jsonb,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  finished_at timestamp with time zone,
  CONSTRAINT operations_pkey PRIMARY KEY (id),
  CONSTRAINT operations_sandbox_id_fkey FOREIGN KEY (sandbox_id) REFERENCES sandboxes(id) ON DELETE CASCADE,
  CONSTRAINT operations_state_check CHECK ((state = ANY (ARRAY['running'::text, 'succeeded'::text, 'failed'::text, 'superseded'::text]))),
  CONSTRAINT operations_subject_type_check CHECK ((subject_type = ANY (ARRAY['sandbox'::text, 'template'::text, 'host'::text]))),
  CONSTRAINT operations_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id)
);
CREATE INDEX operations_finished ON public.operations USING btree (finished_at) WHERE (state <> 'running'::text);
CREATE INDEX operations_running ON public.operations USING btree (lease_until) WHERE (state = 'running'::text);
CREATE INDEX operations_sandbox ON public.operations USING btree (sandbox_id) WHERE (state = 'running'::text);
CREATE INDEX operations_sandbox_all ON public.operations USING btree (sandbox_id, id DESC);

CREATE TABLE outbox_events (
  seq bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  event_id uuid NOT NULL,
  team_id uuid NOT NULL,
  sandbox_id uuid,
  type text NOT NULL,
  payload jsonb NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  published_at timestamp with time zone,
  position bigint NOT NULL DEFAULT ((pg_current_xact_id())::text)::bigint,
  CONSTRAINT outbox_events_event_id_key UNIQUE (event_id),
  CONSTRAINT outbox_events_pkey PRIMARY KEY (seq)
);
CREATE INDEX outbox_events_position ON public.outbox_events USING btree ("position", seq);
CREATE INDEX outbox_events_unpublished ON public.outbox_events USING btree (seq) WHERE (published_at IS NULL);

CREATE TABLE passkeys (
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  name text NOT NULL,
  credential_id text NOT NULL,
  public_key text NOT NULL,
  counter bigint NOT NULL,
  transports jsonb NOT NULL DEFAULT '[]'::jsonb,
  is_synced boolean NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  last_used_at timestamp with time zone,
  CONSTRAINT passkeys_credential_id_key UNIQUE (credential_id),
  CONSTRAINT passkeys_pkey PRIMARY KEY (id),
  CONSTRAINT passkeys_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE INDEX passkeys_user ON public.passkeys USING btree (user_id);

CREATE TABLE recovery_codes (
  user_id uuid NOT NULL,
  code_hash text NOT NULL,
  CONSTRAINT recovery_codes_pkey PRIMARY KEY (user_id, code_hash),
  CONSTRAINT recovery_codes_user_id_fkey FOREIGN KEY (user_id) REFERENCES totp_factors(user_id) ON DELETE CASCADE
);

CREATE TABLE sandboxes (
  id uuid NOT NULL,
  team_id uuid NOT NULL,
  host_id uuid NOT NULL,
  template_team_id uuid NOT NULL,
  template_id uuid NOT NULL,
  template_name text NOT NULL,
  status text NOT NULL,
  status_reason text,
  revision bigint NOT NULL DEFAULT 1,
  run integer NOT NULL DEFAULT 0,
  event_sequence bigint NOT NULL DEFAULT 0,
  status_changed_at timestamp with time zone NOT NULL DEFAULT now(),
  vcpus integer NOT NULL,
  memory_mib integer NOT NULL,
  disk_mib integer NOT NULL,
  timeout_sec integer NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}'::jsonb,
  start_path text,
  generation_id uuid,
  last_activity text,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  started_at timestamp with time zone,
  last_active_at timestamp with time zone,
  updated_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT sandboxes_host_id_fkey FOREIGN KEY (host_id) REFERENCES hosts(id),
  CONSTRAINT sandboxes_pkey PRIMARY KEY (id),
  CONSTRAINT sandboxes_status_check CHECK ((status = ANY (ARRAY['pending'::text, 'starting'::text, 'running'::text, 'pausing'::text, 'paused'::text, 'resuming'::text, 'hibernated'::text, 'stopping'::text, 'stopped'::text, 'missing'::text, 'error'::text]))),
  CONSTRAINT sandboxes_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id)
);
CREATE INDEX sandboxes_host_live ON public.sandboxes USING btree (host_id) WHERE (status <> 'stopped'::text);
CREATE INDEX sandboxes_team ON public.sandboxes USING btree (team_id, id DESC);
CREATE INDEX sandboxes_team_status ON public.sandboxes USING btree (team_id, status, id DESC);

CREATE TABLE schema_migrations (
  owner text NOT NULL,
  name text NOT NULL,
  checksum text NOT NULL,
  applied_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT schema_migrations_pkey PRIMARY KEY (owner, name)
);

CREATE TABLE session_tokens (
  token_hash text NOT NULL,
  session_id uuid NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  used_at timestamp with time zone,
  CONSTRAINT session_tokens_pkey PRIMARY KEY (token_hash),
  CONSTRAINT session_tokens_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);
CREATE INDEX session_tokens_session ON public.session_tokens USING btree (session_id);

CREATE TABLE sessions (
  id uuid NOT NULL,
  user_id uuid NOT NULL,
  user_agent text NOT NULL DEFAULT ''::text,
  ip_address text NOT NULL DEFAULT ''::text,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  last_seen_at timestamp with time zone NOT NULL DEFAULT now(),
  expires_at timestamp with time zone NOT NULL,
  revoked_at timestamp with time zone,
  revoke_reason text,
  team_id uuid,
  CONSTRAINT sessions_pkey PRIMARY KEY (id),
  CONSTRAINT sessions_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id) ON DELETE SET NULL,
  CONSTRAINT sessions_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE INDEX sessions_expiry ON public.sessions USING btree (expires_at);
CREATE INDEX sessions_revoked ON public.sessions USING btree (revoked_at) WHERE (revoked_at IS NOT NULL);
CREATE INDEX sessions_user ON public.sessions USING btree (user_id);

CREATE TABLE sign_in_attempts (
  state_hash text NOT NULL,
  browser_hash text NOT NULL,
  provider text NOT NULL,
  nonce text NOT NULL,
  code_verifier text NOT NULL,
  return_to text NOT NULL,
  code_challenge text,
  session_id uuid,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  expires_at timestamp with time zone NOT NULL,
  CONSTRAINT sign_in_attempts_pkey PRIMARY KEY (state_hash),
  CONSTRAINT sign_in_attempts_session_id_fkey FOREIGN KEY (session_id) REFERENCES sessions(id) ON DELETE CASCADE
);
CREATE INDEX sign_in_attempts_expiry ON public.sign_in_attempts USING btree (expires_at);
CREATE INDEX sign_in_attempts_session ON public.sign_in_attempts USING btree (session_id);

CREATE TABLE sign_in_codes (
  code_hash text NOT NULL,
  user_id uuid NOT NULL,
  provider text NOT NULL,
  browser_hash text,
  code_challenge text,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  expires_at timestamp with time zone NOT NULL,
  CONSTRAINT sign_in_codes_pkey PRIMARY KEY (code_hash),
  CONSTRAINT sign_in_codes_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE INDEX sign_in_codes_expiry ON public.sign_in_codes USING btree (expires_at);
CREATE INDEX sign_in_codes_user ON public.sign_in_codes USING btree (user_id);

CREATE TABLE signing_keys (
  id uuid NOT NULL,
  public_jwk jsonb NOT NULL,
  private_jwk jsonb NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT signing_keys_pkey PRIMARY KEY (id)
);

CREATE TABLE team_invitations (
  id uuid NOT NULL,
  team_id uuid NOT NULL,
  email text NOT NULL,
  email_key text NOT NULL,
  role text NOT NULL,
  token_hash text NOT NULL,
  invited_by uuid,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  expires_at timestamp with time zone NOT NULL,
  accepted_at timestamp with time zone,
  revoked_at timestamp with time zone,
  CONSTRAINT team_invitations_invited_by_fkey FOREIGN KEY (invited_by) REFERENCES users(id) ON DELETE SET NULL,
  CONSTRAINT team_invitations_pkey PRIMARY KEY (id),
  CONSTRAINT team_invitations_role_check CHECK ((role = ANY (ARRAY['admin'::text, 'member'::text]))),
  CONSTRAINT team_invitations_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id),
  CONSTRAINT team_invitations_token_hash_key UNIQUE (token_hash)
);
CREATE INDEX team_invitations_email ON public.team_invitations USING btree (email_key);
CREATE INDEX team_invitations_inviter ON public.team_invitations USING btree (invited_by);
CREATE UNIQUE INDEX team_invitations_open ON public.team_invitations USING btree (team_id, email_key) WHERE ((accepted_at IS NULL) AND (revoked_at IS NULL));

CREATE TABLE team_members (
  team_id uuid NOT NULL,
  user_id uuid NOT NULL,
  role text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT team_members_pkey PRIMARY KEY (team_id, user_id),
  CONSTRAINT team_members_role_check CHECK ((role = ANY (ARRAY['owner'::text, 'admin'::text, 'member'::text]))),
  CONSTRAINT team_members_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id),
  CONSTRAINT team_members_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);
CREATE UNIQUE INDEX team_members_owner ON public.team_members USING btree (team_id) WHERE (role = 'owner'::text);
CREATE INDEX team_members_user ON public.team_members USING btree (user_id);

CREATE TABLE team_quotas (
  team_id uuid NOT NULL,
  sandboxes integer,
  vcpus integer,
  memory_mib integer,
  disk_mib integer,
  templates integer,
  updated_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT team_quotas_pkey PRIMARY KEY (team_id),
  CONSTRAINT team_quotas_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id)
);

CREATE TABLE teams (
  id uuid NOT NULL,
  name text NOT NULL,
  slug text NOT NULL,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  deleted_at timestamp with time zone,
  cleared_at timestamp with time zone,
  CONSTRAINT teams_pkey PRIMARY KEY (id),
  CONSTRAINT teams_slug_key UNIQUE (slug)
);
CREATE INDEX teams_uncleared ON public.teams USING btree (deleted_at) WHERE ((deleted_at IS NOT NULL) AND (cleared_at IS NULL));

CREATE TABLE templates (
  team_id uuid NOT NULL,
  id uuid NOT NULL,
  name text NOT NULL,
  kind text NOT NULL,
  status text NOT NULL DEFAULT 'ready'::text,
  status_reason text,
  vcpus integer NOT NULL,
  memory_mib integer NOT NULL,
  disk_mib integer NOT NULL,
  size_bytes bigint NOT NULL DEFAULT 0,
  host_id uuid,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT templates_host_id_fkey FOREIGN KEY (host_id) REFERENCES hosts(id),
  CONSTRAINT templates_kind_check CHECK ((kind = ANY (ARRAY['base'::text, 'snapshot'::text]))),
  CONSTRAINT templates_pkey PRIMARY KEY (team_id, id),
  CONSTRAINT templates_status_check CHECK ((status = ANY (ARRAY['creating'::text, 'ready'::text, 'deleting'::text, 'error'::text]))),
  CONSTRAINT templates_team_id_fkey FOREIGN KEY (team_id) REFERENCES teams(id)
);
CREATE UNIQUE INDEX templates_name ON public.templates USING btree (team_id, name);

CREATE TABLE totp_factors (
  user_id uuid NOT NULL,
  sealed_secret text NOT NULL,
  confirmed_at timestamp with time zone,
  last_step bigint NOT NULL DEFAULT 0,
  failures integer NOT NULL DEFAULT 0,
  failures_since timestamp with time zone,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  CONSTRAINT totp_factors_pkey PRIMARY KEY (user_id),
  CONSTRAINT totp_factors_user_id_fkey FOREIGN KEY (user_id) REFERENCES users(id) ON DELETE CASCADE
);

CREATE TABLE users (
  id uuid NOT NULL,
  email text NOT NULL,
  email_key text NOT NULL,
  name text NOT NULL,
  password_hash text,
  is_admin boolean NOT NULL DEFAULT false,
  status text NOT NULL DEFAULT 'active'::text,
  email_verified_at timestamp with time zone,
  created_at timestamp with time zone NOT NULL DEFAULT now(),
  updated_at timestamp with time zone NOT NULL DEFAULT now(),
  deleted_at timestamp with time zone,
  pause_until timestamp with time zone,
  CONSTRAINT users_pkey PRIMARY KEY (id),
  CONSTRAINT users_status_check CHECK ((status = ANY (ARRAY['active'::text, 'deactivated'::text, 'deleted'::text])))
);
CREATE INDEX users_deleted ON public.users USING btree (deleted_at) WHERE (status = 'deleted'::text);
CREATE UNIQUE INDEX users_email ON public.users USING btree (email_key) WHERE (status <> 'deleted'::text);
CREATE INDEX users_email_prefix ON public.users USING btree (email_key text_pattern_ops);
CREATE INDEX users_pausing ON public.users USING btree (pause_until) WHERE (pause_until IS NOT NULL);
