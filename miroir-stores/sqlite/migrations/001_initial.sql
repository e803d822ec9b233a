-- Tables every Miroir needs. Instants are nanoseconds since 1970 UTC unless said otherwise.
-- A migration that was released is never edited: write the next one.

-- Numbers that are given out once and never again, even if the row they were for is deleted.
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    next INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters (name, next) VALUES ('task_uid', 0), ('stale_generation', 1);

-- `record` is the whole task as JSON. The other columns repeat what lists filter by.
CREATE TABLE tasks (
    uid INTEGER PRIMARY KEY,
    status TEXT NOT NULL,
    kind TEXT NOT NULL,
    index_uid TEXT,
    canceled_by INTEGER,
    enqueued_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    record TEXT NOT NULL
) STRICT;

-- Each ends in the uid, so the tasks of one (index, status, kind) come in the order of a page.
CREATE INDEX tasks_by_status ON tasks (status, kind);
CREATE INDEX tasks_by_index ON tasks (index_uid, status, kind) WHERE index_uid IS NOT NULL;
CREATE INDEX tasks_by_canceler ON tasks (canceled_by) WHERE canceled_by IS NOT NULL;
-- These hold everything that can be filtered by, so that a range of time never reads records.
CREATE INDEX tasks_by_enqueued
    ON tasks (enqueued_at, status, kind, index_uid, started_at, finished_at);
CREATE INDEX tasks_by_finished
    ON tasks (finished_at, status, kind, index_uid, started_at, enqueued_at)
    WHERE finished_at IS NOT NULL;

-- How many tasks there are, so that the total of a page is not counted row by row.
CREATE TABLE task_totals (
    status TEXT NOT NULL,
    kind TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (status, kind)
) STRICT, WITHOUT ROWID;

CREATE TABLE index_task_totals (
    index_uid TEXT NOT NULL,
    status TEXT NOT NULL,
    kind TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (index_uid, status, kind)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER tasks_inserted AFTER INSERT ON tasks
BEGIN
    INSERT INTO task_totals (status, kind, n) VALUES (new.status, new.kind, 1)
        ON CONFLICT (status, kind) DO UPDATE SET n = n + 1;
    INSERT INTO index_task_totals (index_uid, status, kind, n)
        SELECT new.index_uid, new.status, new.kind, 1 WHERE new.index_uid IS NOT NULL
        ON CONFLICT (index_uid, status, kind) DO UPDATE SET n = n + 1;
END;

CREATE TRIGGER tasks_deleted AFTER DELETE ON tasks
BEGIN
    UPDATE task_totals SET n = n - 1 WHERE status = old.status AND kind = old.kind;
    UPDATE index_task_totals SET n = n - 1
        WHERE index_uid = old.index_uid AND status = old.status AND kind = old.kind;
    DELETE FROM index_task_totals
        WHERE index_uid = old.index_uid AND status = old.status AND kind = old.kind AND n = 0;
END;

CREATE TRIGGER tasks_updated AFTER UPDATE OF status, kind, index_uid ON tasks
WHEN old.status IS NOT new.status OR old.kind IS NOT new.kind OR old.index_uid IS NOT new.index_uid
BEGIN
    UPDATE task_totals SET n = n - 1 WHERE status = old.status AND kind = old.kind;
    UPDATE index_task_totals SET n = n - 1
        WHERE index_uid = old.index_uid AND status = old.status AND kind = old.kind;
    DELETE FROM index_task_totals
        WHERE index_uid = old.index_uid AND status = old.status AND kind = old.kind AND n = 0;
    INSERT INTO task_totals (status, kind, n) VALUES (new.status, new.kind, 1)
        ON CONFLICT (status, kind) DO UPDATE SET n = n + 1;
    INSERT INTO index_task_totals (index_uid, status, kind, n)
        SELECT new.index_uid, new.status, new.kind, 1 WHERE new.index_uid IS NOT NULL
        ON CONFLICT (index_uid, status, kind) DO UPDATE SET n = n + 1;
END;

-- The index catalogue. `version` is compared and set; `record` is the entry as JSON.
CREATE TABLE indexes (
    name TEXT PRIMARY KEY,
    version INTEGER NOT NULL,
    record TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- `shard` is -1 for the index as a whole. `kind` is a strength: 10 pending, 20 shard, 30 index,
-- 40 deleted.
CREATE TABLE stale_replicas (
    node_id TEXT NOT NULL,
    index_uid TEXT NOT NULL,
    shard INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    PRIMARY KEY (node_id, index_uid, shard)
) STRICT, WITHOUT ROWID;
CREATE INDEX stale_replicas_by_index ON stale_replicas (index_uid);

-- `updated_at` is in seconds since 1970 UTC.
CREATE TABLE node_settings_version (
    index_uid TEXT NOT NULL,
    node_id TEXT NOT NULL,
    version INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (index_uid, node_id)
) STRICT, WITHOUT ROWID;
