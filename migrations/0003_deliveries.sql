-- deliveries: one row per signed webhook request, and per one that should have come and did not. What is refused is
-- counted, never written.
--   writes:  the webhook route (after its answer), the recovery tasks (missed, recovered), redeliver
--   reads:   GET /api/v1/deliveries
--   deletes: retention, 30 days after it came; its raw body in R2 is kept as long
-- A row is one written row: the table has no index but its key.
CREATE TABLE deliveries (
  id TEXT NOT NULL PRIMARY KEY,     -- UUIDv7 of received_at
  v INTEGER NOT NULL,               -- version of the row
  provider TEXT NOT NULL,
  event TEXT NOT NULL,
  event_id TEXT,                    -- the provider's own id
  verdict TEXT NOT NULL,            -- accepted, duplicate, ignored, handshake, missed, recovered
  job_id TEXT,
  bytes INTEGER NOT NULL,
  latency_ms INTEGER NOT NULL,      -- from the request to its answer
  received_at INTEGER NOT NULL,     -- epoch milliseconds; of a missed one: when it was sent
  redelivered_as TEXT               -- the latest job made of it by hand
) WITHOUT ROWID;
