CREATE TABLE hosts (
  id uuid PRIMARY KEY,
  -- Set for a host that a team brings itself; NULL means the platform's, open to all.
  team_id uuid REFERENCES teams (id),
  status text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'online', 'unreachable', 'draining')),
  address text NOT NULL DEFAULT '',
  arch text NOT NULL DEFAULT '',
  cpu_cores integer NOT NULL DEFAULT 0,
  memory_mib integer NOT NULL DEFAULT 0,
  disk_gib integer NOT NULL DEFAULT 0,
  agent_version text NOT NULL DEFAULT '',
  -- Grows at every registration; the agent refuses commands that carry an older one.
  epoch integer NOT NULL DEFAULT 0,
  last_heartbeat_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX hosts_status ON hosts (status);

-- One-time registration tokens.
CREATE TABLE host_tokens (
  id uuid PRIMARY KEY,
  host_id uuid NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
  token_hash text NOT NULL UNIQUE,
  expires_at timestamptz NOT NULL,
  used_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX host_tokens_host ON host_tokens (host_id);

CREATE TABLE host_refresh_tokens (
  id uuid PRIMARY KEY,
  host_id uuid NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
  token_hash text NOT NULL UNIQUE,
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX host_refresh_tokens_host ON host_refresh_tokens (host_id);
