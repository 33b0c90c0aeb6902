-- The transaction that an event came with: who hears of events goes through them in this order without a gap, as with audit_logs.
ALTER TABLE outbox_events ADD COLUMN position bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint);
CREATE INDEX outbox_events_position ON outbox_events (position, seq);
CREATE INDEX audit_logs_all ON audit_logs (position, id);

-- How far the hooks of each module have heard.
CREATE TABLE event_consumers (
  name text PRIMARY KEY,
  position bigint NOT NULL,
  -- Within one transaction: the last event's own number or id.
  last text NOT NULL
);
