-- Aliases, sessions, and answers to writes with a key.
CREATE TABLE aliases (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    -- JSON.
    record TEXT NOT NULL,
    -- When it is as good as gone, in nanoseconds since 1970.
    expires_at INTEGER
) STRICT;
CREATE TABLE sessions (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    -- JSON.
    record TEXT NOT NULL,
    -- When it is as good as gone, in nanoseconds since 1970.
    expires_at INTEGER
) STRICT;
CREATE INDEX sessions_expires ON sessions (expires_at);
CREATE TABLE idempotency_cache (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    -- JSON.
    record TEXT NOT NULL,
    -- When it is as good as gone, in nanoseconds since 1970.
    expires_at INTEGER
) STRICT;
CREATE INDEX idempotency_cache_expires ON idempotency_cache (expires_at);
