//! A manager: the queue socket, analysisd's memory behind it, its statistics socket, its pid file
//! and the alerts file.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::pipeline::{Event, Pipeline, TICK};
use super::process::Process;
use super::reader::{Reader, bind, remove};
use super::settings::Settings;
use super::statistics::{Answer, Server};
use super::{home, lock};

/// How long the worker sleeps when nothing is there to do; a flush may come that much late.
const STILL: Duration = Duration::from_millis(100);

/// A manager in `home`. It can be ended and started again, with everything that a sender sees of
/// that; the alerts file goes on.
pub struct Manager {
    home: PathBuf,
    settings: Mutex<Settings>,
    life: Mutex<Option<Life>>,
    /// of the last life: the next one must have another
    uptime: Mutex<u64>,
    on_disk: Arc<AtomicUsize>,
}

/// One analysisd, from its start to its end.
struct Life {
    core: Arc<Core>,
    process: Process,
    reader: Reader,
    // answers as long as the life lasts
    _statistics: Option<Server>,
    worker: Option<JoinHandle<()>>,
}

struct Core {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    pipeline: Pipeline,
    asleep: bool,
    ended: bool,
}

impl Manager {
    /// Installs a manager of version 4.14.7 in `home`, where none is yet, and starts it.
    ///
    /// # Errors
    /// A folder, file, socket or process cannot be made.
    pub fn start(home: &Path, settings: Settings) -> io::Result<Self> {
        home::manager(home, "4.14.7")?;
        let manager = Self {
            home: home.to_owned(),
            settings: Mutex::new(settings),
            life: Mutex::new(None),
            uptime: Mutex::new(0),
            on_disk: Arc::default(),
        };
        manager.revive(Duration::ZERO)?;
        Ok(manager)
    }

    /// The file that alerts are written to, one event a line, as it was sent but for the header.
    #[must_use]
    pub fn alerts_file(&self) -> PathBuf {
        self.home.join("logs/alerts/alerts.json")
    }

    /// The alerts on disk, in their order, over all lives.
    #[must_use]
    pub fn alerts(&self) -> Vec<String> {
        let text = fs::read_to_string(self.alerts_file()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until `n` alerts are on disk; says whether it came to that in time.
    #[must_use]
    pub fn wait_for_alerts(&self, n: usize, timeout: Duration) -> bool {
        let there = || self.on_disk.load(Ordering::Acquire) >= n;
        there() || self.wait(timeout, |_| there())
    }

    /// Waits until its socket, `others`, `processed` and `alerts` are empty, workers' hands included.
    #[must_use]
    pub fn wait_idle(&self, timeout: Duration) -> bool {
        let since = Instant::now();
        while since.elapsed() < timeout {
            let is_drained = |life: &Life| life.reader.is_drained();
            let is_drained = lock(&self.life).as_ref().is_none_or(is_drained);
            // What was drained may still be in the reader's hand.
            thread::sleep(Duration::from_millis(2));
            if is_drained && self.wait(timeout.saturating_sub(since.elapsed()), Pipeline::is_idle) {
                return true;
            }
        }
        false
    }

    /// Waits until this life's process took `n` events, other senders' included, off the socket.
    #[must_use]
    pub fn wait_received(&self, n: u64, timeout: Duration) -> bool {
        self.wait(timeout, |pipeline| pipeline.received() >= n)
    }

    /// Events of location `office365` that this life's process dropped.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.core()
            .map_or(0, |core| lock(&core.state).pipeline.dropped())
    }

    /// The `data` of `getstats`, without asking the socket; null when nothing runs.
    #[must_use]
    pub fn statistics(&self) -> Value {
        self.core()
            .and_then(|core| core.statistics())
            .unwrap_or_default()
    }

    /// The id in the pid file, if it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        lock(&self.life).as_ref().map(|life| life.process.id())
    }

