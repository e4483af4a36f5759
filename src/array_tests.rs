#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use aws_lc_rs::digest::digest;
use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;

/// The SHA-256 of bytes in one piece.
fn hash(bytes: &[u8]) -> [u8; 32] {
    let hash = digest(&SHA256, bytes);
    hash.as_ref().try_into().unwrap()
}

/// The elements of `body`, cut into chunks of the given sizes in turn, and the verdict.
fn split(body: &[u8], sizes: &[usize], max: usize) -> (Vec<String>, Result<(), Damage>) {
    let mut splitter = Splitter::new(max);
    let mut elements = Vec::new();
    let mut rest = body;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, behind) = rest.split_at((*size).clamp(1, rest.len()));
        rest = behind;
        let pushed = splitter.push(chunk, &mut |element: Element<'_>| {
            elements.push(match element {
                Element::Value(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Element::TooLong {
                    head,
                    bytes,
                    sha256,
                } => {
                    assert!(
                        body.windows(usize::try_from(bytes).unwrap())
                            .any(|part| hash(part) == sha256)
                    );
                    format!("{bytes}:{}", String::from_utf8_lossy(head))
                }
            });
        });
        if pushed.is_err() {
            return (elements, pushed);
        }
    }
    let verdict = splitter.finish();
    (elements, verdict)
}

/// As [`split`], the same for several ways of cutting.
fn every_way(body: &str) -> (Vec<String>, Result<(), Damage>) {
    let whole = split(body.as_bytes(), &[usize::MAX], 1000);
    for sizes in [[1, 1], [2, 3], [7, 1]] {
        assert_eq!(split(body.as_bytes(), &sizes, 1000), whole, "{body}");
    }
    whole
}

#[test]
fn elements_of_every_kind_come_as_received() {
    let (elements, verdict) = every_way(
        "\u{feff} [ {\"a\": [1, \"}]\\\"\"]} ,null,\n-1.5e3,\"x,\\\\\",[[],{}], true ] \r\n",
    );
    assert_eq!(
        elements,
        [
            "{\"a\": [1, \"}]\\\"\"]}",
            "null",
            "-1.5e3",
            "\"x,\\\\\"",
            "[[],{}]",
            "true"
        ]
    );
    assert_eq!(verdict, Ok(()));
    assert_eq!(every_way("[]"), (vec![], Ok(())));
}

#[test]
fn a_body_that_is_no_array_is_said_to_be_none() {
    for body in ["", "null", "{\"error\":{\"code\":\"AF429\"}}", "<html>[]"] {
        let (elements, verdict) = every_way(body);
        assert!(elements.is_empty());
        assert_eq!(verdict, Err(Damage::NotAnArray));
    }
}

#[test]
fn an_array_that_ends_too_early_is_truncated_wherever_it_was_cut() {
    let body = r#"[{"a":"b\"c"},[1,{"x":null}],12,"s"]"#;
    for end in 1..body.len() {
        let (_, verdict) = every_way(&body[..end]);
        assert_eq!(
            verdict,
            Err(Damage::Truncated { offset: end as u64 }),
            "{end}"
        );
    }
}

