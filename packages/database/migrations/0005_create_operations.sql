-- Accepted commands. A row outlives the replica that accepted it: whoever holds the lease carries it out.
CREATE TABLE operations (
  id uuid PRIMARY KEY,
  team_id uuid NOT NULL REFERENCES teams (id),
  sandbox_id uuid REFERENCES sandboxes (id) ON DELETE CASCADE,
  kind text NOT NULL,
  payload jsonb NOT NULL DEFAULT '{}',
  state text NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'superseded')),
  lease_owner uuid NOT NULL,
  lease_until timestamptz NOT NULL,
  attempts integer NOT NULL DEFAULT 1,
  error jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
);
CREATE INDEX operations_running ON operations (lease_until) WHERE state = 'running';
CREATE INDEX operations_sandbox ON operations (sandbox_id) WHERE state = 'running';

-- What happened, written with the change itself; relayed to the event stream in order of `seq`.
CREATE TABLE outbox_events (
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  event_id uuid NOT NULL UNIQUE,
  team_id uuid NOT NULL,
  sandbox_id uuid,
  type text NOT NULL,
  payload jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  published_at timestamptz
);
CREATE INDEX outbox_events_unpublished ON outbox_events (seq) WHERE published_at IS NULL;

-- Events from host agents that were applied: they come at least once.
CREATE TABLE host_events (
  host_id uuid NOT NULL REFERENCES hosts (id) ON DELETE CASCADE,
  event_id text NOT NULL,
  received_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (host_id, event_id)
);
CREATE INDEX host_events_received ON host_events (received_at);

CREATE TABLE idempotency_keys (
  team_id uuid NOT NULL REFERENCES teams (id),
  key text NOT NULL,
  request_hash text NOT NULL,
  -- NULL while the first request is still being carried out.
  response_status integer,
  response_body jsonb,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (team_id, key)
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);
