-- alerts: what people should look at. One that is open stands for one trouble, however often it is noticed.
--   writes:  raise, settle (src/jobs/alerts.ts); of schedules whoever writes their rows (src/store/failing.ts)
--   reads:   GET /api/v1/alerts
--   deletes: retention, 30 days after it was resolved
CREATE TABLE alerts (
  id TEXT NOT NULL PRIMARY KEY,     -- UUIDv7 of opened_at
  v INTEGER NOT NULL,               -- version of the row
  kind TEXT NOT NULL,               -- `cron_stopped`…
  target TEXT NOT NULL,             -- what it is about, within its kind
  severity TEXT NOT NULL,           -- warning, critical
  message TEXT NOT NULL,            -- for people, as it was noticed last
  detail TEXT NOT NULL,             -- JSON
  opened_at INTEGER NOT NULL,       -- epoch milliseconds
  seen_at INTEGER NOT NULL,         -- when it was noticed last
  times INTEGER NOT NULL,           -- how often it was noticed
  resolved_at INTEGER               -- NULL: open
) WITHOUT ROWID;
-- At most one is open: two that notice at once make one.
CREATE UNIQUE INDEX alerts_open ON alerts (kind, target) WHERE resolved_at IS NULL;
CREATE INDEX alerts_resolved ON alerts (resolved_at) WHERE resolved_at IS NOT NULL;