#[test]
fn a_broken_element_costs_its_neighbours_nothing() {
    let cases: [(&str, &[&str], Option<u64>); 10] = [
        (r#"[1,{"a":},2]"#, &["1", r#"{"a":}"#, "2"], None),
        (r#"[1,{"a":[1,},2]"#, &["1", r#"{"a":[1,}"#, "2"], None),
        (
            r#"[1,{"a":1],{"b":2}]"#,
            &["1", r#"{"a":1]"#, r#"{"b":2}"#],
            None,
        ),
        ("[1,rubbish,2]", &["1", "rubbish", "2"], None),
        ("[1,}},2]", &["1", "}}", "2"], None),
        (
            r#"[{"a":1}{"b":2}]"#,
            &[r#"{"a":1}"#, r#"{"b":2}"#],
            Some(8),
        ),
        ("[1,,2]", &["1", "2"], Some(3)),
        ("[,1]", &["1"], Some(1)),
        ("[1,]", &["1"], Some(3)),
        ("[1] x", &["1"], Some(4)),
    ];
    for (body, elements, fault) in cases {
        let expected = fault.map_or(Ok(()), |offset| {
            let rest = body.as_bytes()[usize::try_from(offset).unwrap()..].to_vec();
            let (bytes, sha256) = (rest.len() as u64, hash(&rest));
            Err(Damage::Syntax {
                offset,
                rest,
                bytes,
                sha256,
            })
        });
        let elements: Vec<String> = elements.iter().map(ToString::to_string).collect();
        assert_eq!(every_way(body), (elements, expected), "{body}");
    }
}

#[test]
fn what_stands_behind_a_fault_is_kept_up_to_a_limit() {
    let body = format!("[1]{}", "x".repeat(10_000));
    for size in [1, 1000, 20_000] {
        let (elements, verdict) = split(body.as_bytes(), &[size], 1000);
        assert_eq!(elements, ["1"]);
        let expected = Damage::Syntax {
            offset: 3,
            rest: vec![b'x'; 4096],
            bytes: 10_000,
            sha256: hash(&[b'x'; 10_000]),
        };
        assert_eq!(verdict, Err(expected));
    }
}

#[test]
fn an_element_over_the_limit_is_told_and_skipped() {
    let body = format!("[1,\"{}\",2]", "x".repeat(9998));
    for size in [1, 100, 5000, 20_000] {
        let (elements, verdict) = split(body.as_bytes(), &[size], 9999);
        assert_eq!(elements[0], "1");
        assert_eq!(elements[1], format!("10000:\"{}", "x".repeat(4095)));
        assert_eq!(elements[2], "2");
        assert_eq!(verdict, Ok(()));
        let (elements, _) = split(body.as_bytes(), &[size], 10_000);
        assert_eq!(elements[1].len(), 10_000);
    }
}

#[test]
fn memory_stays_within_the_limit_and_depth_costs_none() {
    let mut splitter = Splitter::new(10_000);
    let chunk = vec![b'['; 65_536];
    for _ in 0..100 {
        splitter
            .push(&chunk, &mut |_: Element<'_>| panic!("no end yet"))
            .unwrap();
        assert!(splitter.buffer.capacity() <= 20_000);
    }
    // the first bracket was the array's own
    let chunk = vec![b']'; 65_536];
    let mut told = 0;
    for _ in 0..100 {
        splitter
            .push(&chunk, &mut |element: Element<'_>| {
                assert!(matches!(
                    element,
                    Element::TooLong {
                        bytes: 13_107_198,
                        ..
                    }
                ));
                told += 1;
            })
            .unwrap();
    }
    assert_eq!((told, splitter.finish()), (1, Ok(())));
}

/// As [`split`] without a limit, of a sink that takes sound objects where they stand.
fn read(body: &[u8], sizes: &[usize]) -> (Vec<String>, Result<(), Damage>) {
    struct Reader(Vec<String>);

    impl Sink for Reader {
        fn object(&mut self, chunk: &[u8], at: usize) -> Option<usize> {
            let mut stream = serde_json::Deserializer::from_slice(&chunk[at..]).into_iter();
            let object: &RawValue = stream.next()?.ok()?;
            self.0.push(object.get().to_owned());
            Some(at + stream.byte_offset())
        }

        fn element(&mut self, element: Element<'_>) {
            let Element::Value(bytes) = element else {
                panic!("there is no limit");
            };
            self.0.push(String::from_utf8_lossy(bytes).into_owned());
        }
    }

    let mut splitter = Splitter::new(usize::MAX);
    let mut reader = Reader(Vec::new());
    let mut rest = body;
    for size in sizes.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, behind) = rest.split_at((*size).clamp(1, rest.len()));
        rest = behind;
        if let Err(damage) = splitter.push(chunk, &mut reader) {
            return (reader.0, Err(damage));
        }
    }
    (reader.0, splitter.finish())
}

#[test]
fn a_chunk_may_end_with_a_strings_first_quote() {
    for (body, element) in [(r#"["\""]"#, r#""\"""#), (r#"["a]"]"#, r#""a]""#)] {
        for cut in 1..body.len() {
            let found = split(body.as_bytes(), &[cut, body.len()], 1000);
            assert_eq!(found, (vec![element.to_owned()], Ok(())), "{cut}");
        }
    }
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        any::<f64>().prop_map(Into::into),
        ".{0,12}".prop_map(Into::into),
        "[\\\\\"\\[\\]{},: ]{0,12}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            prop::collection::vec(("[a-z\\\\\"{}]{0,3}", inner), 0..6)
                .prop_map(|members| members.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn splits_as_serde_json_does(
        array in prop::collection::vec(json(), 0..12),
        sizes in prop::collection::vec(1_usize..40, 1..6),
        pretty: bool,
    ) {
        let body = if pretty {
            serde_json::to_string_pretty(&array).unwrap()
        } else {
            serde_json::to_string(&array).unwrap()
        };
        let expected: Vec<&RawValue> = serde_json::from_str(&body).unwrap();
        let expected: Vec<String> = expected.iter().map(|raw| raw.get().to_owned()).collect();
        prop_assert_eq!(split(body.as_bytes(), &sizes, usize::MAX), (expected, Ok(())));
    }

    /// Of bodies in which marks are set in several steps, and begun anew in the midst of a chunk.
    #[test]
    fn a_sink_that_takes_objects_gets_what_one_gets_that_takes_none(
        elements in prop::collection::vec(
            (0_usize..900, prop_oneof![
                Just(r#"{"a":"~","b":[{"c":"\\\""}]}"#),
                Just(r#"{"a":"~}\"{","b":}"#),
                Just(r#"{"a":"~",[1}"#),
                Just(r#"{"~":1]"#),
                Just(r#"["~",{"a":"]"}]"#),
                Just(r#""{~\"}""#),
                Just("~1"),
                Just("{}{}"),
            ]),
            1..14,
        ),
        sizes in prop::collection::vec(prop_oneof![1_usize..80, 900_usize..6_000], 1..4),
    ) {
        let elements: Vec<String> = elements
            .iter()
            .map(|(length, text)| text.replace('~', &"x".repeat(*length)))
            .collect();
        let body = format!("[{}]", elements.join(", "));
        prop_assert_eq!(read(body.as_bytes(), &sizes), split(body.as_bytes(), &[1], usize::MAX));
    }

    #[test]
    fn never_panics_and_cuts_any_bytes_alike(
        body in "[\\[\\]{}\",\\\\ a1]{0,200}",
        sizes in prop::collection::vec(prop_oneof![1_usize..9, 60_usize..132], 1..4),
    ) {
        let body = format!("[{body}");
        prop_assert_eq!(split(body.as_bytes(), &sizes, 20), split(body.as_bytes(), &[1], 20));
    }

    #[test]
    fn marks_are_what_one_byte_after_the_other_says(
        chunks in prop::collection::vec("([\\[\\]{}\"\\\\]|[ -~]{1,20}|é){0,60}", 1..6),
    ) {
        let (mut inside, mut escaped) = (false, false);
        let mut marked = Marked::default();
        for chunk in &chunks {
            let (mut quotes, mut brackets) = (Vec::new(), Vec::new());
            for (at, byte) in chunk.bytes().enumerate() {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = inside,
                    b'"' => {
                        inside = !inside;
                        quotes.push(at);
                    }
                    b'[' | b']' | b'{' | b'}' if !inside => brackets.push(at),
                    _ => {}
                }
            }
            marked.next_chunk();
            marked.read_all(chunk.as_bytes());
            for (words, expected) in [(&marked.quotes, quotes), (&marked.brackets, brackets)] {
                let all = std::iter::successors(Some(marks::next(words, 0)), |at| {
                    Some(marks::next(words, at.checked_add(1)?))
                });
                let found: Vec<usize> = all.take_while(|at| *at < chunk.len()).collect();
                prop_assert_eq!(found, expected);
            }
        }
    }
}

#[test]
fn what_a_large_element_took_goes_back_with_its_end() {
    let mut splitter = Splitter::new(1 << 20);
    let large = format!("[\"{}", "x".repeat(900_000));
    splitter
        .push(large.as_bytes(), &mut |_: Element<'_>| {})
        .unwrap();
    assert!(splitter.buffer.capacity() >= 900_000);
    splitter.push(b"\",", &mut |_: Element<'_>| {}).unwrap();
    assert!(splitter.buffer.capacity() <= KEPT_CAPACITY);
}
