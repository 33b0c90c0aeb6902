CREATE TABLE users (
  id uuid PRIMARY KEY,
  -- As it was typed. Two addresses are one when their `email_key` is.
  email text NOT NULL,
  email_key text NOT NULL,
  name text NOT NULL,
  -- argon2id in the PHC string form; null for one who signs in otherwise.
  password_hash text,
  is_admin boolean NOT NULL DEFAULT false,
  status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'deactivated', 'deleted')),
  email_verified_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz
);
CREATE UNIQUE INDEX users_email ON users (email_key) WHERE status <> 'deleted';
CREATE INDEX users_email_prefix ON users (email_key text_pattern_ops);
CREATE INDEX users_deleted ON users (deleted_at) WHERE status = 'deleted';

CREATE TABLE team_members (
  team_id uuid NOT NULL REFERENCES teams (id),
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  role text NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (team_id, user_id)
);
CREATE UNIQUE INDEX team_members_owner ON team_members (team_id) WHERE role = 'owner';
CREATE INDEX team_members_user ON team_members (user_id);

CREATE TABLE team_invitations (
  id uuid PRIMARY KEY,
  team_id uuid NOT NULL REFERENCES teams (id),
  email text NOT NULL,
  email_key text NOT NULL,
  role text NOT NULL CHECK (role IN ('admin', 'member')),
  -- SHA-256 of the link's token, hex.
  token_hash text NOT NULL UNIQUE,
  invited_by uuid REFERENCES users (id) ON DELETE SET NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  accepted_at timestamptz,
  revoked_at timestamptz
);
CREATE UNIQUE INDEX team_invitations_open ON team_invitations (team_id, email_key) WHERE accepted_at IS NULL AND revoked_at IS NULL;

-- One per log-in. Its refresh tokens are a family: only the newest is good, and one that was used is a sign of theft.
CREATE TABLE sessions (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  user_agent text NOT NULL DEFAULT '',
  ip_address text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT now(),
  last_seen_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz,
  revoke_reason text
);
CREATE INDEX sessions_user ON sessions (user_id);

CREATE TABLE session_tokens (
  -- SHA-256 of the refresh token, hex.
  token_hash text PRIMARY KEY,
  session_id uuid NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(),
  used_at timestamptz
);
CREATE INDEX session_tokens_session ON session_tokens (session_id);

-- What a code is good for: once, until it expires.
CREATE TABLE one_time_tokens (
  token_hash text PRIMARY KEY,
  purpose text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX one_time_tokens_expiry ON one_time_tokens (expires_at);

ALTER TABLE api_keys
  ADD COLUMN scopes jsonb NOT NULL DEFAULT '["sandboxes","templates"]',
  ADD COLUMN created_by uuid REFERENCES users (id) ON DELETE SET NULL,
  -- A key that is revoked stays, so that its use is told.
  ADD COLUMN revoked_at timestamptz;

-- What a team may have at once; null is as much as there is.
CREATE TABLE team_quotas (
  team_id uuid PRIMARY KEY REFERENCES teams (id),
  sandboxes integer,
  vcpus integer,
  memory_mib integer,
  disk_mib integer,
  templates integer,
  updated_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE audit_logs
  DROP CONSTRAINT audit_logs_actor_type_check,
  ADD CONSTRAINT audit_logs_actor_type_check CHECK (actor_type IN ('user', 'api_key', 'host', 'system')),
  -- As it was then.
  ADD COLUMN actor_name text NOT NULL DEFAULT '',
  -- `admin`: for those who run the team alone.
  ADD COLUMN scope text NOT NULL DEFAULT 'team' CHECK (scope IN ('team', 'admin')),
  ADD COLUMN status text NOT NULL DEFAULT 'success' CHECK (status IN ('success', 'info', 'warning', 'error'));

-- Nobody changes or removes what was told. A person who is gone may be taken out of it, and nothing else.
CREATE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.actor_name = 'deleted user' AND NEW.actor_id IS NULL
    AND (NEW.id, NEW.team_id, NEW.actor_type, NEW.resource_type, NEW.action, NEW.scope, NEW.status, NEW.created_at)
      = (OLD.id, OLD.team_id, OLD.actor_type, OLD.resource_type, OLD.action, OLD.scope, OLD.status, OLD.created_at) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'the audit log is append-only';
END
$$;
CREATE TRIGGER audit_logs_append_only BEFORE UPDATE OR DELETE ON audit_logs
  FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_logs_never_emptied BEFORE TRUNCATE ON audit_logs
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();
