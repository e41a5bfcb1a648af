//! NARs compressed while they are sent, where the line is slower than the processor.
//!
//! A stream takes memory until its last byte is compressed, out of one budget for all of them ([`Compressors`]), and a thread only while a chunk
//! is compressed. What does not become smaller is passed on as good as it is.

use super::spare::Spare;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::Instant;
use zstd::stream::write::Encoder as ZstdEncoder;
use zstd::zstd_safe::{CParameter, CompressionLevel};

/// How much memory all streams may take together, in MiB.
const MEMORY: usize = 64;
/// What of it is left to the level that takes least.
const LEFT: usize = MEMORY / 4;
/// The largest window, as a power of two: 2 MiB.
const WINDOW_LOG: u32 = 21;
/// Below this size tables are small, in bytes.
const SMALL: u64 = 256 * 1024;
/// Up to this size they are smaller still.
const TINY: u64 = 128 * 1024;
/// Lines up to this rate, in bytes a second, are so slow that what costs next to nothing is still worth it.
const SLOW: u64 = 16_000_000;
/// Lines up to these rates, in bytes a second, with the level that is worth its time there.
const LEVELS: [(u64, CompressionLevel); 4] = [(3_000_000, HARD), (6_000_000, 9), (SLOW, 6), (u64::MAX, LEAST)];
/// The level that takes least.
const LEAST: CompressionLevel = 3;
/// The level where the line is not known.
const UNKNOWN: CompressionLevel = LEAST;
/// The level for the slowest lines: 10 MB a second, as long as there is time for it ([`Spare`]). Its own tables would take 35 MiB, and make it half as
/// fast for a hundredth less; those of this size, as a power of two, are a third of what level 9 takes.
const HARD: CompressionLevel = 16;
const HARD_TABLE_LOG: u32 = 18;
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
        (..SMALL, ..=3) | (..=TINY, ..HARD) => 2,
        (..SMALL, ..HARD) | (_, ..=3) => 4,
        (_, HARD..) => 5,
        (_, ..=6) => 6,
        _ => 15,
    }
}

/// Whether a NAR is small enough as it is: less than a tenth of it would be saved.
const fn is_dense(came: u64, became: u64) -> bool {
    became > came / 10 * 9
}

/// The memory for all streams, and the time for the hard ones. A cheap handle: clones are the same.
#[derive(Clone)]
pub(super) struct Compressors {
    memory: Arc<Semaphore>,
    spare: Arc<Mutex<Spare>>,
}

/// How one stream is compressed.
pub(super) struct Compressor {
    level: CompressionLevel,
    size: u64,
    /// `None`: it takes next to nothing.
    memory: Option<OwnedSemaphorePermit>,
    /// What its time is taken from, if it is a hard one.
    spare: Option<Arc<Mutex<Spare>>>,
}

impl Compressors {
    pub(super) fn new() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let spare = Spare::new(u32::try_from(processors).unwrap_or(u32::MAX), Instant::now());
        Self { memory: Arc::new(Semaphore::new(MEMORY)), spare: Arc::new(Mutex::new(spare)) }
    }

    /// For `size` bytes over a line of this `rate`; `None` where the others need all the memory, and the line is not so slow that it has to be.
    pub(super) fn try_take(&self, size: u64, rate: u64) -> Option<Compressor> {
        // Less work is better than none.
        let levels = LEVELS.iter().map(|(_, other)| *other).filter(|other| *other <= level(rate));
        let best = levels.into_iter().find_map(|level| {
            let spare = (level == HARD).then(|| Arc::clone(&self.spare));
            if spare.as_ref().is_some_and(|spare| !spare.lock().is_there(Instant::now())) {
                return None;
            }
            let needs = memory(level, size);
            if level > LEAST && self.memory.available_permits() < needs as usize + LEFT {
                return None;
            }
            let memory = Arc::clone(&self.memory).try_acquire_many_owned(needs).ok()?;
            Some(Compressor { level, size, memory: Some(memory), spare })
        });
        best.or_else(|| (1..=SLOW).contains(&rate).then_some(Compressor::cheap(size)))
    }

    /// The same for one who has to get it compressed: where there is no memory, as good as that goes without.
    pub(super) fn take(&self, size: u64) -> Compressor {
        self.try_take(size, 0).unwrap_or(Compressor::cheap(size))
    }
}

impl Compressor {
    const fn cheap(size: u64) -> Self {
        Self { level: CHEAP, size, memory: None, spare: None }
    }
}

/// A frame of zstd in the making.
struct Encoder {
    zstd: ZstdEncoder<'static, Vec<u8>>,
    /// How much came and what became of it, in bytes, until it is decided whether that is worth it.
    sample: Option<(u64, u64)>,
    /// What its time is taken from, if it is a hard one.
    spare: Option<Arc<Mutex<Spare>>>,
    /// Held as long as this is there.
    _memory: Option<OwnedSemaphorePermit>,
}

impl Encoder {
    /// `size`: what comes, if that is all in one frame.
    fn new(how: Compressor, size: Option<u64>) -> io::Result<Self> {
        let Compressor { level, spare, memory, .. } = how;
        let mut zstd = ZstdEncoder::new(Vec::new(), level)?;
        if level == HARD {
            zstd.set_parameter(CParameter::HashLog(HARD_TABLE_LOG))?;
            zstd.set_parameter(CParameter::ChainLog(HARD_TABLE_LOG))?;
        }
        // What is small gets small tables. What is not may go on as another frame.
        let small = size.filter(|size| *size < SAMPLE);
        if small.is_some() {
            zstd.set_pledged_src_size(small)?;
        } else {
            let window = if level == CHEAP { CHEAP_WINDOW_LOG } else { WINDOW_LOG };
            zstd.set_parameter(CParameter::WindowLog(window))?;
        }
        let sample = (small.is_none() && level != CHEAP).then_some((0, 0));
        Ok(Self { zstd, sample, spare, _memory: memory })
    }

