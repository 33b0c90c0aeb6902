CREATE TABLE templates (
  team_id uuid NOT NULL REFERENCES teams (id),
  id uuid NOT NULL,
  name text NOT NULL,
  kind text NOT NULL CHECK (kind IN ('base', 'snapshot')),
  status text NOT NULL DEFAULT 'ready' CHECK (status IN ('creating', 'ready', 'deleting', 'error')),
  status_reason text,
  -- Defaults for a base; fixed for a snapshot, whose memory has this shape already.
  vcpus integer NOT NULL,
  memory_mib integer NOT NULL,
  disk_mib integer NOT NULL,
  size_bytes bigint NOT NULL DEFAULT 0,
  -- The one host that holds it; NULL means every host does.
  host_id uuid REFERENCES hosts (id),
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (team_id, id)
);
CREATE UNIQUE INDEX templates_name ON templates (team_id, name);

INSERT INTO templates (team_id, id, name, kind, vcpus, memory_mib, disk_mib)
VALUES ('00000000-0000-0000-0000-000000000000', '00000000-0000-0000-0000-000000000000', 'minimal', 'base', 1, 512, 5120);
