-- jobs: one row per job, the record and the outbox of its messages.
--   writes:  acceptance (insert), consumers (claim, heartbeat, finish), the sweeps, revoke
--   reads:   the API, consumers (why an id was not won), the sweeps
--   deletes: retention, 7 days after success and 30 days after any other end
-- A plain job writes five rows in its life: insert 2 (row and jobs_open), claim 1, finish 1, delete 1.
-- That holds as long as a claim touches no indexed column.
CREATE TABLE jobs (
  id TEXT NOT NULL PRIMARY KEY,
  v INTEGER NOT NULL,               -- version of the row
  task TEXT NOT NULL,
  queue TEXT NOT NULL,
  state TEXT NOT NULL,
  priority INTEGER NOT NULL,
  input TEXT NOT NULL,              -- JSON
  options TEXT NOT NULL,            -- JSON: how the call wants it run
  tags TEXT NOT NULL,               -- JSON array
  source TEXT NOT NULL,
  parent_id TEXT,
  retry_of TEXT,
  created_at INTEGER NOT NULL,      -- every *_at is epoch milliseconds
  due_at INTEGER NOT NULL,
  expires_at INTEGER,
  sent_at INTEGER,                  -- when its latest message was handed out; NULL: it is owed one
  resends INTEGER NOT NULL DEFAULT 0,
  attempt INTEGER NOT NULL DEFAULT 0,   -- the budget: counted by a claim, given back by a defer or a loss
  claim INTEGER NOT NULL DEFAULT 0,     -- the fence: counted by a claim, never given back
  claim_token TEXT,
  lease_until INTEGER,
  lost INTEGER NOT NULL DEFAULT 0,
  revoke_requested INTEGER NOT NULL DEFAULT 0,  -- 1: no further attempt, 2: stop this one too
  started_at INTEGER,
  finished_at INTEGER,
  progress INTEGER NOT NULL DEFAULT 0,
  progress_note TEXT,
  waiting_for TEXT,
  result TEXT,                      -- JSON
  error TEXT,                       -- JSON {code, message, fingerprint}
  attempts TEXT NOT NULL DEFAULT '[]'   -- JSON array of earlier attempts
) WITHOUT ROWID;

CREATE INDEX jobs_open ON jobs (queue, due_at) WHERE finished_at IS NULL;
CREATE INDEX jobs_owed ON jobs (due_at) WHERE finished_at IS NULL AND sent_at IS NULL;
CREATE INDEX jobs_expiring ON jobs (expires_at) WHERE finished_at IS NULL AND expires_at IS NOT NULL;

CREATE TRIGGER jobs_final_is_final BEFORE UPDATE OF state, finished_at ON jobs
WHEN OLD.finished_at IS NOT NULL
BEGIN
  SELECT RAISE(ABORT, 'a final state never changes');
END;

-- dead_letters: one row per job that failed for good, and per message nobody could read.
--   writes:  the transaction that writes FAILURE, the consumers (unparseable), requeue
--   reads:   the API
--   deletes: whoever resolves it (DELETE /api/v1/dead-letters/:id); never a sweep
CREATE TABLE dead_letters (
  id TEXT NOT NULL PRIMARY KEY,
  v INTEGER NOT NULL,
  job_id TEXT,                      -- NULL where the message was unparseable
  task TEXT NOT NULL,
  queue TEXT NOT NULL,
  input TEXT NOT NULL,              -- JSON; of an unparseable message: its body
  options TEXT,                     -- JSON; NULL where the message was unparseable
  priority INTEGER NOT NULL,
  tags TEXT NOT NULL,
  error TEXT NOT NULL,              -- JSON
  fingerprint TEXT NOT NULL,
  attempts INTEGER NOT NULL,
  failed_at INTEGER NOT NULL,
  requeues INTEGER NOT NULL DEFAULT 0,
  requeued_as TEXT
) WITHOUT ROWID;

CREATE INDEX dead_letters_fingerprint ON dead_letters (fingerprint);

-- marks: what the sweeps remember from tick to tick.
--   writes, reads: the tick (boot id, cursor of retention)
--   deletes: nobody; one row per name
CREATE TABLE marks (
  name TEXT NOT NULL PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

-- debug_effects: what the task debug.effect did, one row per run; not idempotent, on purpose.
--   writes: debug.effect   reads: GET /api/v1/debug/effects   deletes: nobody (only where DEBUG_TASKS is on)
CREATE TABLE debug_effects (
  key TEXT NOT NULL,
  job_id TEXT NOT NULL,
  attempt INTEGER NOT NULL,
  at INTEGER NOT NULL
);
CREATE INDEX debug_effects_key ON debug_effects (key);
