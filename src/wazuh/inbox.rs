//! What waits for the reader of a queue, whoever sent it and whether or not the sender is still there.
//!
//! Source: `sock_diag(7)`; any process may ask, and only about its own network namespace.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::fs::fstat;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};

// Of linux/netlink.h, linux/sock_diag.h, linux/socket.h and linux/unix_diag.h.
const NLM_F_REQUEST: u16 = 1;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const AF_UNIX: u8 = 1;
const UDIAG_SHOW_PEER: u32 = 4;
const UDIAG_SHOW_RQLEN: u32 = 16;
const UNIX_DIAG_PEER: u16 = 2;
const UNIX_DIAG_RQLEN: u16 = 4;

/// Bytes of `struct nlmsghdr` and `struct unix_diag_req`.
const QUESTION: u32 = 40;
/// Bytes of `struct nlmsghdr` and `struct unix_diag_msg`, which the attributes follow.
const BEFORE_ATTRIBUTES: usize = 32;

/// How many bytes the datagram has that is next to be read at `path`; 0: none waits. One without content, which nobody
/// sends to Wazuh, looks the same.
///
/// `None`: nobody reads there, or the kernel does not tell.
///
/// It is 0 also if the reader dies at that moment, so see afterwards whether it lives.
pub(super) fn waiting(path: &Path) -> Option<u32> {
    let sender = UnixDatagram::unbound().ok()?;
    sender.connect(path).ok()?;
    let sender = u32::try_from(fstat(&sender).ok()?.st_ino).ok()?;
    let kernel = socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        Some(netlink::SOCK_DIAG),
    )
    .ok()?;
    // Whom a connection leads to is sure on every file system and whatever path the reader calls it by.
    let reader = ask(&kernel, sender, UDIAG_SHOW_PEER, UNIX_DIAG_PEER)?;
    ask(&kernel, reader, UDIAG_SHOW_RQLEN, UNIX_DIAG_RQLEN)
}

/// The first number of an attribute of the socket with this inode.
fn ask(kernel: &OwnedFd, inode: u32, show: u32, attribute: u16) -> Option<u32> {
    let question = [
        &QUESTION.to_ne_bytes()[..],
        &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
        &NLM_F_REQUEST.to_ne_bytes(),
        // Number and sender, which nobody looks at.
        &[0; 8],
        &[AF_UNIX, 0, 0, 0],
        // In whatever state it is.
        &u32::MAX.to_ne_bytes(),
        &inode.to_ne_bytes(),
        &show.to_ne_bytes(),
        // No cookie.
        &[u8::MAX; 8],
    ]
    .concat();
    send(kernel, &question, SendFlags::empty()).ok()?;
    let mut answer = [0; 1_024];
    // It is there when sending returns: nothing is waited for.
    let (length, _) = recv(kernel, &mut answer, RecvFlags::DONTWAIT).ok()?;
    read(answer.get(..length)?, inode, attribute)
}

fn read(answer: &[u8], inode: u32, attribute: u16) -> Option<u32> {
    if short(answer, 4)? != SOCK_DIAG_BY_FAMILY || number(answer, 20)? != inode {
        return None;
    }
    let mut rest = answer.get(BEFORE_ATTRIBUTES..)?;
    loop {
        let length = usize::from(short(rest, 0)?);
        let value = rest.get(4..length)?;
        if short(rest, 2)? == attribute {
            return number(value, 0);
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_ne_bytes)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn what_waits_is_told_whoever_sent_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue");
        assert_eq!(waiting(&path), None);
        let reader = UnixDatagram::bind(&path).unwrap();
        let another = dir.path().join("another");
        let _another = UnixDatagram::bind(&another).unwrap();
        assert_eq!(waiting(&path), Some(0));
        let sender = UnixDatagram::unbound().unwrap();
        for text in ["first", "2nd", "the last"] {
            sender.send_to(text.as_bytes(), &path).unwrap();
        }
        drop(sender);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(waiting(&path));
            reader.recv(&mut [0; 16]).unwrap();
        }
        assert_eq!(seen, [Some(5), Some(3), Some(8)]);
        assert_eq!(waiting(&path), Some(0));
        assert_eq!(waiting(&another), Some(0));
        UnixDatagram::unbound()
            .unwrap()
            .send_to(b"lost", &path)
            .unwrap();
        drop(reader);
        assert_eq!(waiting(&path), None);
    }

    #[test]
    fn an_answer_that_is_none_tells_nothing() {
        let answer = [
            &[0; 4][..],
            &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
            &[0; 14],
            &7_u32.to_ne_bytes(),
            &[0; 8],
            // An attribute of one byte, filled up, and the one that is looked for.
            &5_u16.to_ne_bytes(),
            &6_u16.to_ne_bytes(),
            &[9; 4],
            &12_u16.to_ne_bytes(),
            &UNIX_DIAG_RQLEN.to_ne_bytes(),
            &300_u32.to_ne_bytes(),
            &[0; 4],
        ]
        .concat();
        assert_eq!(read(&answer, 7, UNIX_DIAG_RQLEN), Some(300));
        assert_eq!(read(&answer, 8, UNIX_DIAG_RQLEN), None);
        assert_eq!(read(&answer, 7, UNIX_DIAG_PEER), None);
        for length in 0..answer.len() {
            let part = answer.get(..length).unwrap();
            assert_eq!(read(part, 7, UNIX_DIAG_RQLEN), None, "{length}");
            // Attributes that are as long as they like, zero included.
            for byte in [0, 1, 3, u8::MAX] {
                let mut other = answer.clone();
                other.splice(length..=length, [byte]);
                let _: Option<u32> = read(&other, 7, UNIX_DIAG_RQLEN);
            }
        }
    }
}
