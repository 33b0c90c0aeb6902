CREATE TABLE sandboxes (
  id uuid PRIMARY KEY,
  team_id uuid NOT NULL REFERENCES teams (id),
  host_id uuid NOT NULL REFERENCES hosts (id),
  -- No foreign key: a template may be deleted while sandboxes made from it live on.
  template_team_id uuid NOT NULL,
  template_id uuid NOT NULL,
  template_name text NOT NULL,
  status text NOT NULL CHECK (status IN ('pending', 'starting', 'running', 'pausing', 'paused', 'resuming', 'hibernated', 'stopping', 'stopped', 'missing', 'error')),
  status_reason text,
  -- Counts status writes; every one names the revision it saw, so that of two racing writes one loses.
  revision bigint NOT NULL DEFAULT 1,
  -- What hosts tell is ordered by the sandbox's run and the host's own numbers, whatever either clock says. An event is news when its run is
  -- not older than `run`, and its number is above `event_sequence`: the number up to which the host was heard about the sandbox.
  run integer NOT NULL DEFAULT 0,
  event_sequence bigint NOT NULL DEFAULT 0,
  status_changed_at timestamptz NOT NULL DEFAULT now(),
  vcpus integer NOT NULL,
  memory_mib integer NOT NULL,
  disk_mib integer NOT NULL,
  timeout_sec integer NOT NULL,
  metadata jsonb NOT NULL DEFAULT '{}',
  start_path text,
  generation_id uuid,
  last_activity text,
  created_at timestamptz NOT NULL DEFAULT now(),
  started_at timestamptz,
  last_active_at timestamptz,
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX sandboxes_team ON sandboxes (team_id, id DESC);
CREATE INDEX sandboxes_team_status ON sandboxes (team_id, status, id DESC);
CREATE INDEX sandboxes_host_live ON sandboxes (host_id) WHERE status <> 'stopped';

-- The tree of saved states. The host agent owns the files; this is what users see, name and go back to.
CREATE TABLE generations (
  id uuid PRIMARY KEY,
  sandbox_id uuid NOT NULL REFERENCES sandboxes (id) ON DELETE CASCADE,
  parent_id uuid,
  name text,
  pinned boolean NOT NULL DEFAULT false,
  cause text NOT NULL,
  has_memory boolean NOT NULL,
  memory_bytes bigint NOT NULL,
  disk_bytes bigint NOT NULL,
  created_at timestamptz NOT NULL
);
CREATE INDEX generations_sandbox ON generations (sandbox_id, created_at);
CREATE UNIQUE INDEX generations_name ON generations (sandbox_id, name);
