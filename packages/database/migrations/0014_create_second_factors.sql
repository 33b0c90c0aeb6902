-- An app that shows one-time codes (RFC 6238); one per person.
CREATE TABLE totp_factors (
  user_id uuid PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
  -- Encrypted, bound to the user.
  sealed_secret text NOT NULL,
  -- Null while it is being set up: then it is asked for nowhere.
  confirmed_at timestamptz,
  -- Of the last code that was taken, in periods of 30 s since 1970: only later ones are.
  last_step bigint NOT NULL DEFAULT 0,
  -- Wrong codes since `failures_since`.
  failures integer NOT NULL DEFAULT 0,
  failures_since timestamptz,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Stand in for a code of the app, once each: one that was used is gone.
CREATE TABLE recovery_codes (
  user_id uuid NOT NULL REFERENCES totp_factors (user_id) ON DELETE CASCADE,
  -- SHA-256, hex.
  code_hash text NOT NULL,
  PRIMARY KEY (user_id, code_hash)
);

-- Steps of a log-in that somebody is in the middle of: each is gone once it is done.
CREATE TABLE log_in_challenges (
  -- SHA-256, hex.
  token_hash text PRIMARY KEY,
  purpose text NOT NULL CHECK (purpose IN ('second_factor', 'passkey_registration', 'passkey_log_in')),
  -- Null where it is not known yet who it is.
  user_id uuid REFERENCES users (id) ON DELETE CASCADE,
  -- By what the user has shown who they are so far.
  method text,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX log_in_challenges_user ON log_in_challenges (user_id);
CREATE INDEX log_in_challenges_expiry ON log_in_challenges (expires_at);
