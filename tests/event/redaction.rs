//! What a data loss prevention rule matched does not leave, wherever it stands.

use o365_wodle::collect::event::Redactor;

use crate::hostile::{faults, untouched};
use crate::{event, record_of, shaper};

#[test]
fn what_a_dlp_rule_matched_stays_inside() {
    let redactor = Redactor::new(&[7; 32]);
    let record = r#"{"RecordType":11,"Id":"keep","PolicyDetails":[{"Rules":[{"ConditionsMatched":{"SensitiveInformation":[
        {"Count":1,"SensitiveInformationDetections":{"DetectedValues":[{"Name":"4111 1111","Value":"card 4111 1111 é"}],
        "ResultsTruncated":false}}]}}]}],
        "EndpointMetaData":{"SensitiveInfoTypeData":[{"SensitiveInformationDetectionsInfo":{"DetectedV\u0061lues":[{"Name":4111,"Value":"4111 1111"}]}}]},
        "Data":"{\"x\":1,\"DetectedValues\":[\"4111 1111\"],\"y\":\"stays\"}",
        "Note":"broken {\"DetectedValues\":[\"4111"}"#;
    let dlp =
        |redactor| event(&mut shaper(true, false, Some(redactor)), record.as_bytes()).unwrap();
    let (event, reasons) = dlp(&redactor);
    assert!(reasons.is_empty(), "redaction is no reshaping");
    assert!(!event.contains("4111"), "{event}");
    let shaped: serde_json::Value = serde_json::from_str(&record_of(&event)).unwrap();
    let matched = &shaped["PolicyDetails"][0]["Rules"][0]["ConditionsMatched"];
    let found = &matched["SensitiveInformation"][0];
    let values = &found["SensitiveInformationDetections"]["DetectedValues"][0];
    let name = values["Name"].as_str().unwrap();
    assert!(
        name.starts_with("hmac:") && name.ends_with(":9") && name.len() == 39,
        "{name}"
    );
    assert!(values["Value"].as_str().unwrap().ends_with(":16"));
    assert_eq!(found["Count"], 1);
    assert_eq!(
        found["SensitiveInformationDetections"]["ResultsTruncated"],
        false
    );
    let endpoint = &shaped["EndpointMetaData"]["SensitiveInfoTypeData"][0];
    let same = &endpoint["SensitiveInformationDetectionsInfo"]["DetectedValues"][0]["Value"];
    assert_eq!(same, name, "equal values stay equal");
    let data = shaped["Data"].as_str().unwrap();
    assert_eq!(
        data,
        format!("{{\"x\":1,\"DetectedValues\":[\"{name}\"],\"y\":\"stays\"}}")
    );
    assert!(shaped["Note"].as_str().unwrap().starts_with("hmac:"));
    let (elsewhere, _) = dlp(&Redactor::new(&[8; 32]));
    assert!(!elsewhere.contains(name));
    // keys in JSON text may be written with escapes, text within that text too
    for hidden in [
        r#"{\"Detected\\u0056alues\":[\"4111\"]}"#,
        r#"{\"a\":\"{\\\"Detected\\\\u0056alues\\\":[\\\"4111\\\"]}\"}"#,
    ] {
        let record = format!(r#"{{"RecordType":11,"Data":"{hidden}"}}"#);
        let (event, _) = crate::event(
            &mut shaper(false, false, Some(&redactor)),
            record.as_bytes(),
        )
        .unwrap();
        assert!(
            !event.contains("4111") && event.contains("hmac:"),
            "{event}"
        );
    }
    // other text with escapes stays as it is
    let record = br#"{"RecordType":11,"Data":"{\"a\": \"caf\\u00e9\"}","Path":"C:\\users\\eve"}"#;
    let (event, _) = crate::event(&mut shaper(false, false, Some(&redactor)), record).unwrap();
    assert_eq!(event.as_bytes(), untouched(record, ""));
    // a dot asks for a closer look, and that is all
    let dotted = br#"{"Z":1,"Id":"x","RecordType":11,"a.b":1,"DetectedValues":["4111"]}"#;
    let (event, reasons) =
        crate::event(&mut shaper(false, false, Some(&redactor)), dotted).unwrap();
    assert!(
        reasons.is_empty()
            && !event.contains("4111")
            && !event.contains("reshaped")
            && event.contains(r#","Z":1,"Id":"x","RecordType":11,"a.b":1,"#),
        "{event}"
    );
    // a record without detections is not touched
    let record = br#"{"RecordType":11,"XPIADetected":false,"s":"\u00e9"}"#;
    let (event, _) = crate::event(&mut shaper(false, false, Some(&redactor)), record).unwrap();
    assert_eq!(event.as_bytes(), untouched(record, ""));
}

/// A hash may be longer than what it stands for.
#[test]
fn what_redaction_makes_too_long_is_cut() {
    let redactor = Redactor::new(&[7; 32]);
    let pair = r#"{\"Name\":\"4111111111111111\",\"Value\":\"4111111111111111\"}"#;
    let pairs = vec![pair; 400].join(",");
    let hits = vec![r#"{"Name":"1","Value":"2"}"#; 900].join(",");
    for record in [
        format!(r#"{{"RecordType":63,"Id":"g","Data":"{{\"DetectedValues\":[{pairs}]}}"}}"#),
        // where a dot asked for a closer look first
        format!(
            r#"{{"RecordType":63,"Id":"g","a.b":1,"Data":"{{\"DetectedValues\":[{pairs}]}}"}}"#
        ),
        format!(r#"{{"RecordType":63,"Id":"g","DetectedValues":[{hits}]}}"#),
    ] {
        let (event, reasons) =
            event(&mut shaper(true, false, Some(&redactor)), record.as_bytes()).unwrap();
        assert_eq!(faults(event.as_bytes()), Vec::<String>::new());
        assert!(!reasons.is_empty() && event.contains("\"reshaped\":["));
        assert!(!event.contains("4111"));
    }
}

#[test]
fn detections_in_odd_places_stay_inside() {
    let redactor = Redactor::new(&[7; 32]);
    let redacted = |record: &str| {
        let (event, _) = event(
            &mut shaper(false, false, Some(&redactor)),
            record.as_bytes(),
        )
        .unwrap();
        assert_eq!(faults(event.as_bytes()), Vec::<String>::new(), "{record}");
        assert!(!event.contains("4111"), "{event}");
        assert!(event.contains("hmac:"), "{event}");
        event
    };
    // text that is not JSON as a whole, with the key in escapes of any depth
    redacted(r#"{"RecordType":1,"X":"{\"Detected\\u0056alues\":[\"4111\"]} tail"}"#);
    redacted(r#"{"RecordType":1,"X":"see {\\\"Detected\\\\\\u0056alues\\\":[\\\"4111\\\"]}"}"#);
    redacted(r#"{"RecordType":1,"X":"[4111 Detected\\u005cu0056alues"}"#);
    redacted(r#"{"RecordType":1,"X":"[4111 Detected\\u005\\u0036alues"}"#);
    // what was matched as a key
    let event =
        redacted(r#"{"RecordType":1,"DetectedValues":[{"4111111111111111":2,"Name":"4111"}]}"#);
    assert!(event.contains("\"Name\":\"hmac:"), "{event}");
    // as the value of a property
    for value in ["Value", "NewValue"] {
        let event = redacted(&format!(
            r#"{{"RecordType":1,"P":[{{"Name":"DetectedValues","{value}":"4111"}},{{"Name":"a","Value":"b"}}]}}"#
        ));
        assert!(
            event.contains(r#""Name":"DetectedValues""#)
                && event.contains(r#"{"Name":"a","Value":"b"}"#),
            "{event}"
        );
    }
    // where a dot or a blank stands in front
    for hidden in [
        r#""a.DetectedValues":["4111"]"#,
        r#""SensitiveInformation.SensitiveInformationDetections.x":"4111""#,
        r#""P":[{"Name":" DetectedValues ","Value":"4111"}]"#,
    ] {
        redacted(&format!(r#"{{"RecordType":1,{hidden}}}"#));
    }
    // text within text within text
    let mut text = r#"{"DetectedValues":["4111"]}"#.to_owned();
    for _ in 0..6 {
        text = serde_json::json!([text]).to_string();
        redacted(&format!(
            r#"{{"RecordType":1,"X":{}}}"#,
            serde_json::Value::from(text.as_str())
        ));
    }
}

/// However deep the JSON text in a string is, it does not cost the stack.
#[test]
fn absurd_text_is_redacted_as_a_whole() {
    let redactor = Redactor::new(&[7; 32]);
    for depth in [90, 101, 150, 1000, 100_000] {
        let text = format!(
            r#"{}{{\"DetectedValues\":[4111]}}{}"#,
            "[".repeat(depth),
            "]".repeat(depth)
        );
        let record = format!(r#"{{"RecordType":1,"X":"{text}"}}"#);
        let (event, _) = event(
            &mut shaper(false, false, Some(&redactor)),
            record.as_bytes(),
        )
        .unwrap();
        assert!(!event.contains("4111") && event.contains("hmac:"));
    }
}
