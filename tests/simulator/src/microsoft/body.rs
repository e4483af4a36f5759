//! What an answer's body consists of, and how it travels.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flate2::{Compression, Crc, write::GzEncoder};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Sleep, sleep};

/// How long the last bytes get to leave before a transfer is broken off; without it the cut
/// would swallow what is still in the server's buffer.
const FLUSH: Duration = Duration::from_millis(10);

/// A body in parts, so that one of gigabytes costs nothing until it is sent.
#[derive(Debug, Clone, Default)]
pub struct Body {
    parts: VecDeque<Part>,
}

/// A piece of a [`Body`].
#[derive(Clone)]
pub enum Part {
    /// These bytes.
    Bytes(Bytes),
    /// A unit this many times over.
    Repeat(Bytes, u64),
    /// The units that the function makes of each number of the range.
    Make(
        std::ops::Range<u64>,
        Arc<dyn Fn(u64) -> Bytes + Send + Sync>,
    ),
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Repeat(unit, count) => write!(f, "Repeat({}, {count})", unit.len()),
            Self::Make(range, _) => write!(f, "Make({range:?})"),
        }
    }
}

impl<T: Into<Bytes>> From<T> for Body {
    fn from(bytes: T) -> Self {
        Self::of([Part::Bytes(bytes.into())])
    }
}

impl Body {
    /// A body of these parts.
    pub fn of(parts: impl IntoIterator<Item = Part>) -> Self {
        Self {
            parts: parts.into_iter().collect(),
        }
    }

    /// A JSON array of `count` records, each made by `record` when its turn comes.
    pub fn array(count: u64, record: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let element = move |n| {
            let mut bytes = record(n);
            if n > 0 {
                bytes.insert(0, b',');
            }
            Bytes::from(bytes)
        };
        Self::of([
            Part::Bytes(Bytes::from_static(b"[")),
            Part::Make(0..count, Arc::new(element)),
            Part::Bytes(Bytes::from_static(b"]")),
        ])
    }

    /// Its length in bytes, if that is known without making it.
    pub(super) fn len(&self) -> Option<u64> {
        self.parts.iter().try_fold(0_u64, |sum, part| match part {
            Part::Bytes(bytes) => sum.checked_add(bytes.len() as u64),
            Part::Repeat(unit, count) => sum.checked_add((unit.len() as u64).checked_mul(*count)?),
            Part::Make(..) => None,
        })
    }

    /// The bytes, if it is one piece.
    pub(super) fn whole(&self) -> Option<&Bytes> {
        match (self.parts.front(), self.parts.len()) {
            (Some(Part::Bytes(bytes)), 1) => Some(bytes),
            _ => None,
        }
    }

    /// Puts an element into the array: in front of the comma at `middle`, or as the first one.
    /// A body that does not begin as an array stays as it is.
    pub(super) fn insert_element(&mut self, middle: Option<usize>, element: Vec<Part>) {
        let Some(Part::Bytes(first)) = self.parts.front().cloned() else {
            return;
        };
        if first.first() != Some(&b'[') {
            return;
        }
        let comma = Part::Bytes(Bytes::from_static(b","));
        let mut parts = Vec::with_capacity(element.len() + 3);
        if let Some(at) = middle.filter(|&at| first.get(at) == Some(&b',')) {
            parts.push(Part::Bytes(first.slice(..at)));
            parts.push(comma);
            parts.extend(element);
            parts.push(Part::Bytes(first.slice(at..)));
        } else {
            parts.push(Part::Bytes(first.slice(..1)));
            parts.extend(element);
            if first.get(1) != Some(&b']') {
                parts.push(comma);
            }
            parts.push(Part::Bytes(first.slice(1..)));
        }
        self.parts.pop_front();
        for part in parts.into_iter().rev() {
            self.parts.push_front(part);
        }
    }

    /// Inserts white space without end behind the array's bracket.
    pub(super) fn never_end(&mut self) {
        let blanks = Part::Repeat(Bytes::from(vec![b' '; 65_536]), u64::MAX);
        self.parts.push_front(blanks);
        self.parts.push_front(Part::Bytes(Bytes::from_static(b"[")));
    }

