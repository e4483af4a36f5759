//! Keeps what is in this process's memory away from others.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::teeth;

/// No core dump, and no look into memory or environment by others than root, not even by those who run
/// as the same user: secrets and tokens are in there.
///
/// A child inherits the limit; what it runs decides about the rest.
pub(crate) fn raise() {
    if teeth::is_off("shield") {
        return;
    }
    let nothing = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // A sandbox that refuses these is no reason to collect nothing.
    setrlimit(Resource::Core, nothing).ok();
    set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
}
