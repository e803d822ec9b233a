-- Where to tell of finished tasks. `record` is the webhook as JSON.
CREATE TABLE webhooks (
    uuid TEXT PRIMARY KEY,
    record TEXT NOT NULL
) STRICT, WITHOUT ROWID;
