-- Who somebody is at a server that vouches for people.
CREATE TABLE identities (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  -- The URL of the server, without a "/" at its end.
  issuer text NOT NULL,
  -- What the server never gives to anybody else.
  subject text NOT NULL,
  -- As the server said it last: to show, and nothing is found by it.
  email text,
  created_at timestamptz NOT NULL DEFAULT now(),
  last_used_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX identities_subject ON identities (issuer, subject);
CREATE INDEX identities_user ON identities (user_id);

-- Sign-ins whose browser is on its way to a provider and back.
CREATE TABLE sign_in_attempts (
  -- SHA-256 of `state`, hex.
  state_hash text PRIMARY KEY,
  -- SHA-256 of the cookie of the browser that began, hex.
  browser_hash text NOT NULL,
  provider text NOT NULL,
  nonce text NOT NULL,
  code_verifier text NOT NULL,
  -- Where the browser goes in the end.
  return_to text NOT NULL,
  -- Of the program that has opened the browser.
  code_challenge text,
  -- Of the person who links; null for a log-in.
  session_id uuid REFERENCES sessions (id) ON DELETE CASCADE,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX sign_in_attempts_expiry ON sign_in_attempts (expires_at);

-- What a sign-in came to, until its page or program takes the session.
CREATE TABLE sign_in_codes (
  code_hash text PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  provider text NOT NULL,
  -- One of the two says who may take it.
  browser_hash text,
  code_challenge text,
  created_at timestamptz NOT NULL DEFAULT now(),
  expires_at timestamptz NOT NULL
);
CREATE INDEX sign_in_codes_expiry ON sign_in_codes (expires_at);