    /// What the next bytes become; a part of it may come later.
    fn encode(mut self, chunk: &[u8]) -> io::Result<(Self, Bytes)> {
        let begun = Instant::now();
        self.zstd.write_all(chunk)?;
        note(self.spare.as_deref(), begun);
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
                    self = Self::new(Compressor::cheap(0), None)?;
                }
            }
        }
        Ok((self, encoded.into()))
    }

    fn finish(self) -> io::Result<Bytes> {
        let begun = Instant::now();
        let encoded = self.zstd.finish().map(Bytes::from);
        note(self.spare.as_deref(), begun);
        encoded
    }
}

/// Notes what a step took, if it is one that counts.
fn note(spare: Option<&Mutex<Spare>>, begun: Instant) {
    if let Some(spare) = spare {
        spare.lock().take(begun.elapsed());
    }
}

/// What became of a chunk: the encoder, unless that was the end.
type Encoded = io::Result<(Option<Box<Encoder>>, Bytes)>;

enum State {
    /// Nothing is compressed yet.
    Begin(Compressor),
    Idle(Box<Encoder>),
    Busy(JoinHandle<Encoded>),
    Done,
}

/// A body, compressed on its way.
pub(super) struct Compressed<B> {
    inner: B,
    /// What came of it first, until that is compressed.
    first: Option<Bytes>,
    state: State,
}

impl<B: HttpBody<Data = Bytes> + Unpin> Compressed<B> {
    /// With the first bytes of `inner` read, and not yet compressed: that may take longer than anybody waits for the head of an answer.
    ///
    /// # Errors
    /// They could not be read.
    pub(super) async fn begun(mut inner: B, compressor: Compressor) -> Result<Self, B::Error> {
        let first = inner.frame().await.transpose()?.and_then(|frame| frame.into_data().ok());
        Ok(Self { inner, first, state: State::Begin(compressor) })
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
            let chunk = match self.first.take() {
                Some(first) => Some(first),
                None => match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                    Some(Err(error)) => {
                        self.state = State::Done;
                        return Poll::Ready(Some(Err(error.into())));
                    }
                    Some(Ok(frame)) => Some(frame.into_data().unwrap_or_default()),
                    None => None,
                },
            };
            self.state = match std::mem::replace(&mut self.state, State::Done) {
                State::Begin(compressor) => {
                    let size = compressor.size;
                    State::Busy(spawn_blocking(move || encode(Encoder::new(compressor, Some(size))?, chunk)))
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
    use http_body_util::StreamBody;
    use std::time::Duration;

    /// A NAR that needs the whole window.
    const LARGE: u64 = 1024 * 1024;

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
                let compressed = Compressed::begun(body(&content, 70_000), compressor).await.unwrap();
                let compressed = compressed.collect().await.unwrap().to_bytes();
                assert!((least..=most).contains(&compressed.len()), "{} at {rate}", compressed.len());
                assert!(zstd::decode_all(&compressed[..]).unwrap() == content);
            }
        }
        assert_eq!(compressors.memory.available_permits(), MEMORY);
    }

    #[test]
    fn who_comes_later_gets_less_and_nobody_on_a_slow_line_nothing() {
        let compressors = Compressors::new();
        let taken: Vec<Compressor> = (0..40).map(|_| compressors.try_take(LARGE, 1).unwrap()).collect();
        let count = |level| taken.iter().filter(|taken| taken.level == level).count();
        assert_eq!(count(HARD), (MEMORY - LEFT) / 5);
        assert_eq!((count(9), count(6)), (0, 0), "what is left is for the least");
        assert_eq!((count(LEAST), count(CHEAP)), (4, 27));
        assert!(compressors.try_take(LARGE, SLOW + 1).is_none() && compressors.try_take(LARGE, 0).is_none());
        assert!(compressors.take(LARGE).memory.is_none(), "whoever must have it compressed waits for nobody");
        drop(taken);
        assert!(compressors.take(LARGE).memory.is_some());
    }

    #[tokio::test]
    async fn memory_is_held_until_the_last_byte_is_compressed() {
        let (compressors, content) = (Compressors::new(), noise(200_000));
        let compressor = compressors.try_take(200_000, 0).unwrap();
        assert!(compressors.memory.available_permits() < MEMORY);
        let mut compressed = Compressed::begun(body(&content, 50_000), compressor).await.unwrap();
        let mut last = 0;
        while let Some(frame) = compressed.frame().await {
            last = frame.unwrap().into_data().unwrap().len();
        }
        assert!(last > 0 && compressors.memory.available_permits() == MEMORY, "the body is still there");
    }

    #[test]
    fn the_slower_the_line_the_more_work_is_worth_it() {
        assert_eq!([0, 2_500_000, 5_000_000, 10_000_000, 50_000_000].map(level), [LEAST, HARD, 9, 6, 3]);
    }

    #[test]
    fn the_hardest_work_takes_half_of_the_processors_at_most() {
        let compressors = Compressors::new();
        let level = || compressors.try_take(LARGE, 1).unwrap().level;
        assert_eq!(level(), HARD);
        compressors.spare.lock().take(Duration::from_secs(3600));
        assert_eq!(level(), 9, "less is better than none");
    }
}
