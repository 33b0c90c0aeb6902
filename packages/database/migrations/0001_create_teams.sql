CREATE TABLE teams (
  id uuid PRIMARY KEY,
  name text NOT NULL,
  slug text NOT NULL UNIQUE,
  created_at timestamptz NOT NULL DEFAULT now(),
  deleted_at timestamptz
);

-- The platform's own team: what it owns, every team sees.
INSERT INTO teams (id, name, slug) VALUES ('00000000-0000-0000-0000-000000000000', 'Platform', 'platform');

CREATE TABLE api_keys (
  id uuid PRIMARY KEY,
  team_id uuid NOT NULL REFERENCES teams (id),
  name text NOT NULL,
  -- SHA-256 of the whole key, hex. The key itself is shown once and kept nowhere.
  key_hash text NOT NULL UNIQUE,
  key_prefix text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz,
  -- Written at most once in a few minutes, so that reading a key does not cost a write.
  last_used_at timestamptz
);
CREATE INDEX api_keys_team ON api_keys (team_id);

CREATE TABLE signing_keys (
  id uuid PRIMARY KEY,
  public_jwk jsonb NOT NULL,
  private_jwk jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE audit_logs (
  id uuid PRIMARY KEY,
  team_id uuid NOT NULL,
  actor_type text NOT NULL CHECK (actor_type IN ('api_key', 'host', 'system')),
  actor_id text,
  resource_type text NOT NULL,
  resource_id text,
  action text NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}',
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX audit_logs_team ON audit_logs (team_id, id DESC);
