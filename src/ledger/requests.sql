-- Requests to Microsoft by how they ended, for the metrics.
CREATE TABLE request (
    tenant_id TEXT NOT NULL,
    outcome TEXT NOT NULL,
    requests INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, outcome)
) STRICT, WITHOUT ROWID;
