-- API keys, without their secrets. `created_at` is in nanoseconds since 1970 UTC; `id` grows with
-- every key and orders those of one instant. `record` is the key as JSON.
CREATE TABLE api_keys (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT;
