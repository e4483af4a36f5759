//! Keys whose JSON type varies between record types, and the type that the indexer gets to see.
//!
//! The indexer learns a field's type from the first document of the day and refuses whole documents
//! that differ. Objects and arrays of objects are one type to it; text, numbers and arrays of them another.
//! The keys are those that Microsoft was seen to vary, at the record's top level.

/// The usual shape of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Objects, or an array of them. What else comes becomes the `Name` of an object in an array.
    Named,
    /// Objects, or an array of them. What else comes becomes the `ID` of an object in an array.
    Identified,
    /// Objects with `Name` and `Value`: text becomes the value of one that has the key as its name.
    Properties,
    /// Text, or an array of it. What else comes becomes JSON text.
    Text,
}

impl Shape {
    /// What an object calls what is no object.
    pub(super) fn member(self) -> &'static str {
        if self == Self::Identified {
            "ID"
        } else {
            "Name"
        }
    }
}

/// Whether Wazuh takes this text, where it stands in no array, for an array that the indexer does not want beside texts: it shows
/// an array in the alert, or, in older versions, nothing if the text is none. A blank in front prevents both. Source:
/// `W_JSON_AddField` in Wazuh's `string_op.c`.
pub(super) fn seems_an_array(text: &str) -> bool {
    text.starts_with('[')
        && text.ends_with(']')
        && serde_json::from_str::<Vec<String>>(text).is_err()
}

/// Whether what seems an array may hold objects or arrays: where it stands in a key field, which otherwise stays as it is, the
/// indexer would refuse the event. Somebody may choose a name that does so.
pub(super) fn may_nest(text: &str) -> bool {
    text.bytes().skip(1).any(|byte| matches!(byte, b'{' | b'['))
}

/// The end of the names under which arrays keep values of any type, of which the indexer wants one.
pub(super) const ANY_TYPE: &str = "Value";

/// The usual shape of the record's key, if that key is one that varies.
#[inline]
pub(super) fn usual_shape(key: &[u8]) -> Option<Shape> {
    // which are looked for at all, `keys::LETTERS` says
    Some(match (key.len(), key.first()?) {
        (4, b'D') if key == b"Data" => Shape::Text,
        (4, b'I') if key == b"Item" => Shape::Named,
        (5, b'A') if key == b"Actor" => Shape::Identified,
        (6, b'T') if key == b"Target" => Shape::Identified,
        (7, b'M') if key == b"Members" => Shape::Named,
        (7, b'M') if key == b"Message" => Shape::Text,
        (10, b'P') if key == b"Parameters" => Shape::Properties,
        (13, b'E') if key == b"ExceptionInfo" => Shape::Text,
        (14, b'A') if key == b"AdditionalInfo" => Shape::Text,
        (18, b'E') if key == b"ExtendedProperties" => Shape::Properties,
        (18, b'M') if key == b"ModifiedProperties" => Shape::Named,
        (19, b'O') if key == b"OperationProperties" => Shape::Properties,
        _ => return None,
    })
}
