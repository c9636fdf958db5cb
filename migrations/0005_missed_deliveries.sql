-- The tasks that recover missed deliveries look for those that still are. Only a missed row is in the index, so that any
-- other delivery stays one written row.
CREATE INDEX deliveries_missed ON deliveries (provider, received_at) WHERE verdict = 'missed';
