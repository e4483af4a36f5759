-- States of the collection that Wazuh was, or will be, told of.
CREATE TABLE health (
    tenant_id TEXT NOT NULL,
    content_type TEXT NOT NULL,              -- '' for the whole tenant
    state TEXT NOT NULL,
    detail TEXT NOT NULL,                     -- a change of it is told
    since INTEGER NOT NULL,
    runs INTEGER NOT NULL,                   -- that saw it
    said INTEGER NOT NULL,                   -- when it was told last; 0: not yet
    batch INTEGER NOT NULL DEFAULT 0,        -- with which; -1: with the next
    PRIMARY KEY (tenant_id, content_type, state)
) STRICT, WITHOUT ROWID;

CREATE INDEX content_created ON content (stream, created);
