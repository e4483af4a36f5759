//! Wazuh's queue: a datagram socket, one datagram an event.

use std::fs;
use std::io::{self, IoSlice};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use nix::sys::socket::GetSockOpt;
use nix::{getsockopt_impl, libc, sockopt_impl};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_send_buffer_size, socket_send_buffer_size};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, sendmmsg};
use serde::{Deserialize, Serialize};

/// Datagrams of at most 65,535 bytes, and the kernel's overhead; what Wazuh's own senders ask for.
const SEND_BUFFER: usize = 65_792;

/// Datagrams that one call hands to the kernel, which may let no more than about ten of them wait for their reader
/// (`net.unix.max_dgram_qlen`).
pub const AT_ONCE: usize = 32;

/// How long one call waits for a place in a full queue, for each of its datagrams, so that its caller notices a stop.
pub const PATIENCE: Duration = Duration::from_millis(20);

/// An open way into Wazuh.
#[derive(Debug)]
pub struct Queue {
    socket: UnixDatagram,
    path: PathBuf,
    reader: SocketId,
}

/// The socket that is bound at a path: each reader removes the file that is there and binds a socket of its own. As
/// long as a path has the same one and lets itself be connected to, its reader has whatever was sent to it.
///
/// It is the device, the inode and the birth of the file, or its last writing where no birth is kept: nothing is written
/// into a socket's file. An inode alone is used again at once. The last change of the file says nothing, since Wazuh
/// gives it owner and mode only when it is bound.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SocketId(String);

impl SocketId {
    /// The socket at `path`, if there is a file.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        let born = file.created().or_else(|_| file.modified()).ok()?;
        let born = born.duration_since(UNIX_EPOCH).ok()?.as_nanos();
        Some(Self(format!("{}-{}-{born}", file.dev(), file.ino())))
    }
}

/// Why the queue cannot be used, in the operator's words.
#[derive(Debug, thiserror::Error)]
pub enum QueueFault {
    /// There is no such file.
    #[error(
        "Wazuh's queue {} does not exist. Start Wazuh; if it lives elsewhere, set home or queue in \
         [wazuh] of config.toml.", .0.display()
    )]
    Missing(PathBuf),
    /// The file is there but nobody reads from it (any more): connect again later.
    #[error(
        "Nobody reads Wazuh's queue {}. Wazuh is stopped or restarting; if this lasts, start it.",
        .0.display()
    )]
    NoReader(PathBuf),
    /// The file may not be written to.
    #[error(
        "No permission to write to Wazuh's queue {}. Run as root or as a member of the group wazuh.",
        .0.display()
    )]
    Denied(PathBuf),
    /// The file is something else than a datagram socket.
    #[error(
        "{} is not Wazuh's queue: no datagram socket. Correct home or queue in [wazuh] of config.toml.",
        .0.display()
    )]
    WrongType(PathBuf),
    /// The datagram is longer than the socket can ever take.
    #[error("An event of {length} bytes is too long for Wazuh's queue {}.", .0.display(), length = .1)]
    TooLong(PathBuf, usize),
    /// Anything else that the operating system says.
    #[error("Wazuh's queue {} cannot be used: {error}.", .0.display(), error = .1)]
    Io(PathBuf, #[source] io::Error),
}

impl Queue {
    /// Connects to the socket at `path`. Nothing is sent: that it succeeds shows that somebody has
    /// the socket open for reading.
    ///
    /// # Errors
    ///
    /// Each [`QueueFault`] but `TooLong`.
    pub fn connect(path: &Path) -> Result<Self, QueueFault> {
        let fault = |error| fault(path, error);
        let socket = UnixDatagram::unbound().map_err(fault)?;
        let before = SocketId::at(path);
        socket.connect(path).map_err(fault)?;
        // One reader took another's place meanwhile: nobody knows whose this connection is.
        let reader = SocketId::at(path)
            .filter(|reader| before.as_ref() == Some(reader))
            .ok_or_else(|| QueueFault::NoReader(path.to_owned()))?;
        socket.set_write_timeout(Some(PATIENCE)).map_err(fault)?;
        // A size that an administrator lowered; the kernel tells twice what was asked.
        if socket_send_buffer_size(&socket).map_err(|e| fault(e.into()))? < 2 * SEND_BUFFER {
            set_socket_send_buffer_size(&socket, SEND_BUFFER).map_err(|e| fault(e.into()))?;
        }
        Ok(Self {
            socket,
            path: path.to_owned(),
            reader,
        })
    }

