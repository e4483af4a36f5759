//! What Microsoft answers, as it streams in, with a bound on everything: time without progress, speed, size.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use reqwest::header::CONTENT_LENGTH;
use tokio::time::{Instant, timeout};

use super::fault::{Class, Fault};
use super::http::causes;
use crate::teeth;

/// The most that a body may hold, decompressed.
const MAX_BYTES: u64 = 1 << 30;
/// What must come within the time that an answer may take to begin, or the server is stalling.
const MIN_PROGRESS: u64 = 64 * 1024;

/// The byte order mark that may stand in front.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// An answer and its body: the bytes of a JSON array of contents or records, decompressed, in pieces.
///
/// An end before the transfer was complete is a [`Fault`], never `None`. (Only a server that
/// neither tells the length nor sends in chunks can end early unnoticed: the array is open then.)
#[derive(Debug)]
pub struct Body {
    response: Response,
    ahead: Option<Bytes>,
    url: Box<str>,
    patience: Duration,
    begun: Instant,
    received: u64,
    /// Time spent waiting for the network since the last check of progress, and bytes since then.
    waited: Duration,
    progress: u64,
}

impl Body {
    pub(super) fn new(response: Response, url: Box<str>, patience: Duration) -> Self {
        Self {
            response,
            ahead: None,
            url,
            patience,
            begun: Instant::now(),
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
            let told = self.response.headers().get(CONTENT_LENGTH);
            let told = told.and_then(|length| length.to_str().ok()?.parse().ok());
            let told: u64 = told.unwrap_or(0);
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
        let mut mark = MARK;
        loop {
            let Some(chunk) = self.chunk().await? else {
                return Ok(None);
            };
            let chunk = behind_mark_and_blank(&chunk, &mut mark);
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

    /// As [`Self::broken`], where Microsoft does answer, if badly.
    pub(super) fn bad(&self, message: String) -> Fault {
        Fault {
            status: Some(self.response.status().as_u16()),
            ..self.broken(message)
        }
    }

    /// What the next [`chunk`](Self::chunk) is.
    pub(super) fn put_back(&mut self, bytes: Bytes) {
        self.ahead = Some(bytes);
    }

    pub(super) fn response(&self) -> &Response {
        &self.response
    }

    /// When the answer began to come.
    pub(super) fn begun(&self) -> Instant {
        self.begun
    }
}

/// What of a body's next chunk stands behind the byte order mark and white space; `mark` is what of the mark may still come,
/// since it may come in parts.
fn behind_mark_and_blank(chunk: &Bytes, mark: &mut &[u8]) -> Bytes {
    let same = |(left, right): &(&u8, &u8)| left == right;
    let marked = chunk.iter().zip(mark.iter()).take_while(same).count();
    *mark = mark.get(marked..).unwrap_or_default();
    let chunk = chunk.slice(marked..);
    if !chunk.is_empty() {
        *mark = &[];
    }
    let blank = chunk.len() - chunk.trim_ascii_start().len();
    chunk.slice(blank..)
}

#[cfg(test)]
mod tests {
    use super::{Bytes, MARK, behind_mark_and_blank};

    #[test]
    fn a_mark_and_white_space_are_passed_over_however_the_body_is_cut() {
        for (body, expected) in [
            ("\u{feff}[1]", "[1]"),
            ("\u{feff} \r\n[\u{feff}]", "[\u{feff}]"),
            ("\n [1]", "[1]"),
            ("[1]", "[1]"),
            ("\u{feff}", ""),
            ("\u{feff}\u{feff}[1]", "\u{feff}[1]"),
            (" \u{feff}[1]", "\u{feff}[1]"),
        ] {
            for size in 1..=body.len() {
                let mut mark = MARK;
                let mut chunks = body.as_bytes().chunks(size);
                // as they come, up to the first that has something
                let first = chunks.by_ref().find_map(|chunk| {
                    let rest = behind_mark_and_blank(&Bytes::copy_from_slice(chunk), &mut mark);
                    (!rest.is_empty()).then_some(rest)
                });
                let rest: Vec<u8> = first
                    .into_iter()
                    .flatten()
                    .chain(chunks.flatten().copied())
                    .collect();
                assert_eq!(
                    String::from_utf8_lossy(&rest),
                    expected,
                    "{body:?} by {size}"
                );
            }
        }
    }
}
