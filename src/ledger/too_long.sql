-- Listings of it that were too long for a run, less those of which that was not so since.
ALTER TABLE stream ADD COLUMN too_long INTEGER NOT NULL DEFAULT 0;
