-- Sessions of the console, and failed logins.
CREATE TABLE admin_sessions (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    -- JSON.
    record TEXT NOT NULL,
    -- When it is as good as gone, in nanoseconds since 1970.
    expires_at INTEGER
) STRICT;
CREATE INDEX admin_sessions_expires ON admin_sessions (expires_at);
CREATE TABLE admin_login_backoff (
    key TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    -- JSON.
    record TEXT NOT NULL,
    -- When it is as good as gone, in nanoseconds since 1970.
    expires_at INTEGER
) STRICT;
CREATE INDEX admin_login_backoff_expires ON admin_login_backoff (expires_at);
