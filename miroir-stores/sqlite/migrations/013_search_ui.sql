-- Search pages and the keys they use.
CREATE TABLE search_ui_config (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    -- JSON.
    record TEXT NOT NULL,
    -- When it is as good as gone, in nanoseconds since 1970.
    expires_at INTEGER
) STRICT;
CREATE TABLE search_ui_scoped_key (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    -- JSON.
    record TEXT NOT NULL,
    -- When it is as good as gone, in nanoseconds since 1970.
    expires_at INTEGER
) STRICT;
CREATE TABLE search_ui_scoped_key_observed (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    -- JSON.
    record TEXT NOT NULL,
    -- When it is as good as gone, in nanoseconds since 1970.
    expires_at INTEGER
) STRICT;
CREATE INDEX search_ui_scoped_key_observed_expires ON search_ui_scoped_key_observed (expires_at);
