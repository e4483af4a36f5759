-- Listings of it that were too long for a run, less those that had time enough since.
ALTER TABLE stream ADD COLUMN too_long INTEGER NOT NULL DEFAULT 0;
-- Where listings ended when the subscription was found to be off, until that is told; 0: it was not.
ALTER TABLE stream ADD COLUMN off_since INTEGER NOT NULL DEFAULT 0;
