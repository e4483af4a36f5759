-- Events about the collection that Wazuh has not confirmed: they have no content that could be fetched again.
CREATE TABLE told (
    batch INTEGER,                           -- NULL: Wazuh lost it, to be sent again
    datagram BLOB NOT NULL
) STRICT;

ALTER TABLE health DROP COLUMN batch;
