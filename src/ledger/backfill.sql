-- Spans that a backfill asked for and that are not completely listed yet.
CREATE TABLE backfill (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    stream INTEGER NOT NULL,
    since INTEGER NOT NULL,                  -- of contentCreated, inclusive
    until INTEGER NOT NULL,                  -- exclusive
    resend INTEGER NOT NULL                  -- whether delivered records are wanted once more
) STRICT;

ALTER TABLE content ADD COLUMN backfill INTEGER NOT NULL DEFAULT 0; -- 1: fetched after all that is new
ALTER TABLE content ADD COLUMN resend INTEGER NOT NULL DEFAULT 0;   -- the span that wants its records once more
DROP INDEX content_open;
CREATE INDEX content_open ON content (stream, backfill, attempts, created) WHERE state = 0;
