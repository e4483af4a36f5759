//! The thread that takes datagrams off a socket.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};

/// What analysisd takes of one datagram; the rest is cut without a warning (`OS_RecvUnix`).
pub(super) const MAX_DATAGRAM: usize = 65_535;

/// Datagrams between two looks at the commands.
const AT_ONCE: usize = 64;

/// How often a slowed reader reads.
const SLOW_TICK: Duration = Duration::from_millis(5);

/// Wakes a thread that waits in `poll`.
#[derive(Clone)]
pub(super) struct Waker(Arc<OwnedFd>);

impl Waker {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?)))
    }

    pub(super) fn wake(&self) {
        // the counter can only be full if nobody ever looks, and then nobody is there to wake
        rustix::io::write(&*self.0, &1_u64.to_ne_bytes()).ok();
    }

    /// Waits for the waker or, where one is given, until `fd` is readable. `None` waits for ever.
    pub(super) fn wait(&self, fd: Option<&dyn std::os::fd::AsFd>, timeout: Option<Duration>) {
        let mut fds = vec![PollFd::new(&*self.0, PollFlags::IN)];
        if let Some(fd) = fd {
            fds.push(PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN));
        }
        let timeout = timeout.and_then(|t| Timespec::try_from(t).ok());
        // an interrupted wait is a short wait: every caller looks again
        poll(&mut fds, timeout.as_ref()).ok();
        rustix::io::read(&*self.0, &mut [0; 8]).ok();
    }
}

enum Command {
    Pause,
    Resume,
    Slow(Option<f64>),
    Stop,
}

/// What each datagram is given to, on the reader's thread.
pub(super) type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// Binds `path` as Wazuh does: whatever stands there is unlinked first.
pub(super) fn bind(path: &Path) -> io::Result<UnixDatagram> {
    remove(path)?;
    let socket = UnixDatagram::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Removes a file that may be absent.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => Err(fault),
        _ => Ok(()),
    }
}

/// What a C program sees of a datagram.
pub(super) fn until_nul(datagram: &[u8]) -> &[u8] {
    let end = CStr::from_bytes_until_nul(datagram).map_or(datagram.len(), CStr::count_bytes);
    datagram.get(..end).unwrap_or_default()
}

/// Reads a socket until it is dropped.
pub(super) struct Reader {
    socket: UnixDatagram,
    commands: mpsc::Sender<(Command, SyncSender<()>)>,
    pending: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    /// Starts to read `socket` at `from`; until then datagrams wait in the kernel.
    pub(super) fn spawn(socket: UnixDatagram, from: Instant, sink: Sink) -> io::Result<Self> {
        let (commands, receiver) = mpsc::channel();
        let waker = Waker::new()?;
        let mine = socket.try_clone()?;
        let pending = Arc::new(AtomicBool::new(false));
        let side = Side {
            socket,
            receiver,
            pending: Arc::clone(&pending),
            waker: waker.clone(),
            sink,
        };
        let thread = thread::Builder::new()
            .name("wazuh-reader".into())
            .spawn(move || side.run(from))?;
        Ok(Self {
            socket: mine,
            commands,
            pending,
            waker,
            thread: Some(thread),
        })
    }

    /// Whether nothing waits for it in the kernel.
    pub(super) fn is_drained(&self) -> bool {
        rustix::io::ioctl_fionread(&self.socket).is_ok_and(|bytes| bytes == 0)
    }

    /// Returns when nothing is read any more.
    pub(super) fn pause(&self) {
        self.tell(Command::Pause);
    }

    pub(super) fn resume(&self) {
        self.tell(Command::Resume);
    }

    /// At most so many datagrams a second.
    pub(super) fn slow(&self, per_second: Option<f64>) {
        self.tell(Command::Slow(per_second));
    }

    fn tell(&self, command: Command) {
        let (done, wait) = mpsc::sync_channel(1);
        if self.commands.send((command, done)).is_ok() {
            self.pending.store(true, Ordering::Release);
            self.waker.wake();
            // an error says that the thread has ended: the same as done
            wait.recv().ok();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.tell(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // a panic of the sink has been printed by its thread
            thread.join().ok();
        }
    }
}

/// The reader as its own thread sees it.
struct Side {
    socket: UnixDatagram,
    receiver: Receiver<(Command, SyncSender<()>)>,
    pending: Arc<AtomicBool>,
    waker: Waker,
    sink: Sink,
}

impl Side {
    fn run(mut self, from: Instant) {
        let mut buffer = vec![0; MAX_DATAGRAM];
        let mut paused = false;
        let mut rate: Option<f64> = None;
        let mut credit = 0.0;
        let mut last = Instant::now();
        loop {
            if self.pending.swap(false, Ordering::AcqRel) {
                while let Ok((command, done)) = self.receiver.try_recv() {
                    match command {
                        Command::Pause => paused = true,
                        Command::Resume => paused = false,
                        Command::Slow(new) => (rate, credit, last) = (new, 0.0, Instant::now()),
                        Command::Stop => return,
                    }
                    // the teller may have gone
                    done.send(()).ok();
                }
            }
            let starting = from.saturating_duration_since(Instant::now());
            if paused || !starting.is_zero() {
                self.waker.wait(None, (!paused).then_some(starting));
                continue;
            }
            let mut budget = AT_ONCE;
            if let Some(rate) = rate {
                let now = Instant::now();
                // a second unread is not made up for
                credit = (credit + rate * (now - last).as_secs_f64()).min(rate.max(1.0));
                last = now;
                while budget > 0 && f64::from(u32::try_from(budget).unwrap_or(0)) > credit {
                    budget -= 1;
                }
                if budget == 0 {
                    self.waker.wait(None, Some(SLOW_TICK));
                    continue;
                }
            }
            let mut read = 0;
            while read < budget {
                match self.socket.recv(&mut buffer) {
                    Ok(length) => {
                        read += 1;
                        (self.sink)(buffer.get(..length).unwrap_or_default());
                    }
                    Err(_) => break,
                }
            }
            credit -= f64::from(u32::try_from(read).unwrap_or(0));
            if read < budget {
                self.waker.wait(Some(&self.socket), None);
            }
        }
    }
}
