//! Splits a JSON array, as it streams in, into the bytes of its elements.
