//! Long campaigns and benches, on demand.

mod cjson;
#[path = "../../tests/hostile/mod.rs"]
mod hostile;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let count = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["cjson"] => Some(100_000),
        ["cjson", count] => count.parse().ok(),
        _ => None,
    };
    let Some(count) = count else {
        eprintln!(
            "usage: cargo xtask cjson [COUNT]    shaped events against the real cJSON library"
        );
        std::process::exit(2);
    };
    cjson::run(count);
}
