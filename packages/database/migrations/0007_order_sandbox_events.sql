-- What hosts tell is ordered by the sandbox's run and the host's own numbers, whatever either clock says. An event is news when its run is
-- not older than `run`, and its number is above `event_sequence`: the number up to which the host was heard about the sandbox.
ALTER TABLE sandboxes ADD COLUMN run integer NOT NULL DEFAULT 0;
ALTER TABLE sandboxes ADD COLUMN event_sequence bigint NOT NULL DEFAULT 0;

DROP TABLE host_events;
