//! Keys whose JSON type varies between record types, and the type that the indexer gets to see.
//!
//! The indexer learns a field's type from the first document of the day and refuses whole documents
//! that differ. Objects and arrays of objects are one type to it; text, numbers and arrays of them another.
//! The keys are those that Microsoft was seen to vary, at the record's top level.

/// The usual shape of a key's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// Objects, or an array of them. What else comes becomes the member of that name of an object in an array.
    Objects(&'static str),
    /// Objects with `Name` and `Value`: text becomes the value of one that has the key as its name.
    Properties,
    /// Text, or an array of it. What else comes becomes JSON text.
    Text,
}

/// The usual shape of the record's key, if that key is one that varies.
pub(super) fn usual_shape(key: &[u8]) -> Option<Shape> {
    Some(match key {
        b"ModifiedProperties" | b"Item" | b"Members" => Shape::Objects("Name"),
        b"Actor" | b"Target" => Shape::Objects("ID"),
        b"Parameters" | b"ExtendedProperties" | b"OperationProperties" => Shape::Properties,
        b"AdditionalInfo" | b"Message" | b"ExceptionInfo" | b"Data" => Shape::Text,
        _ => return None,
    })
}
