-- Of somebody who is deactivated: until then what runs for them alone is paused, again and again while something is in the way.
ALTER TABLE users ADD COLUMN pause_until timestamptz;
CREATE INDEX users_pausing ON users (pause_until) WHERE pause_until IS NOT NULL;

-- All that is told of one person, to take them out of it.
CREATE INDEX audit_logs_person ON audit_logs (actor_id) WHERE actor_type = 'user';
CREATE INDEX audit_logs_about_person ON audit_logs (resource_id) WHERE resource_type IN ('user', 'member');
CREATE INDEX audit_logs_email ON audit_logs (lower(metadata ->> 'email')) WHERE metadata ->> 'email' IS NOT NULL;

-- Who has deleted their account is taken out of what was told: as the one who did it, as the one it was done to, and by address.
-- Nothing else is changed, and nobody else is taken out.
CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'UPDATE' THEN
    IF NEW IS DISTINCT FROM OLD
      AND (NEW.id, NEW.team_id, NEW.actor_type, NEW.resource_type, NEW.action, NEW.scope, NEW.status, NEW.created_at, NEW.position)
      IS NOT DISTINCT FROM
        (OLD.id, OLD.team_id, OLD.actor_type, OLD.resource_type, OLD.action, OLD.scope, OLD.status, OLD.created_at, OLD.position)
      AND ((NEW.actor_id, NEW.actor_name) IS NOT DISTINCT FROM (OLD.actor_id, OLD.actor_name)
        OR (OLD.actor_type = 'user' AND NEW.actor_id IS NULL AND NEW.actor_name = 'deleted user'
          AND EXISTS (SELECT 1 FROM users WHERE status = 'deleted' AND id::text = OLD.actor_id)))
      AND (NEW.resource_id IS NOT DISTINCT FROM OLD.resource_id
        OR (OLD.resource_type IN ('user', 'member') AND NEW.resource_id IS NULL
          AND EXISTS (SELECT 1 FROM users WHERE status = 'deleted' AND id::text = OLD.resource_id)))
      AND (NEW.metadata = OLD.metadata
        OR (NEW.metadata = OLD.metadata - 'email' - 'name'
          AND EXISTS (SELECT 1 FROM users WHERE status = 'deleted'
            AND (id::text = OLD.resource_id OR lower(email) = lower(OLD.metadata ->> 'email'))))) THEN
      RETURN NEW;
    END IF;
  END IF;
  RAISE EXCEPTION 'the audit log is append-only';
END
$$;
