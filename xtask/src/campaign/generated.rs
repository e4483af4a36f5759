//! Rows 14 and 15: inputs that nobody thought of. The tests try a few of them each time; here they
//! are given the time of a release.

use std::path::Path;
use std::process::Command;

use super::{Case, Column, Trial};
use crate::fuzz;

/// How long a target is fuzzed.
const SECONDS: u32 = 30 * 60;
/// How many cases a property is tried with.
const CASES: usize = 100_000;
/// Where the properties are.
const PROPERTIES: [&[&str]; 2] = [&["--lib"], &["--test", "event"]];

/// Row 14.
pub(super) fn fuzzing(column: &Column) -> Vec<Case> {
    if !column.is_release {
        return Vec::new();
    }
    fuzz::build().unwrap();
    fuzz::TARGETS
        .iter()
        .map(|target| {
            Case::new(*target, |_| Trial {
                tries: usize::try_from(fuzz::one(target, SECONDS).unwrap()).unwrap(),
                ..Trial::default()
            })
        })
        .collect()
}

/// Row 15.
pub(super) fn properties(column: &Column) -> Vec<Case> {
    if !column.is_release {
        return Vec::new();
    }
    PROPERTIES
        .iter()
        .map(|place| Case::new(place.join(" "), |_| tested(place)))
        .collect()
}

/// The tests of a place, whose properties are tried with many cases.
fn tested(place: &[&str]) -> Trial {
    let output = Command::new("cargo")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .args(["test", "--release", "--locked", "--package", "o365-wodle"])
        .args(place)
        .env("PROPTEST_CASES", CASES.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    Trial {
        tries: CASES,
        ..Trial::default()
    }
}
