-- When nothing of a deleted team was left; until then it is cleared away, again and again while a host is away.
ALTER TABLE teams ADD COLUMN cleared_at timestamptz;
CREATE INDEX teams_uncleared ON teams (deleted_at) WHERE deleted_at IS NOT NULL AND cleared_at IS NULL;
