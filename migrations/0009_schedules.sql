-- When tasks are enqueued by themselves. Those of the code are written by the tick, the others by the API; the tick moves
-- all of them on.
CREATE TABLE schedules (
  name TEXT NOT NULL PRIMARY KEY,
  v INTEGER NOT NULL,               -- version of the row
  origin TEXT NOT NULL,             -- `code` or `api`
  task TEXT NOT NULL,
  input TEXT NOT NULL,              -- JSON
  options TEXT NOT NULL,            -- JSON: options of a call
  cron TEXT,                        -- one of these two is there
  every_ms INTEGER,
  timezone TEXT NOT NULL,
  overlap TEXT NOT NULL,            -- `skip`, `queue_one`, `allow`, `cancel_previous`
  catch_up TEXT NOT NULL,           -- `none`, `last`, `all`
  catch_up_most INTEGER NOT NULL,   -- firings that `all` makes good at once
  jitter_ms INTEGER NOT NULL,
  starts_at INTEGER,                -- every *_at is epoch milliseconds
  ends_at INTEGER,
  paused_at INTEGER,
  revision INTEGER NOT NULL,        -- drawn anew by every change: what was planned before it is not done
  decided_until INTEGER NOT NULL,   -- every due time up to here is decided
  next_at INTEGER,                  -- the first due time after it; NULL: it is paused, over, or not to be run here
  failing INTEGER NOT NULL DEFAULT 0,   -- its last firing could not be enqueued
  created_at INTEGER NOT NULL,
  updated_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX schedules_due ON schedules (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX schedules_overtaking ON schedules (name) WHERE overlap = 'cancel_previous';

-- What became of each due time. Its key is why none fires twice. Written by the tick and by whoever runs, changes or
-- backfills a schedule; deleted after 30 days.
CREATE TABLE firings (
  schedule TEXT NOT NULL,
  due_at INTEGER NOT NULL,          -- of a run by hand: when it was asked for, never a whole second
  v INTEGER NOT NULL,               -- version of the row
  cause TEXT NOT NULL,              -- `due`, `catch_up`, `backfill`, `run`
  outcome TEXT NOT NULL,            -- `fired`, `missed`, `failed`, `revoked`
  job_id TEXT,
  reason TEXT,
  decided_at INTEGER NOT NULL,
  PRIMARY KEY (schedule, due_at)
) WITHOUT ROWID;
CREATE INDEX firings_old ON firings (decided_at);

-- Jobs of a schedule. turn: 0 never waits for another run, 1 as its overlap policy says, 2 makes good what was missed and
-- comes after all others.
ALTER TABLE jobs ADD COLUMN schedule TEXT;
ALTER TABLE jobs ADD COLUMN turn INTEGER NOT NULL DEFAULT 0;
CREATE INDEX jobs_of_schedule ON jobs (schedule, id) WHERE schedule IS NOT NULL AND finished_at IS NULL;
-- Those that wait for another, in the order of their turns: each end asks for the next, also when all are ended at once.
CREATE INDEX jobs_in_line ON jobs (schedule, turn, id) WHERE parked_for = 'overlap' AND finished_at IS NULL;

-- The end of a run that ran decides, in its own transaction; one that waits for its next attempt may end by a statement that
-- ends those behind it as well. What was due before it ended came too early: skipped, or overtaken by
-- what was due later; a queue that takes one job at a time would bring all of it one after another. What makes good
-- (turn 2) costs nobody his run. Then it is the turn of the next that waits, so that no wake is ever lost.
CREATE TRIGGER jobs_let_next_run AFTER UPDATE OF finished_at ON jobs
WHEN NEW.schedule IS NOT NULL AND NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL
BEGIN
  UPDATE jobs SET state = 'REVOKED', finished_at = NEW.finished_at, waiting_for = NULL,
    error = iif(options ->> '$.schedule.overlap' = 'cancel_previous',
      json_object('code', 'overtaken', 'message', 'Cancelled: the next run of its schedule was due.', 'fingerprint', ''),
      json_object('code', 'overlap', 'message', 'Skipped: the run before it had not ended.', 'fingerprint', ''))
  WHERE OLD.state = 'STARTED' AND NEW.turn < 2 AND schedule = NEW.schedule AND finished_at IS NULL
    AND claim = 0 AND turn = 1 AND due_at <= NEW.finished_at
    AND (expires_at IS NULL OR expires_at > NEW.finished_at)
    AND CASE options ->> '$.schedule.overlap'
      WHEN 'skip' THEN true
      WHEN 'queue_one' THEN id > (
        SELECT min(id) FROM jobs AS other WHERE other.schedule = NEW.schedule AND other.finished_at IS NULL
          AND other.claim = 0 AND other.turn = 1 AND other.due_at <= NEW.finished_at
          AND (other.expires_at IS NULL OR other.expires_at > NEW.finished_at))
      WHEN 'cancel_previous' THEN id < (
        SELECT max(id) FROM jobs AS other WHERE other.schedule = NEW.schedule AND other.finished_at IS NULL
          AND other.claim = 0 AND other.turn = 1 AND other.due_at <= NEW.finished_at
          AND (other.expires_at IS NULL OR other.expires_at > NEW.finished_at))
      ELSE false END;
  UPDATE jobs SET sent_at = NULL, parked_for = NULL WHERE id = (
    SELECT id FROM jobs WHERE schedule = NEW.schedule AND finished_at IS NULL AND parked_for = 'overlap'
    ORDER BY turn, id LIMIT 1);
END;
