//! NARs compressed while they are sent, where the line is slower than the processor.
//!
//! A stream takes memory as long as it lasts, out of one budget for all of them ([`Compressors`]), and a thread only while a chunk is
//! compressed. What does not become smaller is passed on as good as it is.

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use std::io::{self, Write as _};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, spawn_blocking};
use zstd::stream::write::Encoder as ZstdEncoder;
use zstd::zstd_safe::{CParameter, CompressionLevel};

/// How much memory all streams may take together, in MiB.
const MEMORY: usize = 64;
/// The largest window, as a power of two: 2 MiB.
const WINDOW_LOG: u32 = 21;
/// From this size on a NAR needs the whole window, in bytes; below [`SMALL`] tables are small as well.
const LARGE: u64 = 1024 * 1024;
const SMALL: u64 = 256 * 1024;
/// Lines up to these rates, in bytes a second, with the level that is worth its time there.
const LEVELS: [(u64, CompressionLevel); 3] = [(4_000_000, 9), (16_000_000, 6), (u64::MAX, 3)];
/// The level where the line is not known.
const UNKNOWN: CompressionLevel = 3;
/// What costs as good as nothing, for what does not become smaller, and where all memory is taken; with a window of 128 KiB.
const CHEAP: CompressionLevel = -5;
const CHEAP_WINDOW_LOG: u32 = 17;
/// How much is looked at before that is decided, in bytes.
const SAMPLE: u64 = 1024 * 1024;

/// The level for a line of so many bytes a second; 0: that is not known.
fn level(rate: u64) -> CompressionLevel {
    if rate == 0 {
        return UNKNOWN;
    }
    LEVELS.iter().find(|(most, _)| rate <= *most).map_or(UNKNOWN, |(_, level)| *level)
}

/// What a stream of `size` bytes takes at this level, in MiB; what zstd says, rounded up.
const fn memory(level: CompressionLevel, size: u64) -> u32 {
    match (size, level) {
        (..SMALL, ..=3) => 1,
        (..SMALL, _) | (_, ..=3) => 4,
        (_, ..=6) => 8,
        (..LARGE, _) => 12,
        (LARGE.., _) => 16,
    }
}

/// Whether a NAR is small enough as it is: less than a tenth of it would be saved.
const fn is_dense(came: u64, became: u64) -> bool {
    became > came / 10 * 9
}

/// The memory for all streams. A cheap handle: clones are the same.
#[derive(Clone)]
pub(super) struct Compressors(Arc<Semaphore>);

/// How one stream is compressed.
pub(super) struct Compressor {
    level: CompressionLevel,
    size: u64,
    /// `None`: it takes next to nothing.
    memory: Option<OwnedSemaphorePermit>,
}

impl Compressors {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MEMORY)))
    }

    /// For `size` bytes over a line of this `rate`; `None` where the others need all the memory.
    pub(super) fn try_take(&self, size: u64, rate: u64) -> Option<Compressor> {
        // Less work is better than none.
        let levels = LEVELS.iter().map(|(_, other)| *other).filter(|other| *other <= level(rate));
        levels.into_iter().find_map(|level| {
            let memory = Arc::clone(&self.0).try_acquire_many_owned(memory(level, size)).ok()?;
            Some(Compressor { level, size, memory: Some(memory) })
        })
    }

    /// The same for one who has to get it compressed: where there is no memory, as good as that goes without.
    pub(super) fn take(&self, size: u64) -> Compressor {
        let cheap = Compressor { level: CHEAP, size, memory: None };
        self.try_take(size, 0).unwrap_or(cheap)
    }
}

/// A frame of zstd in the making.
struct Encoder {
    zstd: ZstdEncoder<'static, Vec<u8>>,
    /// How much came and what became of it, in bytes, until it is decided whether that is worth it.
    sample: Option<(u64, u64)>,
}

impl Encoder {
    fn new(level: CompressionLevel, size: Option<u64>) -> io::Result<Self> {
        let mut zstd = ZstdEncoder::new(Vec::new(), level)?;
        // What is small gets small tables. What is not may go on as another frame.
        let small = size.filter(|size| *size < SAMPLE);
        if small.is_some() {
            zstd.set_pledged_src_size(small)?;
        } else {
            let window = if level == CHEAP { CHEAP_WINDOW_LOG } else { WINDOW_LOG };
            zstd.set_parameter(CParameter::WindowLog(window))?;
        }
        Ok(Self { zstd, sample: (small.is_none() && level != CHEAP).then_some((0, 0)) })
    }

    /// What the next bytes become; a part of it may come later.
    fn encode(mut self, chunk: &[u8]) -> io::Result<(Self, Bytes)> {
        self.zstd.write_all(chunk)?;
        let mut encoded = std::mem::take(self.zstd.get_mut());
        if let Some((came, became)) = &mut self.sample {
            *came += chunk.len() as u64;
            *became += encoded.len() as u64;
            if *came >= SAMPLE {
                let is_dense = is_dense(*came, *became);
                self.sample = None;
                if is_dense {
                    // A frame ends wherever it likes, and the next one may be made another way.
                    encoded.extend(self.zstd.finish()?);
                    self = Self::new(CHEAP, None)?;
                }
            }
        }
        Ok((self, encoded.into()))
    }

