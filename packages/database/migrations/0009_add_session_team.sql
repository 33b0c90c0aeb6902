-- The team that the session is in; null, or one that the user has left, for the first of their own.
ALTER TABLE sessions ADD COLUMN team_id uuid REFERENCES teams (id) ON DELETE SET NULL;
