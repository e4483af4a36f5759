//! A dry run's way out: standard output, which may be a pager that somebody looks at for long.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{Delivery, Halt};
use crate::Error;
use crate::terminal::escaped;

/// What a pipe takes at once if it takes anything.
const PAGE: usize = 4096;
/// How long a single wait may be, so that a stop is noticed.
const SLICE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

impl Delivery {
    /// Writes the JSON of datagrams to standard output, a line each. Who closes it has seen enough; who does not read it
    /// holds up records, and nothing else.
    pub(super) fn print(&mut self, datagrams: &[&[u8]]) -> Result<(), Halt> {
        let out = std::io::stdout();
        for datagram in datagrams {
            let json = datagram.splitn(3, |byte| *byte == b':').nth(2);
            let line = [&*escaped(json.unwrap_or_default()), b"\n"].concat();
            let mut rest = line.as_slice();
            while !rest.is_empty() {
                let mut ready = [PollFd::new(&out, PollFlags::OUT)];
                // A pipe that is ready takes a page without blocking.
                let piece = rest.get(..PAGE).unwrap_or(rest);
                let written = match poll(&mut ready, Some(&SLICE)) {
                    Ok(1..) => rustix::io::write(&out, piece),
                    Ok(0) => Ok(0),
                    Err(fault) => Err(fault),
                };
                let written = match written {
                    Ok(written) => written,
                    Err(Errno::INTR | Errno::AGAIN) => 0,
                    Err(Errno::PIPE) => return Err(Halt::Asked),
                    Err(fault) => {
                        let fault = std::io::Error::from(fault);
                        return Err(Error::TryLater(format!("standard output: {fault}")).into());
                    }
                };
                rest = rest.get(written..).unwrap_or_default();
                if written == 0 {
                    if self.is_stopped() {
                        return Err(Halt::Asked);
                    }
                    while let Ok(order) = self.orders.try_recv() {
                        self.meanwhile(order)?;
                    }
                }
            }
        }
        Ok(())
    }
}