    fn finish(self) -> io::Result<Bytes> {
        self.zstd.finish().map(Bytes::from)
    }
}

/// What became of a chunk: the encoder, unless that was the end.
type Encoded = io::Result<(Option<Box<Encoder>>, Bytes)>;

enum State {
    /// Nothing came yet.
    Begin(Compressor),
    Idle(Box<Encoder>),
    Busy(JoinHandle<Encoded>),
    Done,
}

/// A body, compressed on its way.
pub(super) struct Compressed<B> {
    inner: B,
    state: State,
    /// Held as long as this is there.
    memory: Option<OwnedSemaphorePermit>,
}

impl<B> Compressed<B> {
    pub(super) const fn new(inner: B, compressor: Compressor) -> Self {
        Self { inner, state: State::Begin(compressor), memory: None }
    }
}

impl<B> HttpBody for Compressed<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        loop {
            if let State::Busy(encoding) = &mut self.state {
                let encoded = ready!(Pin::new(encoding).poll(context));
                let (encoder, bytes) = match encoded.map_err(io::Error::other).flatten() {
                    Ok(encoded) => encoded,
                    Err(error) => {
                        self.state = State::Done;
                        return Poll::Ready(Some(Err(error.into())));
                    }
                };
                self.state = encoder.map_or(State::Done, State::Idle);
                if !bytes.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(bytes))));
                }
                continue;
            }
            if matches!(self.state, State::Done) {
                return Poll::Ready(None);
            }
            let chunk = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Err(error)) => {
                    self.state = State::Done;
                    return Poll::Ready(Some(Err(error.into())));
                }
                Some(Ok(frame)) => Some(frame.into_data().unwrap_or_default()),
                None => None,
            };
            self.state = match std::mem::replace(&mut self.state, State::Done) {
                State::Begin(Compressor { level, size, memory }) => {
                    self.memory = memory;
                    State::Busy(spawn_blocking(move || encode(Encoder::new(level, Some(size))?, chunk)))
                }
                State::Idle(encoder) => State::Busy(spawn_blocking(move || encode(*encoder, chunk))),
                // Seen above.
                other => other,
            };
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn encode(encoder: Encoder, chunk: Option<Bytes>) -> Encoded {
    match chunk {
        Some(chunk) => encoder.encode(&chunk).map(|(encoder, bytes)| (Some(Box::new(encoder)), bytes)),
        None => encoder.finish().map(|bytes| (None, bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt, StreamBody};

    /// A NAR in chunks.
    fn body(content: &Bytes, chunk: usize) -> impl HttpBody<Data = Bytes, Error = io::Error> + Unpin {
        let chunks: Vec<_> =
            content.chunks(chunk).map(|chunk| Ok(Frame::data(Bytes::copy_from_slice(chunk)))).collect();
        StreamBody::new(Chunks(chunks.into_iter()))
    }

    struct Chunks(std::vec::IntoIter<io::Result<Frame<Bytes>>>);

    impl futures_core::Stream for Chunks {
        type Item = io::Result<Frame<Bytes>>;

        fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Poll::Ready(self.0.next())
        }
    }

    /// Bytes that do not compress.
    fn noise(length: usize) -> Bytes {
        let mut state = 88_172_645_463_325_252_u64;
        let bytes = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state & 0xff) as u8
        });
        bytes.take(length).collect()
    }

    #[tokio::test]
    async fn what_is_compressed_is_what_came() {
        let compressors = Compressors::new();
        let text: Bytes = "one line like the other\n".repeat(100_000).into();
        for (content, least, most) in [
            (Bytes::new(), 0, 100),
            (text.slice(..10), 0, 100),
            (text, 0, 20_000),
            (noise(3_000_000), 2_900_000, 3_001_000),
            ([noise(1_200_000), vec![0; 1_000_000].into()].concat().into(), 1_100_000, 1_300_000),
        ] {
            for rate in [0, 1_000_000, 10_000_000, 50_000_000] {
                let compressor = compressors.try_take(content.len() as u64, rate).unwrap();
                let compressed =
                    Compressed::new(body(&content, 70_000), compressor).collect().await.unwrap().to_bytes();
                assert!((least..=most).contains(&compressed.len()), "{} at {rate}", compressed.len());
                assert!(zstd::decode_all(&compressed[..]).unwrap() == content);
            }
        }
        assert_eq!(compressors.0.available_permits(), MEMORY);
    }

    #[test]
    fn memory_is_held_as_long_as_the_stream_lasts_and_no_more_of_it_than_there_is() {
        let compressors = Compressors::new();
        let taken: Vec<Compressor> = std::iter::from_fn(|| compressors.try_take(LARGE, 1)).collect();
        assert_eq!(taken.len(), MEMORY / 16, "each of them at the best level");
        assert!(compressors.try_take(1, 0).is_none());
        assert!(compressors.take(LARGE).memory.is_none(), "whoever must have it compressed waits for nobody");
        drop(taken);
        assert!(compressors.take(LARGE).memory.is_some());
    }

    #[test]
    fn the_slower_the_line_the_more_work_is_worth_it() {
        assert_eq!([0, 2_500_000, 10_000_000, 50_000_000].map(level), [3, 9, 6, 3]);
    }
}
