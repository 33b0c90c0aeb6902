-- A key pair in an authenticator of the user's, which knows them by a PIN or what they are: both factors at once.
CREATE TABLE passkeys (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  name text NOT NULL,
  -- By what the authenticator calls it, base64url.
  credential_id text NOT NULL UNIQUE,
  -- COSE, base64url.
  public_key text NOT NULL,
  -- Of signatures, where the authenticator counts them: one that falls back is a copy.
  counter bigint NOT NULL,
  transports jsonb NOT NULL DEFAULT '[]',
  -- Whether its owner's devices share it.
  is_synced boolean NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  last_used_at timestamptz
);
CREATE INDEX passkeys_user ON passkeys (user_id);
