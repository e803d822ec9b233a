-- Queues of work.
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    cursor TEXT NOT NULL DEFAULT 'null',
    attempt INTEGER NOT NULL DEFAULT 0,
    -- End of its claim, in nanoseconds since 1970.
    claimed_until INTEGER,
    error TEXT
) STRICT;
CREATE INDEX jobs_of_kind ON jobs (kind, claimed_until, number);
