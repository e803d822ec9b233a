-- Which tenant an API key is of, by the SHA-256 of the key.
CREATE TABLE tenant_map (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    -- JSON.
    record TEXT NOT NULL,
    -- When it is as good as gone, in nanoseconds since 1970.
    expires_at INTEGER
) STRICT;