    /// Changes how it behaves, from now on and in later lives.
    pub fn tune(&self, change: impl FnOnce(&mut Settings)) {
        let mut settings = lock(&self.settings);
        change(&mut settings);
        if let Some(core) = self.core() {
            lock(&core.state).pipeline.settings = settings.clone();
            core.changed.notify_all();
        }
    }

    /// Stops reading the queue socket, as under SIGSTOP; the queues behind it go on.
    pub fn pause(&self) {
        if let Some(life) = &*lock(&self.life) {
            life.reader.pause();
        }
    }

    /// Reads again after [`pause`](Self::pause).
    pub fn resume(&self) {
        if let Some(life) = &*lock(&self.life) {
            life.reader.resume();
        }
    }

    /// Ends as on SIGTERM: what is in the three queues is lost, the alerts file is flushed, the
    /// pid file removed. The socket files stay.
    ///
    /// # Errors
    /// The alerts file cannot be written or the pid file not be removed.
    pub fn terminate(&self) -> io::Result<()> {
        let Some(life) = lock(&self.life).take() else {
            return Ok(());
        };
        life.process.remove_file()?;
        let (rest, _) = life.end();
        self.write(rest)
    }

    /// Ends as on SIGKILL: what was not flushed is lost as well, and the pid file stays. A flush that
    /// is only late because this machine has too much to do was done.
    pub fn kill(&self) {
        let Some(life) = lock(&self.life).take() else {
            return;
        };
        if let (rest, true) = life.end()
            && let Err(fault) = self.write(rest)
        {
            eprintln!("fake analysisd: {fault}");
        }
    }

    /// Starts another life, if none is: another process, another `uptime`, metrics from 0. It binds
    /// the queue socket now; for the time of `loading` it reads nothing and answers nothing.
    ///
    /// # Errors
    /// A socket, file or process cannot be made.
    pub fn revive(&self, loading: Duration) -> io::Result<()> {
        let mut life = lock(&self.life);
        if life.is_some() {
            return Ok(());
        }
        let now = Instant::now();
        let ready = now + loading;
        let uptime = {
            let mut uptime = lock(&self.uptime);
            *uptime = epoch().max(*uptime + 1);
            *uptime
        };
        let settings = lock(&self.settings).clone();
        let has_statistics = settings.statistics;
        let pipeline = Pipeline::new(settings, uptime, now);
        let core = Arc::new(Core {
            state: Mutex::new(State {
                pipeline,
                asleep: false,
                ended: false,
            }),
            changed: Condvar::new(),
        });
        let socket = bind(&self.home.join("queue/sockets/queue"))?;
        let process = Process::start(&self.home, "wazuh-analysisd")?;
        let path = self.home.join("queue/sockets/analysis");
        let statistics = if has_statistics {
            let core = Arc::clone(&core);
            let answer: Answer = Box::new(move |request| {
                let after = lock(&core.state).pipeline.settings.answers_after;
                thread::sleep(after);
                core.answer(request)
            });
            Some(Server::spawn(path, ready, answer)?)
        } else {
            remove(&path)?;
            None
        };
        let worker = {
            let (core, file, on_disk) = (
                Arc::clone(&core),
                self.alerts_file(),
                Arc::clone(&self.on_disk),
            );
            let work = move || core.work(&file, &on_disk);
            thread::Builder::new()
                .name("wazuh-analysisd".into())
                .spawn(work)?
        };
        let sink = {
            let core = Arc::clone(&core);
            Box::new(move |datagram: &[u8]| core.take(datagram))
        };
        let reader = Reader::spawn(socket, ready, sink)?;
        *life = Some(Life {
            core,
            process,
            reader,
            _statistics: statistics,
            worker: Some(worker),
        });
        Ok(())
    }

    /// [`terminate`](Self::terminate) and [`revive`](Self::revive): what `systemctl restart` does.
    ///
    /// # Errors
    /// As those two.
    pub fn restart(&self, loading: Duration) -> io::Result<()> {
        self.terminate()?;
        self.revive(loading)
    }

