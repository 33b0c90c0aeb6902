-- The transaction that an entry came with: entries of transactions that are all over can be paged through in this order without a gap.
ALTER TABLE audit_logs ADD COLUMN position bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint);
CREATE INDEX audit_logs_position ON audit_logs (team_id, position DESC, id DESC);
DROP INDEX audit_logs_team;

CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' AND NEW.actor_name = 'deleted user' AND NEW.actor_id IS NULL
    -- Of what else was told, who they were goes, and nothing more.
    AND NEW.metadata = OLD.metadata - 'email' - 'name'
    AND (NEW.id, NEW.team_id, NEW.actor_type, NEW.resource_type, NEW.resource_id, NEW.action, NEW.scope, NEW.status, NEW.created_at, NEW.position)
      IS NOT DISTINCT FROM
        (OLD.id, OLD.team_id, OLD.actor_type, OLD.resource_type, OLD.resource_id, OLD.action, OLD.scope, OLD.status, OLD.created_at, OLD.position) THEN
    RETURN NEW;
  END IF;
  RAISE EXCEPTION 'the audit log is append-only';
END
$$;
