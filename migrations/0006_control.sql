-- What a job waits for other than time: NULL, `pause`, or the name of a lock. Its message is acked; a wake sends another.
-- `sent_at` stays set meanwhile, so that nobody takes it for owed.
ALTER TABLE jobs ADD COLUMN parked_for TEXT;
-- Only those of a paused queue are looked for; whoever frees a lock knows by id whom to wake.
CREATE INDEX jobs_paused ON jobs (queue, due_at) WHERE parked_for = 'pause' AND finished_at IS NULL;

-- queue_controls: what people have said of a queue; no row where nobody ever did.
--   writes:  pause, resume, purge
--   reads:   every claim (which queues are paused), the sweeps, the API
--   deletes: nobody; at most one row per queue
CREATE TABLE queue_controls (
  queue TEXT NOT NULL PRIMARY KEY,
  paused_at INTEGER,                -- epoch milliseconds; NULL: not paused
  paused_until INTEGER,             -- NULL: until it is resumed
  purged_at INTEGER                 -- what was accepted before never starts
) WITHOUT ROWID;

-- audit_log: who did what to many jobs at once. Append only.
--   writes:  the transaction that does it
--   reads:   people
--   deletes: nobody
CREATE TABLE audit_log (
  id TEXT NOT NULL PRIMARY KEY,     -- UUIDv7 of `at`
  v INTEGER NOT NULL,               -- version of the row
  at INTEGER NOT NULL,              -- epoch milliseconds
  actor TEXT NOT NULL,              -- owner of the key
  action TEXT NOT NULL,             -- `queue.purged`, `jobs.revoked`…
  target TEXT NOT NULL,
  detail TEXT NOT NULL              -- JSON
) WITHOUT ROWID;
CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE ON audit_log
BEGIN
  SELECT RAISE(ABORT, 'the audit log is append only');
END;
