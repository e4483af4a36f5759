//! A body as it streams in, with a bound on everything: time without progress, speed, size.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::time::{Instant, timeout};

use super::fault::{Class, Fault};
use super::http::causes;
use crate::teeth;

/// The most that a body may hold, decompressed.
const MAX_BYTES: u64 = 1 << 30;
/// What must come within the time that an answer may take to begin, or the server is stalling.
const MIN_PROGRESS: u64 = 64 * 1024;

/// A blob's body: the bytes of a JSON array of records, decompressed, in pieces.
///
/// An end before the transfer was complete is a [`Fault`], never `None`. (Only a server that
/// neither tells the length nor sends in chunks can end early unnoticed: the array is open then.)
#[derive(Debug)]
pub struct Blob {
    response: Response,
    ahead: Option<Bytes>,
    url: Box<str>,
    patience: Duration,
    received: u64,
    /// Time spent waiting for the network since the last check of progress, and bytes since then.
    waited: Duration,
    progress: u64,
}

impl Blob {
    pub(super) fn new(response: Response, url: Box<str>, patience: Duration) -> Self {
        Self {
            response,
            ahead: None,
            url,
            patience,
            received: 0,
            waited: Duration::ZERO,
            progress: 0,
        }
    }

    /// The next bytes, at least one; `None` after the last.
    ///
    /// # Errors
    /// [`Class::Retry`] if the transfer broke off, stalls or drips; [`Class::Failed`] if it exceeds
    /// 1 GiB. Fetch the blob again then: what came so far is no whole.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        if let Some(ahead) = self.ahead.take() {
            return Ok(Some(ahead));
        }
        loop {
            let start = Instant::now();
            let chunk = match timeout(self.patience, self.response.chunk()).await {
                Ok(Ok(Some(chunk))) => chunk,
                Ok(Ok(None)) => return Ok(None),
                Ok(Err(error)) => {
                    return Err(self.broken(format!("the transfer broke off: {}", causes(&error))));
                }
                Err(_) => {
                    return Err(self.broken(format!(
                        "the transfer stalled for {} s",
                        self.patience.as_secs()
                    )));
                }
            };
            let size = chunk.len() as u64;
            self.received += size;
            // What says its length is not begun in vain.
            let told = self.response.content_length().unwrap_or(0);
            if self.received.max(told) > MAX_BYTES && !teeth::is_off("limit") {
                return Err(Fault::new(
                    Class::Failed,
                    "the answer is larger than 1 GiB",
                    "report it with this message",
                    self.url.clone(),
                ));
            }
            self.waited += start.elapsed();
            self.progress += size;
            if self.progress >= MIN_PROGRESS {
                (self.waited, self.progress) = (Duration::ZERO, 0);
            } else if self.waited > self.patience {
                return Err(self.broken(format!(
                    "only {} bytes came in {} s",
                    self.progress,
                    self.waited.as_secs()
                )));
            }
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
    }

    /// Looks at the first byte that is no white space (nor a BOM), which the next
    /// [`chunk`](Self::chunk) then begins with.
    pub(super) async fn first_byte(&mut self) -> Result<Option<u8>, Fault> {
        let mut bom = true;
        loop {
            let Some(mut chunk) = self.chunk().await? else {
                return Ok(None);
            };
            if bom && chunk.starts_with(b"\xef\xbb\xbf") {
                chunk = chunk.slice(3..);
            }
            bom = false;
            let blank = chunk.len() - chunk.trim_ascii_start().len();
            chunk = chunk.slice(blank..);
            if let Some(&first) = chunk.first() {
                self.ahead = Some(chunk);
                return Ok(Some(first));
            }
        }
    }

    /// The first `max` bytes, as far as they come: for answers whose content only explains a fault.
    pub(super) async fn head(&mut self, max: usize) -> Vec<u8> {
        let mut head = Vec::new();
        while head.len() < max {
            match self.chunk().await {
                Ok(Some(chunk)) => head.extend_from_slice(&chunk),
                Ok(None) | Err(_) => break,
            }
        }
        head.truncate(max);
        head
    }

    /// All of a small answer.
    pub(super) async fn whole(&mut self, max: usize) -> Result<Vec<u8>, Fault> {
        let mut whole = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            whole.extend_from_slice(&chunk);
            if whole.len() > max {
                return Err(self.broken(format!("the answer is larger than {max} bytes")));
            }
        }
        Ok(whole)
    }

    pub(super) fn broken(&self, message: String) -> Fault {
        Fault::broken(message, self.url.clone())
    }

    /// What the next [`chunk`](Self::chunk) is.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        self.ahead = Some(bytes);
    }

    pub(super) fn response(&self) -> &Response {
        &self.response
    }
}
