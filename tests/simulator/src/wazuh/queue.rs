//! The queue socket alone: what a sender sees when nothing more is known of the reader.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::lock;
use super::reader::{Reader, bind, remove};

/// The queue socket `<home>/queue/sockets/queue` and a reader that keeps, or only counts, what it
/// takes off it. Datagrams over 65,535 bytes are cut as analysisd cuts them.
pub struct Queue {
    path: PathBuf,
    kept: Arc<Kept>,
    reader: Mutex<Option<Reader>>,
}

type Callback = Box<dyn FnMut(&[u8]) + Send>;

#[derive(Default)]
struct Kept {
    inner: Mutex<Inner>,
    arrived: Condvar,
}

#[derive(Default)]
struct Inner {
    datagrams: Vec<Vec<u8>>,
    count: usize,
    bytes: u64,
    /// the counts that somebody waits for
    wanted: Vec<usize>,
    callback: Option<Callback>,
}

impl Kept {
    fn take(&self, datagram: &[u8]) {
        let mut inner = lock(&self.inner);
        inner.count += 1;
        inner.bytes += datagram.len() as u64;
        match &mut inner.callback {
            Some(callback) => callback(datagram),
            None => inner.datagrams.push(datagram.to_vec()),
        }
        if inner.wanted.iter().any(|&wanted| inner.count >= wanted) {
            self.arrived.notify_all();
        }
    }
}

impl Queue {
    /// Makes `<home>/queue/sockets/queue` and reads it, keeping every datagram.
    ///
    /// # Errors
    /// The folder cannot be made or the socket not be bound.
    pub fn bind(home: &Path) -> io::Result<Self> {
        Self::at(&home.join("queue/sockets/queue"), None)
    }

    /// As [`Queue::bind`], but hands each datagram to `callback` and keeps only the count.
    ///
    /// # Errors
    /// As [`Queue::bind`].
    pub fn bind_with(
        home: &Path,
        callback: impl FnMut(&[u8]) + Send + 'static,
    ) -> io::Result<Self> {
        Self::at(&home.join("queue/sockets/queue"), Some(Box::new(callback)))
    }

