//! What fuzz targets reach of this room's inside.

use super::fault::{Answer, Fault, Operation};
use super::listing::{self, Content};

/// An entry of a listing, if it is a content.
#[must_use]
pub fn content(element: &[u8]) -> Option<Content> {
    listing::content(element)
}

/// What an answer with this body means; `operation` picks one of those that there are.
#[must_use]
pub fn fault(operation: u8, status: u16, body: &[u8]) -> Fault {
    Fault::judge(&Answer {
        operation: match operation % 5 {
            0 => Operation::SignIn,
            1 => Operation::Subscriptions,
            2 => Operation::Start,
            3 => Operation::List,
            _ => Operation::Fetch,
        },
        content_type: None,
        status,
        body,
        retry_after: None,
        roles: None,
        url: String::new(),
    })
}
