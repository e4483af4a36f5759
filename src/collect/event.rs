//! One audit record → the bytes of one event; pure.
