-- How often a later call took the place of what this job was accepted with (unique: replace, debounce), or 1 where it was
-- made for a claimed key by another call than the one that claimed it. Then the row wins over its messages.
--   writes:  acceptance of a unique job whose key names a job already (src/store/unique.ts)
--   reads:   the claim, which returns the whole job where it is not 0
ALTER TABLE jobs ADD COLUMN revised INTEGER NOT NULL DEFAULT 0;
