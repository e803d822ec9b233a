-- The last lease of each scope. `holder` is NULL once it was released; `expires_at` is in nanoseconds
-- since 1970 UTC. Rows stay, because a fence is never given twice.
CREATE TABLE leader_lease (
    scope TEXT PRIMARY KEY,
    holder TEXT,
    fence INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
