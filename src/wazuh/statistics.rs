//! What analysisd and agentd tell about themselves on their sockets.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use serde_json::Value;

/// They answer within a millisecond, or they are starting or stopping.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);
/// A real answer has some 5 kB.
const LONGEST_ANSWER: u32 = 1 << 20;

/// Asks `command` of the daemon that listens on `path`: the `data` of its answer, if that is whole within `patience`.
///
/// Both ways a message is its length in four bytes, little endian, and JSON.
///
/// # Errors
///
/// `InvalidData`: it answers, but not to this command, as versions before 4.4 do. All else: it
/// does not answer for now.
pub(super) fn ask(path: &Path, command: &str, patience: Duration) -> io::Result<Value> {
    let end = Instant::now() + patience;
    let request = serde_json::json!({
        "version": 1,
        "origin": {"module": "o365-wodle"},
        "command": command,
        "parameters": {},
    })
    .to_string();
    let length = u32::try_from(request.len()).map_err(io::Error::other)?;

    // Connecting must not wait either: a stopped daemon's backlog may be full.
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let mut stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(patience))?;
    stream.write_all(&[&length.to_le_bytes(), request.as_bytes()].concat())?;

    let mut length = [0; 4];
    read_by(&mut stream, &mut length, end)?;
    let length = u32::from_le_bytes(length);
    if length > LONGEST_ANSWER {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut answer = vec![0; length as usize];
    read_by(&mut stream, &mut answer, end)?;
    let mut answer: Value =
        serde_json::from_slice(&answer).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    match answer.get_mut("data") {
        Some(data) if data.is_object() => Ok(data.take()),
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Fills `bytes`, however slowly they come, but not later than `end`.
fn read_by(stream: &mut UnixStream, mut bytes: &mut [u8], end: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => bytes = bytes.get_mut(read..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A counter; cJSON writes large ones with an exponent.
pub(super) fn number(value: &Value) -> Option<u64> {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, and counters are neither negative nor that large"
    )]
    value
        .as_u64()
        .or_else(|| value.as_f64().map(|number| number as u64))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::indexing_slicing,
        reason = "a test fails by panicking"
    )]

    use super::*;
    use std::os::unix::net::UnixListener;
    use std::thread;

    /// A daemon that gives each connection the next of `answers`, raw; then it closes its socket.
    fn daemon(path: &Path, answers: Vec<Vec<u8>>) -> thread::JoinHandle<Vec<Value>> {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut length = [0; 4];
                stream.read_exact(&mut length).unwrap();
                let mut request = vec![0; u32::from_le_bytes(length) as usize];
                stream.read_exact(&mut request).unwrap();
                requests.push(serde_json::from_slice(&request).unwrap());
                // In pieces, as a stream may arrive.
                for piece in answer.chunks(7) {
                    stream.write_all(piece).unwrap();
                }
            }
            requests
        })
    }

    fn framed(text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).unwrap();
        [&length.to_le_bytes(), text.as_bytes()].concat()
    }

    #[test]
    fn requests_and_answers_are_framed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("analysis");
        let daemon = daemon(
            &path,
            vec![
                framed(r#"{"error":0,"message":"ok","data":{"uptime":7}}"#),
                framed(r#"{"error":2,"message":"Unknown command","data":[]}"#),
                framed("err Unrecognized command"),
                vec![255; 4],
                framed(r#"{"error":0,"data":{}}"#).split_at(9).0.to_vec(),
            ],
        );
        assert_eq!(ask(&path, "getstats", PATIENCE).unwrap()["uptime"], 7);
        for kind in [
            io::ErrorKind::InvalidData,
            io::ErrorKind::InvalidData,
            io::ErrorKind::InvalidData,
            io::ErrorKind::UnexpectedEof,
        ] {
            assert_eq!(ask(&path, "getstats", PATIENCE).unwrap_err().kind(), kind);
        }
        let requests = daemon.join().unwrap();
        assert_eq!(requests[0]["command"], "getstats");
        let gone = ask(&path, "getstats", PATIENCE).unwrap_err().kind();
        assert_eq!(gone, io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_daemon_that_does_not_answer_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("analysis");
        let listener = UnixListener::bind(&path).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let start = Instant::now();
        for _ in 0..3 {
            ask(&path, "getstats", PATIENCE).unwrap_err();
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn an_answer_that_trickles_is_not_waited_for_either() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("analysis");
        let listener = UnixListener::bind(&path).unwrap();
        let trickle = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            for byte in framed(&"x".repeat(100)) {
                if stream.write_all(&[byte]).is_err() {
                    return;
                }
                thread::sleep(Duration::from_millis(50));
            }
        });
        let start = Instant::now();
        let error = ask(&path, "getstats", PATIENCE).unwrap_err();
        assert!(matches!(
            error.kind(),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
        ));
        assert!(start.elapsed() < Duration::from_secs(3));
        trickle.join().unwrap();
    }

    #[test]
    fn large_counters_are_read() {
        assert_eq!(number(&serde_json::json!(12)), Some(12));
        assert_eq!(
            number(&serde_json::json!(1e15)),
            Some(1_000_000_000_000_000)
        );
        assert_eq!(number(&serde_json::json!("12")), None);
    }
}
