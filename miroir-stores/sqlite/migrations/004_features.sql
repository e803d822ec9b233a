-- Experimental features as clients set them.
CREATE TABLE features (
    name TEXT PRIMARY KEY,
    enabled INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;
