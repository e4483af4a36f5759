//! Records that are long in one way only.

use std::time::{Duration, Instant};

use crate::{event, shaper};

/// Each dot nests, and each object's key stands in front of its members': the paths of a record could take memory and time by
/// the square of its length.
#[test]
fn long_keys_with_dots_and_members_take_no_longer_than_others() {
    let dots = "a.".repeat(1_000_000) + "a";
    let long = "k".repeat(1_000_000);
    let members: Vec<String> = (0..20_000).map(|n| format!("\"{n}\":{{}}")).collect();
    let wide = format!("\"a.b\":1,\"{long}\":{{{}}}", members.join(","));
    let deep = (0..90).fold("1".to_owned(), |inner, _| {
        format!("{{\"{}\":{inner}}}", &long[..100_000])
    });
    for (what, members) in [
        ("dots", format!("\"{dots}\":1")),
        ("wide", wide),
        ("deep", format!("\"a.b\":1,\"k\":{deep}")),
    ] {
        let record = format!("{{\"RecordType\":1,{members}}}");
        let since = Instant::now();
        let (event, reasons) = event(&mut shaper(true, false, None), record.as_bytes()).unwrap();
        let took = since.elapsed();
        assert!(event.len() < 64_000, "{what}");
        assert!(reasons.names().any(|name| name == "key_case"), "{what}");
        assert!(took < Duration::from_secs(20), "{what}: {took:?}");
    }
}
