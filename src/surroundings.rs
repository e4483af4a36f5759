//! What a process starts with, whoever starts it: descriptors and a umask that nobody chose.

use std::fs;

use nix::errno::Errno;
use nix::unistd::close;
use rustix::fs::Mode;
use rustix::process::umask;

/// Standard input, output and error.
const STANDARD: i32 = 2;

/// Makes a collection independent of who starts it; to be called before anything is opened.
///
/// Wazuh's scheduler leaks the pipes of other wodles into us, whose readers then wait for our end.
/// What it does besides needs nothing: the standard library opens `/dev/null` in place of a closed
/// standard stream and ignores SIGPIPE, and neither the working directory, `HOME` nor `PATH` is used.
pub(crate) fn settle() {
    close_inherited();
    // What is made for the operator and Wazuh's group is readable to them under any umask, and what
    // is not is made with a mode of its own.
    umask(Mode::WGRP | Mode::RWXO);
}

/// Closes every descriptor above the standard ones.
fn close_inherited() {
    let Ok(descriptors) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    // All are read first: the listing has a descriptor of its own, which is gone after that.
    let descriptors: Vec<i32> = descriptors
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > STANDARD)
        .collect();
    for descriptor in descriptors {
        match close(descriptor) {
            Ok(()) | Err(Errno::EBADF) => {}
            Err(error) => log::debug!("descriptor {descriptor} was closed with {error}"),
        }
    }
}
