-- Accepted commands. A row outlives the replica that accepted it: whoever holds the lease carries it out.
CREATE TABLE operations (
  id uuid PRIMARY KEY,
  team_id uuid NOT NULL REFERENCES teams (id),
  -- The sandbox that it works on, if any; a snapshot's source, although the snapshot is the subject.
  sandbox_id uuid REFERENCES sandboxes (id) ON DELETE CASCADE,
  subject_type text NOT NULL CHECK (subject_type IN ('sandbox', 'template', 'host')),
  subject_id uuid NOT NULL,
  kind text NOT NULL,
  payload jsonb NOT NULL DEFAULT '{}',
  -- The request that asked for it: joins the lines of all logs.
  request_id text,
  state text NOT NULL CHECK (state IN ('running', 'succeeded', 'failed', 'superseded')),
  lease_owner uuid NOT NULL,
  lease_until timestamptz NOT NULL,
  attempts integer NOT NULL DEFAULT 1,
  error jsonb,
  -- What the command answers to those who wait for it.
  result jsonb,
  -- [{ name, ms }] in the order of the steps.
  phases jsonb NOT NULL DEFAULT '[]',
  created_at timestamptz NOT NULL DEFAULT now(),
  finished_at timestamptz
);
CREATE INDEX operations_running ON operations (lease_until) WHERE state = 'running';
CREATE INDEX operations_sandbox ON operations (sandbox_id) WHERE state = 'running';
CREATE INDEX operations_sandbox_all ON operations (sandbox_id, id DESC);
CREATE INDEX operations_finished ON operations (finished_at) WHERE state <> 'running';

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

CREATE TABLE idempotency_keys (
  team_id uuid NOT NULL REFERENCES teams (id),
  key text NOT NULL,
  request_hash text NOT NULL,
  -- NULL while the first request is still being carried out.
  response_status integer,
  response_body jsonb,
  -- The operation that the first request started, for repeats that wait for it.
  operation_id uuid,
  -- The replica that carries the first request out; once it no longer renews this, the next request may.
  lease_owner uuid,
  lease_until timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (team_id, key)
);
CREATE INDEX idempotency_keys_created ON idempotency_keys (created_at);
CREATE INDEX idempotency_keys_leased ON idempotency_keys (lease_owner) WHERE response_status IS NULL;
