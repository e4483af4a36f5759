//! The ordinary path allocates nothing a record: its buffers are kept.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use o365_wodle::array::{Element, Splitter};
use o365_wodle::collect::event::{Envelope, Shaper};

#[test]
fn an_ordinary_record_costs_no_allocation() {
    let labels = BTreeMap::from([("customer".into(), "C-42".into())]);
    let mut shaper = Shaper::new(&Envelope {
        location: "office365",
        content_type: "Audit.General",
        tenant: "contoso",
        labels: &labels,
        annotate: true,
        flatten: false,
        redactor: None,
    });
    let mut out = Vec::with_capacity(1 << 16);
    let mut sent = 0;
    let mut work = |blob: &[u8]| {
        let mut splitter = Splitter::new(1 << 20);
        for chunk in blob.chunks(1000) {
            let shape = &mut |element: Element<'_>| {
                let Element::Value(record) = element else {
                    return;
                };
                out.clear();
                let record = shaper.read(record).unwrap();
                assert!(record.id().is_some());
                assert!(shaper.write(&record, true, &mut out).is_empty());
                sent += 1;
            };
            splitter.push(chunk, shape).unwrap();
        }
        splitter.finish().unwrap();
    };
    let record = r#"{"Id":"80c76bd2-9d81-4c57-a97a-accfc3443dca","RecordType":15,"Operation":"UserLoggedIn",
        "Actor":[{"ID":"a@b","Type":5}],"ExtendedProperties":[{"Name":"RequestType","Value":"Login:login"}],
        "Deep":{"a":{"b":{"c":[1,2.5,{"d":null}]}}},"Escaped":"a\/b\n\u00e9","Number":2147483647}"#;
    let blob = |count| format!("[{}]", vec![record; count].join(","));
    let (few, many) = (blob(10), blob(10_000));
    work(few.as_bytes());
    let few = allocation_counter::measure(|| work(few.as_bytes())).count_total;
    let many = allocation_counter::measure(|| work(many.as_bytes())).count_total;
    assert_eq!(
        few, many,
        "one blob's splitter may allocate, a record may not"
    );
    assert_eq!(sent, 10_020);
}
