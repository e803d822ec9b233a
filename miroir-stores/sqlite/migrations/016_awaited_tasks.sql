-- The node's tasks that a pending replica waits for: a JSON list of uids.
ALTER TABLE stale_replicas ADD COLUMN awaits TEXT NOT NULL DEFAULT '[]';
