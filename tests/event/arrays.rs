//! Arrays, what seems to be one, and what is copied out of them.

use crate::hostile::faults;
use crate::{event, shaper};

#[test]
fn flattened_properties_stand_beside_the_record() {
    let record = br#"{"RecordType":1,"Parameters":[{"Name":"ForwardTo","Value":"x@y"},{"Name":"A.b","Value":"7"},
        {"Name":"forwardto","Value":"second"},{"Value":"nameless"}],"Plain":[1,"a"],
        "ModifiedProperties":[{"Name":"Role","OldValue":"","NewValue":"[\"Admin\"]"}]}"#;
    let (plain, _) = event(&mut shaper(true, false, None), record).unwrap();
    let (flat, reasons) = event(&mut shaper(true, true, None), record).unwrap();
    assert!(reasons.is_empty());
    let fields = r#","fields":{"Parameters":{"ForwardTo":"x@y","A_b":"7"},"ModifiedProperties":{"Role":{"OldValue":"","NewValue":"[\"Admin\"]"}}}}}"#;
    assert_eq!(
        flat,
        format!("{}{fields}", plain.strip_suffix("}}").unwrap())
    );
    assert_eq!(faults(flat.as_bytes()), Vec::<String>::new());
    // as many as Wazuh takes
    let value = "v".repeat(40);
    for count in [100, 240, 600] {
        let properties: Vec<String> = (0..count)
            .map(|index| format!("{{\"Name\":\"n{index}\",\"Value\":\"{value}\"}}"))
            .collect();
        let record = format!(
            "{{\"RecordType\":1,\"Parameters\":[{}]}}",
            properties.join(",")
        );
        let (flat, _) = event(&mut shaper(true, true, None), record.as_bytes()).unwrap();
        assert_eq!(faults(flat.as_bytes()), Vec::<String>::new(), "{count}");
        let shown = flat.matches("\"n").count();
        assert_eq!(shown, count + count.min(250), "{count}");
    }
}

#[test]
fn text_in_brackets_stays_text_and_values_of_any_type_become_text() {
    let record = br#"{"RecordType":6,"SourceFileName":"[1]","Subject":"\u005bdraft]","Data":"[{\"a\":1}]","Names":"[\"a\"]","In":["[1]"],"ClientIP":"[2001:db8::7]",
        "Fields":[{"Name":"name","Value":"Fabrikam"},{"Name":"revenue","Value": 12.5,"OldValue" :true,"NewValue":null,"Type":2}]}"#;
    for flatten in [false, true] {
        let (event, reasons) = event(&mut shaper(true, flatten, None), record).unwrap();
        for part in [
            r#""SourceFileName":" [1]""#,
            r#""Subject":" [draft]""#,
            r#""ClientIP":"[2001:db8::7]""#,
            r#""Data":" [{\"a\":1}]""#,
            r#""Names":"[\"a\"]","In":["[1]"]"#,
            r#"{"Name":"revenue","Value":"12.5","OldValue":"true","NewValue":null,"Type":2}"#,
        ] {
            assert!(event.contains(part), "{part} is not in {event}");
        }
        assert_eq!(reasons.names().collect::<Vec<_>>(), ["mapping"]);
        assert_eq!(faults(event.as_bytes()), Vec::<String>::new());
    }
    let front = br#"{"RecordType":6,"UserId" : "[x]","ClientIP":"[2001:db8::7]"}"#;
    let (_, reasons) = event(&mut shaper(true, false, None), front).unwrap();
    assert!(reasons.is_empty());
    let chosen = br#"{"RecordType":15,"UserId":"[{\"a\":1}]","ClientIP":"[[1]]"}"#;
    let (shaped, reasons) = event(&mut shaper(true, false, None), chosen).unwrap();
    for part in [r#""UserId":" [{\"a\":1}]""#, r#""ClientIP":" [[1]]""#] {
        assert!(shaped.contains(part), "{part} is not in {shaped}");
    }
    assert_eq!(reasons.names().collect::<Vec<_>>(), ["mapping"]);
    let copied = br#"{"RecordType":8,"ModifiedProperties":[{"Name":"Methods","OldValue":"[]","NewValue":"[{\"a\":1}]"}]}"#;
    let (event, reasons) = event(&mut shaper(true, true, None), copied).unwrap();
    assert!(reasons.is_empty());
    let fields = r#""fields":{"ModifiedProperties":{"Methods":{"OldValue":"[]","NewValue":" [{\"a\":1}]"}}}"#;
    assert!(event.contains(fields), "{event}");
}
