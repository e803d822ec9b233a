-- Search rules, as clients see them.
CREATE TABLE rules (
    uid TEXT PRIMARY KEY,
    record TEXT NOT NULL
) STRICT;
