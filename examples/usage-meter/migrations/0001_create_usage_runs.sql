-- From when to when a sandbox ran, and with how many cores.
CREATE TABLE usage_runs (
  sandbox_id uuid NOT NULL,
  started_at timestamptz NOT NULL,
  team_id uuid NOT NULL,
  vcpus integer NOT NULL,
  ended_at timestamptz,
  PRIMARY KEY (sandbox_id, started_at)
);
CREATE INDEX usage_runs_team ON usage_runs (team_id, started_at);
