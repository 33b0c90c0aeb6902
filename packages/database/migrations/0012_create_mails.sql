-- Mail that is still to be sent. A link's token is made in the moment of sending: none stands here.
CREATE TABLE mails (
  id uuid PRIMARY KEY,
  kind text NOT NULL,
  -- As its owner writes the address, and what it is compared by.
  email text NOT NULL,
  email_key text NOT NULL,
  -- What it is about (a user, a team, an invitation): a later mail of the kind about the same replaces one that waits.
  subject_id uuid NOT NULL,
  -- Names to put into it.
  payload jsonb NOT NULL DEFAULT '{}',
  -- `logged`: the platform sends no mail, and its link went to the operator's log.
  state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'logged', 'failed')),
  attempts integer NOT NULL DEFAULT 0,
  -- While an attempt is under way: when another one may be made.
  next_attempt_at timestamptz NOT NULL,
  last_error text,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  UNIQUE (kind, email_key, subject_id)
);
CREATE INDEX mails_due ON mails (next_attempt_at) WHERE state = 'waiting';
CREATE INDEX mails_expiry ON mails (expires_at);

ALTER TABLE one_time_tokens
  ADD COLUMN user_id uuid REFERENCES users (id) ON DELETE CASCADE,
  -- It was sent to the user's address and shown to nobody else: who has it reads that mail.
  ADD COLUMN is_mailed boolean NOT NULL DEFAULT false;
CREATE INDEX one_time_tokens_user ON one_time_tokens (user_id);