    fn at(path: &Path, callback: Option<Callback>) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let kept = Kept::default();
        lock(&kept.inner).callback = callback;
        let queue = Self {
            path: path.to_owned(),
            kept: Arc::new(kept),
            reader: Mutex::new(None),
        };
        queue.rebind()?;
        Ok(queue)
    }

    /// Where the socket stands.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every datagram so far, in the order of arrival (none with a callback).
    #[must_use]
    pub fn received(&self) -> Vec<Vec<u8>> {
        lock(&self.kept.inner).datagrams.clone()
    }

    /// Takes the datagrams out; [`count`](Self::count) goes on.
    #[must_use]
    pub fn drain(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut lock(&self.kept.inner).datagrams)
    }

    /// Datagrams read since the socket was made.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.kept.inner).count
    }

    /// Bytes read since the socket was made.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        lock(&self.kept.inner).bytes
    }

    /// Waits until [`count`](Self::count) is at least `n`; says whether it came to that in time.
    #[must_use]
    pub fn wait_for(&self, n: usize, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut inner = lock(&self.kept.inner);
        inner.wanted.push(n);
        while inner.count < n {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            inner = self
                .kept
                .arrived
                .wait_timeout(inner, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        if let Some(mine) = inner.wanted.iter().position(|&wanted| wanted == n) {
            inner.wanted.swap_remove(mine);
        }
        inner.count >= n
    }

    /// The reader lives but does not read: after about a dozen datagrams a sender blocks.
    pub fn pause(&self) {
        if let Some(reader) = &*lock(&self.reader) {
            reader.pause();
        }
    }

    /// Reads again after [`pause`](Self::pause).
    pub fn resume(&self) {
        if let Some(reader) = &*lock(&self.reader) {
            reader.resume();
        }
    }

    /// Reads at most so many datagrams a second; `None` as fast as they come.
    pub fn slow(&self, per_second: Option<f64>) {
        if let Some(reader) = &*lock(&self.reader) {
            reader.slow(per_second);
        }
    }

    /// Whether nothing waits for the reader in the kernel.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        lock(&self.reader).as_ref().is_none_or(Reader::is_drained)
    }

    /// The reader dies. Its socket file stays, as after a SIGTERM: connecting gives ECONNREFUSED,
    /// and what the kernel still held is lost.
    pub fn close(&self) {
        *lock(&self.reader) = None;
    }

    /// Removes the socket file. A living reader goes on for those connected already.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub fn unlink(&self) -> io::Result<()> {
        remove(&self.path)
    }

    /// A new reader: unlinks what stands there, binds and reads. Senders must reconnect.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn rebind(&self) -> io::Result<()> {
        self.rebind_after(Duration::ZERO)
    }

    /// As [`rebind`](Self::rebind), but the new reader only binds and starts to read after
    /// `loading`, as analysisd does while it loads its rules.
    ///
    /// # Errors
    /// The socket cannot be bound.
    pub fn rebind_after(&self, loading: Duration) -> io::Result<()> {
        self.close();
        let socket = bind(&self.path)?;
        let kept = Arc::clone(&self.kept);
        let sink = Box::new(move |datagram: &[u8]| kept.take(datagram));
        *lock(&self.reader) = Some(Reader::spawn(socket, Instant::now() + loading, sink)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::io::ErrorKind;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn sender(queue: &Queue) -> UnixDatagram {
        let socket = UnixDatagram::unbound().unwrap();
        socket.connect(queue.path()).unwrap();
        socket
    }

    #[test]
    fn a_datagram_is_cut_at_65_535_bytes() {
        let home = tempfile::tempdir().unwrap();
        let queue = Queue::bind(home.path()).unwrap();
        let socket = sender(&queue);
        for length in [65_535, 65_536, 200_000] {
            socket.send(&vec![b'x'; length]).unwrap();
        }
        assert!(queue.wait_for(3, SOON));
        assert_eq!(
            queue.received().iter().map(Vec::len).collect::<Vec<_>>(),
            [65_535; 3]
        );
        assert_eq!((queue.count(), queue.bytes()), (3, 3 * 65_535));
        assert_eq!(queue.drain().len(), 3);
        assert_eq!((queue.count(), queue.received().len()), (3, 0));
    }

    #[test]
    fn a_dead_readers_file_refuses_and_a_missing_one_is_not_found() {
        let home = tempfile::tempdir().unwrap();
        let queue = Queue::bind(home.path()).unwrap();
        let connected = sender(&queue);
        queue.close();
        assert_eq!(
            connected.send(b"x").unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        assert_eq!(
            connected.send(b"x").unwrap_err().kind(),
            ErrorKind::NotConnected
        );
        let fresh = UnixDatagram::unbound().unwrap();
        assert_eq!(
            fresh.connect(queue.path()).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
        queue.unlink().unwrap();
        assert_eq!(
            fresh.connect(queue.path()).unwrap_err().kind(),
            ErrorKind::NotFound
        );
        queue.rebind().unwrap();
        sender(&queue).send(b"back").unwrap();
        assert!(queue.wait_for(1, SOON));
    }

    #[test]
    fn a_reader_that_does_not_read_blocks_the_sender() {
        let home = tempfile::tempdir().unwrap();
        let queue = Queue::bind(home.path()).unwrap();
        queue.pause();
        let socket = sender(&queue);
        socket.set_nonblocking(true).unwrap();
        let sent = (0..1000)
            .take_while(|_| socket.send(b"12345").is_ok())
            .count();
        let held: usize = fs::read_to_string("/proc/sys/net/unix/max_dgram_qlen")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert!((held..=held + 2).contains(&sent), "{sent} of {held}");
        assert_eq!(socket.send(b"x").unwrap_err().kind(), ErrorKind::WouldBlock);
        assert_eq!(queue.count(), 0);
        queue.resume();
        assert!(queue.wait_for(sent, SOON));
    }

    #[test]
    fn a_reader_that_is_loading_takes_nothing_yet() {
        let home = tempfile::tempdir().unwrap();
        let queue = Queue::bind(home.path()).unwrap();
        queue.rebind_after(Duration::from_mins(10)).unwrap();
        sender(&queue).send(b"early").unwrap();
        assert!(!queue.wait_for(1, Duration::from_millis(50)));
        queue.rebind_after(Duration::from_millis(20)).unwrap();
        sender(&queue).send(b"in time").unwrap();
        assert!(queue.wait_for(1, SOON));
        assert_eq!(queue.received(), [b"in time"]);
    }

    #[test]
    fn a_slow_reader_keeps_its_rate_and_a_callback_keeps_nothing() {
        let home = tempfile::tempdir().unwrap();
        let queue = Queue::bind_with(home.path(), |_| {}).unwrap();
        queue.slow(Some(200.0));
        let socket = sender(&queue);
        let begin = Instant::now();
        for _ in 0..60 {
            socket.send(b"x").unwrap();
        }
        assert!(queue.wait_for(60, SOON));
        assert!(
            begin.elapsed() >= Duration::from_millis(250),
            "{:?}",
            begin.elapsed()
        );
        assert!(queue.received().is_empty());
        queue.slow(None);
        for _ in 0..5_000 {
            socket.send(b"x").unwrap();
        }
        assert!(queue.wait_for(5_060, SOON));
    }
}
