-- What was lost or damaged lately, for `status`.
CREATE INDEX content_ill ON content (stream, state) WHERE state IN (3, 4);
