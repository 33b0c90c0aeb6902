-- What an operation is about. A sandbox that it works on without being about it (a snapshot's source) stays in sandbox_id.
ALTER TABLE operations ADD COLUMN subject_type text CHECK (subject_type IN ('sandbox', 'template', 'host'));
ALTER TABLE operations ADD COLUMN subject_id uuid;
UPDATE operations SET subject_type = 'template', subject_id = (payload ->> 'templateId')::uuid WHERE payload ? 'templateId';
UPDATE operations SET subject_type = 'sandbox', subject_id = sandbox_id WHERE subject_type IS NULL AND sandbox_id IS NOT NULL;
-- Ended, and about something that is gone.
DELETE FROM operations WHERE subject_type IS NULL;
ALTER TABLE operations ALTER COLUMN subject_type SET NOT NULL;
ALTER TABLE operations ALTER COLUMN subject_id SET NOT NULL;

-- The request that asked for it: joins the lines of all logs.
ALTER TABLE operations ADD COLUMN request_id text;
-- What the command answers to those who wait for it.
ALTER TABLE operations ADD COLUMN result jsonb;
-- [{ name, ms }] in the order of the steps.
ALTER TABLE operations ADD COLUMN phases jsonb NOT NULL DEFAULT '[]';

CREATE INDEX operations_sandbox_all ON operations (sandbox_id, id DESC);
CREATE INDEX operations_finished ON operations (finished_at) WHERE state <> 'running';

-- The operation that the first request with the key started, for repeats that wait for it.
ALTER TABLE idempotency_keys ADD COLUMN operation_id uuid;
-- The replica that carries the first request out; once it no longer renews this, the next request may.
ALTER TABLE idempotency_keys ADD COLUMN lease_owner uuid;
ALTER TABLE idempotency_keys ADD COLUMN lease_until timestamptz;
CREATE INDEX idempotency_keys_leased ON idempotency_keys (lease_owner) WHERE response_status IS NULL;
