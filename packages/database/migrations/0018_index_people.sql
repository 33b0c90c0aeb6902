-- What is looked for, or cleared away, by a person, a session or an age.
CREATE INDEX sign_in_codes_user ON sign_in_codes (user_id);
CREATE INDEX sign_in_attempts_session ON sign_in_attempts (session_id);
CREATE INDEX api_keys_creator ON api_keys (created_by) WHERE created_by IS NOT NULL;
CREATE INDEX team_invitations_inviter ON team_invitations (invited_by);
CREATE INDEX team_invitations_email ON team_invitations (email_key);
CREATE INDEX sessions_expiry ON sessions (expires_at);
CREATE INDEX sessions_revoked ON sessions (revoked_at) WHERE revoked_at IS NOT NULL;
