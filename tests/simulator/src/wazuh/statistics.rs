//! The request sockets of Wazuh's daemons: one request a connection, each way a little-endian
//! length of four bytes and then that many bytes.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::reader::{Waker, remove};

/// A request longer than this is refused, as Wazuh does.
const MAX_REQUEST: u32 = 65_536;

/// How long a client may take over its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a request is answered with; with nothing by a daemon that has ended.
pub(super) type Answer = Box<dyn Fn(&str) -> Option<String> + Send>;

/// Answers until it is dropped; the socket file stays.
pub(super) struct Server {
    waker: Waker,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds `path` at `from` (at once, if that is now) and answers.
    pub(super) fn spawn(path: PathBuf, from: Instant, answer: Answer) -> io::Result<Self> {
        let waker = Waker::new()?;
        let ended = Arc::new(AtomicBool::new(false));
        let ready = if from <= Instant::now() {
            Some(bind(&path)?)
        } else {
            None
        };
        let (wake, end) = (waker.clone(), Arc::clone(&ended));
        let run = move || {
            let mut listener = ready;
            while !end.load(Ordering::Acquire) {
                let Some(listening) = &listener else {
                    let left = from.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        listener = bind(&path).ok();
                        if listener.is_none() {
                            return;
                        }
                    } else {
                        wake.wait(None, Some(left));
                    }
                    continue;
                };
                match listening.accept() {
                    // a client that fails or leaves is the client's matter
                    Ok((client, _)) => drop(serve(&client, &answer)),
                    Err(_) => wake.wait(Some(listening), None),
                }
            }
        };
        let thread = thread::Builder::new()
            .name("wazuh-statistics".into())
            .spawn(run)?;
        Ok(Self {
            waker,
            ended,
            thread: Some(thread),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Release);
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // a panic has been printed by its thread
            thread.join().ok();
        }
    }
}

fn bind(path: &std::path::Path) -> io::Result<UnixListener> {
    remove(path)?;
    let listener = UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn serve(mut client: &UnixStream, answer: &Answer) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.set_write_timeout(Some(PATIENCE))?;
    let mut length = [0; 4];
    client.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_REQUEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut request = Vec::new();
    client.take(length.into()).read_to_end(&mut request)?;
    let Some(answer) = answer(&String::from_utf8_lossy(&request)) else {
        return Ok(());
    };
    let mut framed = u32::try_from(answer.len())
        .unwrap_or(u32::MAX)
        .to_le_bytes()
        .to_vec();
    framed.extend_from_slice(answer.as_bytes());
    client.write_all(&framed)
}

/// Asks as a client would.
#[cfg(test)]
pub(super) fn ask(path: &std::path::Path, request: &str) -> io::Result<serde_json::Value> {
    let mut stream = UnixStream::connect(path)?;
    stream.write_all(
        &u32::try_from(request.len())
            .unwrap_or(u32::MAX)
            .to_le_bytes(),
    )?;
    stream.write_all(request.as_bytes())?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    assert_eq!(answer.len(), u32::from_le_bytes(length) as usize, "framing");
    Ok(serde_json::from_slice(&answer)?)
}