    fn next_chunk(&mut self) -> Option<Bytes> {
        loop {
            match self.parts.front_mut()? {
                Part::Bytes(bytes) if !bytes.is_empty() => return Some(std::mem::take(bytes)),
                Part::Repeat(unit, left) if *left > 0 => {
                    *left -= 1;
                    return Some(unit.clone());
                }
                Part::Make(range, make) if !range.is_empty() => {
                    let n = range.start;
                    range.start += 1;
                    return Some(make(n));
                }
                _ => {
                    self.parts.pop_front();
                }
            }
        }
    }
}

/// The gzip form of `bytes`.
pub(super) fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing into a vector cannot fail.
    let done = encoder.write_all(bytes).and_then(|()| encoder.finish());
    Bytes::from(done.unwrap_or_default())
}

/// A gzip stream that unpacks to `[`, this many mebibytes of blanks, and `]`.
pub(super) fn gzip_bomb(mebibytes: u64) -> Body {
    // A deflate block that is closed on a byte boundary and refers to nothing before it may be
    // repeated at will.
    let block = |bytes: &[u8]| {
        let mut packed = Vec::with_capacity(bytes.len() / 500 + 64);
        let mut deflate = flate2::Compress::new(Compression::best(), false);
        match deflate.compress_vec(bytes, &mut packed, flate2::FlushCompress::Full) {
            Ok(_) => Bytes::from(packed),
            Err(_) => Bytes::new(),
        }
    };
    let head = Bytes::from_static(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff]);
    let blanks = vec![b' '; 1 << 20];
    let (mut checksum, mut unit) = (Crc::new(), Crc::new());
    unit.update(&blanks);
    checksum.update(b"[");
    for _ in 0..mebibytes {
        checksum.combine(&unit);
    }
    checksum.update(b"]");
    let (sum, amount) = (
        checksum.sum().to_le_bytes(),
        checksum.amount().to_le_bytes(),
    );
    let tail = Bytes::from([&[3, 0][..], &sum, &amount].concat());
    Body::of([
        Part::Bytes(head),
        Part::Bytes(block(b"[")),
        Part::Repeat(block(&blanks), mebibytes),
        Part::Bytes(block(b"]")),
        Part::Bytes(tail),
    ])
}

/// How a transfer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With its last byte.
    Whole,
    /// The connection breaks after so many percent.
    Break(u8),
    /// Nothing more comes after so many percent, and the connection stays.
    Stall(u8),
}

/// A body on its way.
#[derive(Debug)]
pub(super) struct Transfer {
    body: Body,
    length: Option<u64>,
    chunk: Bytes,
    left: u64,
    end: End,
    drip: Option<(usize, Duration)>,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Transfer {
    /// `chunked` hides the length from the client.
    pub(super) fn new(
        body: Body,
        end: End,
        chunked: bool,
        drip: Option<(usize, Duration)>,
    ) -> Self {
        let length = body.len();
        let left = match end {
            End::Whole => u64::MAX,
            End::Break(percent) | End::Stall(percent) => {
                length
                    .unwrap_or(1 << 20)
                    .saturating_mul(percent.min(99).into())
                    / 100
            }
        };
        Self {
            body,
            length: length.filter(|_| !chunked),
            chunk: Bytes::new(),
            left,
            end,
            drip,
            pause: None,
        }
    }
}

impl hyper::body::Body for Transfer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if let Some(pause) = &mut self.pause {
            std::task::ready!(pause.as_mut().poll(context));
            self.pause = None;
            if self.left == 0 && matches!(self.end, End::Break(_)) {
                return Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())));
            }
        }
        if self.left == 0 {
            if matches!(self.end, End::Stall(_)) {
                return Poll::Pending;
            }
            self.pause = Some(Box::pin(sleep(FLUSH)));
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.chunk.is_empty() {
            match self.body.next_chunk() {
                Some(chunk) => self.chunk = chunk,
                None => return Poll::Ready(None),
            }
        }
        let mut take = self.chunk.len();
        if let Some((bytes, every)) = self.drip {
            take = take.min(bytes.max(1));
            self.pause = Some(Box::pin(sleep(every)));
        }
        take = take.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if self.end != End::Whole {
            self.left -= take as u64;
        }
        Poll::Ready(Some(Ok(Frame::data(self.chunk.split_to(take)))))
    }

    fn size_hint(&self) -> SizeHint {
        self.length
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    fn is_end_stream(&self) -> bool {
        self.length == Some(0)
    }
}