    /// Whom it is connected to.
    #[must_use]
    pub fn reader(&self) -> &SocketId {
        &self.reader
    }

    /// Whether another socket stands at its path: what it is connected to may still be read, but not by who is there now.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        SocketId::at(&self.path).is_some_and(|reader| reader != self.reader)
    }

    /// Hands datagrams to the kernel, in their order and at most [`AT_ONCE`] of them; returns how many. For each it waits
    /// until there is room, at most [`PATIENCE`]; 0: there was none for the first.
    ///
    /// # Errors
    ///
    /// Of the first datagram; those before were sent and counted by an earlier call. `NoReader`: the
    /// reader has gone, this `Queue` is of no more use, connect again. `TooLong`: this datagram will never
    /// pass. Others as they come.
    pub fn send(&self, datagrams: &[&[u8]]) -> Result<usize, QueueFault> {
        let parts: Vec<[IoSlice<'_>; 1]> = datagrams
            .iter()
            .take(AT_ONCE)
            .map(|datagram| [IoSlice::new(datagram)])
            .collect();
        let mut nothing: [_; AT_ONCE] = std::array::from_fn(|_| SendAncillaryBuffer::default());
        let mut messages: Vec<MMsgHdr<'_>> = parts
            .iter()
            .zip(&mut nothing)
            .map(|(part, nothing)| MMsgHdr::new(part, nothing))
            .collect();
        loop {
            let error = match sendmmsg(&self.socket, &mut messages, SendFlags::NOSIGNAL) {
                Ok(sent) => return Ok(sent),
                Err(error) => error,
            };
            match error {
                Errno::AGAIN => return Ok(0),
                Errno::NOBUFS | Errno::NOMEM => {
                    std::thread::sleep(PATIENCE);
                    return Ok(0);
                }
                Errno::INTR => {}
                Errno::MSGSIZE => {
                    let length = datagrams.first().map_or(0, |datagram| datagram.len());
                    return Err(QueueFault::TooLong(self.path.clone(), length));
                }
                _ => return Err(fault(&self.path, error.into())),
            }
        }
    }

    /// Whether there is room for a datagram within `patience`. Nothing is sent.
    #[must_use]
    pub fn has_room(&self, patience: Duration) -> bool {
        let mut socket = [PollFd::new(&self.socket, PollFlags::OUT)];
        let patience = Timespec::try_from(patience).ok();
        // What cannot be told is found out by sending.
        poll(&mut socket, patience.as_ref()) != Ok(0)
    }

    /// How much of what was sent by this `Queue` the reader has not taken yet, in the kernel's
    /// bytes (some overhead a datagram); 0 also when the reader died with datagrams unread.
    ///
    /// # Errors
    ///
    /// On a kernel before 4.12, which does not tell.
    pub fn unread(&self) -> io::Result<u32> {
        // The same figure as ioctl SIOCOUTQ, by a call that needs no unsafe code: a socket's
        // memory figures, of which the third is what its unread datagrams occupy.
        let [_, _, unread, ..] = MemoryFigures.get(&self.socket)?;
        Ok(unread)
    }
}

sockopt_impl!(
    /// `SK_MEMINFO_…` of `linux/sock_diag.h`.
    MemoryFigures,
    GetOnly,
    libc::SOL_SOCKET,
    libc::SO_MEMINFO,
    [u32; 9]
);

