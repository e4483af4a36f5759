//! Long campaigns and benches, on demand.

mod cjson;
#[path = "../../tests/hostile/mod.rs"]
mod hostile;

fn main() {
    if std::env::args().skip(1).eq(["cjson"]) {
        cjson::run(100_000);
    } else {
        eprintln!("usage: cargo xtask cjson    shaped events against the real cJSON library");
        std::process::exit(2);
    }
}