    fn core(&self) -> Option<Arc<Core>> {
        lock(&self.life).as_ref().map(|life| Arc::clone(&life.core))
    }

    fn wait(&self, timeout: Duration, until: impl Fn(&Pipeline) -> bool) -> bool {
        let end = Instant::now() + timeout;
        let Some(core) = self.core() else {
            return false;
        };
        let mut state = lock(&core.state);
        while !until(&state.pipeline) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() || state.ended {
                return false;
            }
            state = core
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        true
    }

    fn write(&self, lines: Option<Vec<u8>>) -> io::Result<()> {
        lines.map_or(Ok(()), |lines| {
            append(&self.alerts_file(), &lines, &self.on_disk)
        })
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Life {
    /// Ends every thread; gives what was written but not flushed, and whether that was due.
    fn end(mut self) -> (Option<Vec<u8>>, bool) {
        let is_due = {
            // from here on nothing is taken or worked on: memory is as good as gone
            let mut state = lock(&self.core.state);
            state.ended = true;
            self.core.changed.notify_all();
            state.pipeline.is_flush_due(Instant::now())
        };
        if let Some(worker) = self.worker.take() {
            // a panic has been printed by its thread
            worker.join().ok();
        }
        (lock(&self.core.state).pipeline.flush(), is_due)
    }
}

impl Core {
    fn take(&self, datagram: &[u8]) {
        let Some(event) = Event::of(datagram) else {
            return;
        };
        let mut state = lock(&self.state);
        if state.ended {
            return;
        }
        state.pipeline.offer(event);
        if state.asleep {
            state.asleep = false;
            self.changed.notify_all();
        }
    }

    fn work(&self, file: &Path, on_disk: &AtomicUsize) {
        let mut state = lock(&self.state);
        while !state.ended {
            if let Some(lines) = state.pipeline.step(Instant::now()) {
                drop(state);
                if let Err(fault) = append(file, &lines, on_disk) {
                    // seen by the test as alerts that never come
                    eprintln!("fake analysisd: {}: {fault}", file.display());
                }
                state = lock(&self.state);
            }
            self.changed.notify_all();
            let pause = if state.pipeline.is_still() {
                STILL
            } else {
                TICK
            };
            state.asleep = pause == STILL;
            let end = Instant::now() + pause;
            loop {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() || state.ended || (pause == STILL && !state.asleep) {
                    break;
                }
                state = self
                    .changed
                    .wait_timeout(state, left)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
        }
    }

    /// As of a moment ago, however late the worker is: whoever looks twice may count on it that what no
    /// queue held at first has gone on. `None` from the end on.
    fn statistics(&self) -> Option<Value> {
        let mut state = lock(&self.state);
        while state.pipeline.is_late(Instant::now()) && !state.ended {
            state = self
                .changed
                .wait_timeout(state, STILL)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        (!state.ended).then(|| state.pipeline.statistics(Instant::now(), epoch()))
    }

    fn answer(&self, request: &str) -> Option<String> {
        let request: Value =
            serde_json::from_str(request.trim_end_matches('\0')).unwrap_or_default();
        let known = request.get("version") == Some(&json!(1))
            && request.pointer("/origin/module").is_some();
        let answer = match request.get("command").and_then(Value::as_str) {
            Some("getstats") if known => {
                json!({ "error": 0, "message": "ok", "data": self.statistics()? })
            }
            _ => json!({ "error": 6, "message": "Unrecognized command", "data": {} }),
        };
        Some(answer.to_string())
    }
}

fn append(path: &Path, lines: &[u8], on_disk: &AtomicUsize) -> io::Result<()> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)?
        .write_all(lines)?;
    on_disk.fetch_add(lines.split(|&b| b == b'\n').count() - 1, Ordering::Release);
    Ok(())
}

fn epoch() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
