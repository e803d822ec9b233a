-- How far each sink has read, and what waits for it.
CREATE TABLE cdc_cursors (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    -- JSON.
    record TEXT NOT NULL,
    -- When it is as good as gone, in nanoseconds since 1970.
    expires_at INTEGER
) STRICT;
CREATE TABLE cdc_overflow (
    key TEXT NOT NULL,
    number INTEGER NOT NULL,
    entry TEXT NOT NULL,
    PRIMARY KEY (key, number)
) STRICT, WITHOUT ROWID;
-- The last number each list has given, and the bytes of its entries.
CREATE TABLE cdc_overflow_lists (
    key TEXT PRIMARY KEY,
    last INTEGER NOT NULL,
    bytes INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
