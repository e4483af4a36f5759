//! Long campaigns and benches, on demand.
fn main() {}
