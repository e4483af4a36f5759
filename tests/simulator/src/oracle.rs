//! Judges conservation: every record issued arrived once, unaltered.
