-- Payloads too large for a row are kept beside the database: inputs in R2, results in KV. The row has their keys.
-- Rows whose input is kept aside are of version 2; their column `input` is JSON null.
ALTER TABLE jobs ADD COLUMN input_key TEXT;
ALTER TABLE jobs ADD COLUMN input_bytes INTEGER;
ALTER TABLE jobs ADD COLUMN result_key TEXT;

-- A job of a sensitive task: when its payload leaves (set with its final state), and when it did.
ALTER TABLE jobs ADD COLUMN clears_at INTEGER;
ALTER TABLE jobs ADD COLUMN cleared_at INTEGER;
-- Here, so that no statement that ends a job can forget it. Durations are seconds, instants milliseconds.
CREATE TRIGGER jobs_sensitive_are_cleared AFTER UPDATE OF finished_at ON jobs
WHEN NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL AND NEW.options ->> 'sensitive'
BEGIN
  UPDATE jobs SET clears_at = NEW.finished_at + 1000 * (NEW.options ->> 'resultTtlSeconds') WHERE id = NEW.id;
END;
CREATE INDEX jobs_clearing ON jobs (clears_at) WHERE clears_at IS NOT NULL;

-- The letter of such a job refers to the same object, and keeps it from being swept. Also version 2.
ALTER TABLE dead_letters ADD COLUMN input_key TEXT;
ALTER TABLE dead_letters ADD COLUMN input_bytes INTEGER;