fn fault(path: &Path, error: io::Error) -> QueueFault {
    let path = path.to_owned();
    match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => QueueFault::Missing(path),
        Some(libc::EACCES | libc::EPERM) => QueueFault::Denied(path),
        Some(libc::EPROTOTYPE) => QueueFault::WrongType(path),
        // The kernel refuses a plain file with the same words as a socket without reader.
        Some(libc::ECONNREFUSED) if is_no_socket(&path) => QueueFault::WrongType(path),
        Some(libc::ECONNREFUSED | libc::ENOTCONN | libc::ECONNRESET | libc::EPIPE) => {
            QueueFault::NoReader(path)
        }
        _ => QueueFault::Io(path, error),
    }
}

fn is_no_socket(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|file| !file.file_type().is_socket())
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    /// Room in `/tmp`-like folders only: a socket's path has at most 107 bytes.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queue");
        (dir, path)
    }

    /// In the system's temporary folder and, where there is one, in memory.
    #[test]
    fn a_reader_is_known_by_its_socket_whatever_its_owner_mode_and_traffic() {
        for folder in [std::env::temp_dir(), "/dev/shm".into()] {
            let Ok(dir) = tempfile::tempdir_in(&folder) else {
                continue;
            };
            let path = dir.path().join("queue");
            assert_eq!(SocketId::at(&path), None);
            let reader = UnixDatagram::bind(&path).unwrap();
            let id = SocketId::at(&path).unwrap();
            let file = path.metadata().unwrap();
            std::os::unix::fs::chown(&path, Some(file.uid()), Some(file.gid())).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o660)).unwrap();
            let queue = Queue::connect(&path).unwrap();
            assert_eq!(queue.send(&[b"x"]).unwrap(), 1);
            reader.recv(&mut [0; 8]).unwrap();
            assert_eq!(SocketId::at(&path), Some(id.clone()));
            assert_eq!(queue.reader(), &id);
            drop(reader);
            assert_eq!(SocketId::at(&path), Some(id.clone()));
            // A clock of the kernel that ticks each 10 ms gives others of the same inode the same birth.
            let end = Instant::now() + Duration::from_secs(5);
            loop {
                fs::remove_file(&path).unwrap();
                let _another = UnixDatagram::bind(&path).unwrap();
                if SocketId::at(&path).unwrap() != id {
                    break;
                }
                assert!(Instant::now() < end, "{}", folder.display());
            }
        }
    }

    #[test]
    fn what_is_sent_arrives_and_unread_tells_when_it_was_taken() {
        let (_dir, path) = place();
        let reader = UnixDatagram::bind(&path).unwrap();
        let queue = Queue::connect(&path).unwrap();
        assert_eq!(queue.unread().unwrap(), 0);
        for text in [b"1:office365:{}".to_vec(), vec![b'x'; 64_000]] {
            assert_eq!(queue.send(&[&text]).unwrap(), 1);
            assert!(queue.unread().unwrap() > 0);
            let mut buffer = vec![0; 65_536];
            let length = reader.recv(&mut buffer).unwrap();
            assert_eq!(buffer.get(..length).unwrap(), text);
            assert_eq!(queue.unread().unwrap(), 0);
        }
    }

    #[test]
    fn a_full_queue_is_full_until_the_reader_reads() {
        let (_dir, path) = place();
        let reader = UnixDatagram::bind(&path).unwrap();
        let queue = Queue::connect(&path).unwrap();
        let mut tries = 0..10_000;
        assert!(
            tries.any(|_| queue.send(&[b"event"]).unwrap() == 0),
            "what nobody reads counts as sent"
        );
        let since = Instant::now();
        assert_eq!(queue.send(&[b"event"]).unwrap(), 0);
        assert!(since.elapsed() >= PATIENCE, "it did not wait");
        assert!(!queue.has_room(PATIENCE));
        assert!(!Queue::connect(&path).unwrap().has_room(PATIENCE));
        reader.recv(&mut [0; 16]).unwrap();
        assert!(queue.has_room(PATIENCE));
        assert_eq!(queue.send(&[b"event"]).unwrap(), 1);
    }

    #[test]
    fn several_arrive_in_their_order_as_far_as_there_is_room() {
        let (_dir, path) = place();
        let reader = UnixDatagram::bind(&path).unwrap();
        let queue = Queue::connect(&path).unwrap();
        let texts: Vec<Vec<u8>> = (0..100_u8).map(|n| vec![n; 1 + usize::from(n)]).collect();
        let mut unsent: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        let mut arrived = Vec::new();
        let mut buffer = vec![0; 65_536];
        while !unsent.is_empty() {
            let sent = queue.send(&unsent).unwrap();
            assert!(sent <= AT_ONCE);
            unsent.drain(..sent);
            if sent == 0 {
                let length = reader.recv(&mut buffer).unwrap();
                arrived.push(buffer[..length].to_vec());
            }
        }
        reader.set_nonblocking(true).unwrap();
        while let Ok(length) = reader.recv(&mut buffer) {
            arrived.push(buffer[..length].to_vec());
        }
        assert_eq!(arrived, texts);
    }

    #[test]
    fn one_that_can_never_pass_is_told_of_after_those_before_it() {
        let (_dir, path) = place();
        let _reader = UnixDatagram::bind(&path).unwrap();
        let queue = Queue::connect(&path).unwrap();
        let long = vec![b'x'; 1_000_000];
        assert_eq!(queue.send(&[b"event", &long]).unwrap(), 1);
        let fault = queue.send(&[&long, b"event"]).unwrap_err();
        assert!(matches!(fault, QueueFault::TooLong(_, 1_000_000)));
    }

    #[test]
    fn a_reader_that_dies_must_be_connected_to_again() {
        let (_dir, path) = place();
        let reader = UnixDatagram::bind(&path).unwrap();
        let queue = Queue::connect(&path).unwrap();
        assert_eq!(queue.send(&[b"lost"]).unwrap(), 1);
        drop(reader);
        assert_eq!(queue.unread().unwrap(), 0, "0 proves nothing by itself");
        for _ in 0..2 {
            let fault = queue.send(&[b"event"]).unwrap_err();
            assert!(matches!(fault, QueueFault::NoReader(_)), "{fault:?}");
        }
        let fault = Queue::connect(&path).unwrap_err();
        assert!(matches!(fault, QueueFault::NoReader(_)), "{fault:?}");
        std::fs::remove_file(&path).unwrap();
        let _reader = UnixDatagram::bind(&path).unwrap();
        let queue = Queue::connect(&path).unwrap();
        assert_eq!(queue.send(&[b"event"]).unwrap(), 1);
    }

    #[test]
    fn what_is_not_the_queue_is_told_apart() {
        let (dir, path) = place();
        let fault = Queue::connect(&path).unwrap_err();
        assert!(matches!(fault, QueueFault::Missing(_)), "{fault:?}");
        assert!(fault.to_string().contains("config.toml"));

        std::fs::write(&path, "").unwrap();
        let fault = Queue::connect(&path).unwrap_err();
        assert!(matches!(fault, QueueFault::WrongType(_)), "{fault:?}");

        let fault = Queue::connect(dir.path()).unwrap_err();
        assert!(matches!(fault, QueueFault::WrongType(_)), "{fault:?}");

        std::fs::remove_file(&path).unwrap();
        let _listener = UnixListener::bind(&path).unwrap();
        let fault = Queue::connect(&path).unwrap_err();
        assert!(matches!(fault, QueueFault::WrongType(_)), "{fault:?}");
    }

    #[test]
    fn an_event_that_can_never_pass_is_too_long() {
        let (_dir, path) = place();
        let _reader = UnixDatagram::bind(&path).unwrap();
        let queue = Queue::connect(&path).unwrap();
        let fault = queue.send(&[&vec![b'x'; 1_000_000]]).unwrap_err();
        assert!(matches!(fault, QueueFault::TooLong(_, 1_000_000)));
        assert_eq!(queue.send(&[b"event"]).unwrap(), 1);
    }

    #[test]
    fn a_queue_of_others_is_denied() {
        let (_dir, path) = place();
        let _reader = UnixDatagram::bind(&path).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
        match Queue::connect(&path) {
            // Root may do everything.
            Ok(_) => assert!(rustix::process::geteuid().is_root()),
            Err(fault) => assert!(matches!(fault, QueueFault::Denied(_)), "{fault:?}"),
        }
    }
}
