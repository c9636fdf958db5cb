-- The callback of a job whose options have one: a job of its own, owed its message, written with the final state.
-- Here, so that no statement that ends a job can forget it. Its id was derived when the job was accepted, since SQL has
-- no hash. Priority and retries are those of the task deliver_callback; a test holds them together.
CREATE TRIGGER jobs_call_back AFTER UPDATE OF finished_at ON jobs
WHEN NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL AND NEW.options ->> '$.callback.id' IS NOT NULL
BEGIN
  INSERT INTO jobs (id, v, task, queue, state, priority, input, options, tags, source, parent_id,
                    created_at, due_at, sent_at)
  VALUES (NEW.options ->> '$.callback.id', 1, 'deliver_callback', 'bulk', 'PENDING', 3,
          json_object('job_id', NEW.id, 'url', NEW.options ->> '$.callback.url'),
          '{"maxRetries":7,"retryDelays":null,"softSeconds":null,"hardSeconds":null,"resultTtlSeconds":3600}',
          '[]', 'callback', NEW.id, NEW.finished_at, NEW.finished_at, NULL)
  ON CONFLICT (id) DO NOTHING;
END;

-- uses: how often something was used that may be used only so often.
--   writes:  respondToSlack, one statement before each request; name is the SHA-256 of a URL that is a secret itself
--   reads:   nobody else
--   deletes: the tick, once a further use would be refused for its age
CREATE TABLE uses (
  name TEXT NOT NULL PRIMARY KEY,
  count INTEGER NOT NULL,
  expires_at INTEGER NOT NULL       -- epoch milliseconds
) WITHOUT ROWID;
CREATE INDEX uses_expiring ON uses (expires_at);
