-- Times are milliseconds since 1970 UTC.

CREATE TABLE tenant (
    tenant_id TEXT PRIMARY KEY,
    not_before INTEGER NOT NULL DEFAULT 0,   -- no request to Microsoft before then
    failures INTEGER NOT NULL DEFAULT 0,     -- runs in a row that failed
    refused INTEGER NOT NULL DEFAULT 0,      -- whether the last failure was a refusal
    credential TEXT NOT NULL DEFAULT '',     -- which credential failed: another one is tried at once
    subscriptions_listed INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    error_at INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE TABLE stream (
    id INTEGER PRIMARY KEY,
    tenant_id TEXT NOT NULL,
    content_type TEXT NOT NULL,
    floor INTEGER NOT NULL,                  -- nothing older is taken but by a backfill
    marker INTEGER,                          -- listings are complete up to then
    swept INTEGER NOT NULL DEFAULT 0,        -- when everything down to the floor was listed last
    subscribed INTEGER NOT NULL DEFAULT 0,   -- whether Microsoft said so when asked last
    started INTEGER NOT NULL DEFAULT 0,      -- when a start of the subscription was requested last
    unavailable_until INTEGER NOT NULL DEFAULT 0,
    not_before INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    error_at INTEGER NOT NULL DEFAULT 0,
    last_success INTEGER NOT NULL DEFAULT 0, -- when a listing was complete last
    last_record INTEGER NOT NULL DEFAULT 0,  -- when a record was handed over last
    delivered INTEGER NOT NULL DEFAULT 0,
    duplicate INTEGER NOT NULL DEFAULT 0,
    filtered INTEGER NOT NULL DEFAULT 0,
    reshaped INTEGER NOT NULL DEFAULT 0,
    lost INTEGER NOT NULL DEFAULT 0,         -- contents that expired unfetched
    damaged INTEGER NOT NULL DEFAULT 0,      -- contents that were unreadable in part
    UNIQUE (tenant_id, content_type)
) STRICT;

CREATE TABLE content (
    id INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    content_id TEXT NOT NULL,
    uri TEXT NOT NULL,
    created INTEGER NOT NULL,
    expires INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,        -- 0 pending, 1 sent, 2 confirmed, 3 expired, 4 damaged
    tried INTEGER NOT NULL DEFAULT 0,        -- the number of the run that tried it in vain last
    tried_at INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,     -- runs that tried it in vain
    damage INTEGER NOT NULL DEFAULT 0,       -- runs that found its syntax broken
    not_before INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    UNIQUE (stream, content_id)
) STRICT;
CREATE INDEX content_open ON content (stream, attempts, created) WHERE state = 0;
CREATE INDEX content_closed ON content (created) WHERE state > 0;

-- What was handed over and committed together. `keys` holds 20 bytes a record: its time bucket
-- (4 bytes, big endian) and its key. Confirmed batches wait here to be folded into `seen_…`.
CREATE TABLE batch (
    id INTEGER PRIMARY KEY,
    sent INTEGER NOT NULL,
    events INTEGER NOT NULL,
    mark TEXT NOT NULL,                      -- who read it, and where its confirmation is
    confirmed INTEGER NOT NULL DEFAULT 0,
    keys BLOB NOT NULL
) STRICT;

CREATE TABLE batch_content (
    batch INTEGER NOT NULL,
    content INTEGER NOT NULL,
    events INTEGER NOT NULL,
    PRIMARY KEY (batch, content)
) STRICT, WITHOUT ROWID;

CREATE INDEX batch_content_content ON batch_content (content);

CREATE TABLE day (
    stream INTEGER NOT NULL,
    day INTEGER NOT NULL,                    -- days since 1970 UTC
    records INTEGER NOT NULL,
    PRIMARY KEY (stream, day)
) STRICT, WITHOUT ROWID;

-- Single values: 'run' (the number of the last run), 'assurance', 'window', 'recovered' …
CREATE TABLE value (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
