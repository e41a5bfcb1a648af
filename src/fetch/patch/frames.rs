//! The frames of a patch: which part of the base each refers to, and how they are made, sent and undone.
//!
//! A frame is sent as the length of what is packed (4 bytes), where in the base its slice begins (8 bytes) and how long that is (4 bytes), all
//! little-endian, and then the packed bytes: one frame of zstd with a checksum, which has the slice as its prefix.
//!
//! Small frames with short slices came out better than large ones with long slices on pairs of real packages (docs/performance.md).

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use std::io;
use std::ops::Range;
use thiserror::Error;
use zstd::zstd_safe::{CCtx, CParameter, DCtx, compress_bound, get_error_name};

/// How much of the NAR is in one frame, in bytes; the last one has what is left.
pub const FRAME: u64 = FRAME_LEN as u64;
const FRAME_LEN: usize = 1024 * 1024;
/// How far before and behind its own place a frame may refer to the base, in bytes.
const MARGIN: u64 = 1024 * 1024;
/// The longest slice of a base, in bytes: a frame of a NAR half as long as its base, with its margins.
pub const SLICE_MAX: u64 = 4 * 1024 * 1024;
/// The NARs that are worth a patch, in bytes: smaller ones come whole in no time.
pub const NAR_MIN: u64 = 512 * 1024;
/// The largest NARs that are patched, in bytes, 4 GiB: what is larger is hardly a new version of something.
pub const NAR_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// How many times longer or shorter a base may be than the NAR.
const RATIO_MAX: u64 = 2;
/// What is before the packed bytes, in bytes.
const HEADER: usize = 16;
/// The level of zstd: with a base at hand a higher one brings next to nothing.
const LEVEL: i32 = 3;
/// The smallest window that zstd is told, as a power of two.
const WINDOW_LOG_MIN: u32 = 20;

/// What one side or the other has in memory for one patch, in bytes, at most: a slice, a frame before and after it is packed, and tables.
pub const MEMORY: u64 = SLICE_MAX + 4 * FRAME;

/// Something is wrong with a patch.
#[derive(Debug, Error)]
pub enum PatchError {
    /// A frame whose lengths cannot be.
    #[error("a frame of {packed} bytes with {slice} bytes of the base from byte {from} on")]
    Frame {
        /// How long it is said to be.
        packed: u64,
        /// Where in the base its slice begins…
        from: u64,
        /// … and how long that is.
        slice: u64,
    },
    /// A frame that does not become what it should: it is wrong, or the base is another one on either side.
    #[error("a frame does not fit its base: {0}")]
    Content(String),
}

impl From<PatchError> for io::Error {
    fn from(error: PatchError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

/// The lengths of a NAR and of its base, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    nar: u64,
    base: u64,
}

impl Shape {
    /// `None` where a patch is not worth it.
    #[must_use]
    pub fn new(nar: u64, base: u64) -> Option<Self> {
        let is_alike = base <= nar.saturating_mul(RATIO_MAX) && nar <= base.saturating_mul(RATIO_MAX);
        ((NAR_MIN..=NAR_MAX).contains(&nar) && is_alike).then_some(Self { nar, base })
    }

    /// The parts of the NAR that frames hold, from the one with byte `from` on.
    pub fn frames_from(self, from: u64) -> impl Iterator<Item = Range<u64>> + Send {
        (from / FRAME..self.nar.div_ceil(FRAME)).map(move |at| at * FRAME..((at + 1) * FRAME).min(self.nar))
    }

    /// The slice of the base that the frame with these bytes of the NAR refers to: what is at the same place, and something around it.
    #[must_use]
    pub fn slice(self, frame: &Range<u64>) -> Range<u64> {
        let place = |at: u64| {
            let place = u128::from(at) * u128::from(self.base) / u128::from(self.nar);
            u64::try_from(place).unwrap_or(self.base)
        };
        let (start, end) = (place(frame.start), place(frame.end) + 1);
        start.saturating_sub(MARGIN)..(end + MARGIN).min(self.base)
    }
}

/// What is said of a frame before its packed bytes.
#[derive(Debug)]
struct Head {
    /// The slice of the base that it refers to.
    slice: Range<u64>,
    /// How many bytes follow.
    packed: usize,
}

/// A frame as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// The slice of the base that it refers to.
    pub slice: Range<u64>,
    /// A frame of zstd.
    pub bytes: Bytes,
}

/// Makes the frame of these bytes of a NAR, as it is sent; `slice` are those of the base, which begin at `from` there.
///
/// # Errors
/// zstd has no memory for it.
pub fn pack(frame: &[u8], slice: &[u8], from: u64) -> io::Result<Bytes> {
    let failed = |code| io::Error::other(get_error_name(code));
    let mut body = Vec::with_capacity(compress_bound(frame.len()));
    let mut zstd = CCtx::try_create().ok_or(io::ErrorKind::OutOfMemory)?;
    let window = (frame.len() + slice.len()).max(1).next_power_of_two().trailing_zeros().max(WINDOW_LOG_MIN);
    for parameter in [
        CParameter::CompressionLevel(LEVEL),
        CParameter::WindowLog(window),
        CParameter::EnableLongDistanceMatching(true),
        CParameter::ChecksumFlag(true),
    ] {
        zstd.set_parameter(parameter).map_err(failed)?;
    }
    zstd.ref_prefix(slice).map_err(failed)?;
    zstd.compress2(&mut body, frame).map_err(failed)?;
    // Lossless: a frame and a slice are some MiB.
    let [length, slice] = [body.len(), slice.len()].map(|length| u32::try_from(length).unwrap_or_default());
    let mut packed = BytesMut::with_capacity(HEADER + body.len());
    packed.put_u32_le(length);
    packed.put_u64_le(from);
    packed.put_u32_le(slice);
    packed.put_slice(&body);
    Ok(packed.freeze())
}

/// The `length` bytes of the NAR that a frame holds; `slice` are those of the base that it refers to.
///
/// # Errors
/// It does not become that.
pub fn unpack(packed: &[u8], slice: &[u8], length: usize) -> Result<Vec<u8>, PatchError> {
    let failed = |code| PatchError::Content(get_error_name(code).to_owned());
    let mut zstd = DCtx::try_create().ok_or_else(|| PatchError::Content("no memory".to_owned()))?;
    zstd.ref_prefix(slice).map_err(failed)?;
    let mut frame = Vec::with_capacity(length);
    zstd.decompress(&mut frame, packed).map_err(failed)?;
    if frame.len() != length {
        return Err(PatchError::Content(format!("{} bytes in the place of {length}", frame.len())));
    }
    Ok(frame)
}

/// Puts frames together of what comes, however it is cut.
#[derive(Debug)]
pub struct Frames {
    base: u64,
    buffer: BytesMut,
    head: Option<Head>,
}

impl Frames {
    /// Of a patch for a base of so many bytes.
    #[must_use]
    pub fn new(base: u64) -> Self {
        Self { base, buffer: BytesMut::new(), head: None }
    }

    /// Takes in what came.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next frame, if all of it came.
    ///
    /// # Errors
    /// What is said of it cannot be.
    pub fn take(&mut self) -> Result<Option<Packed>, PatchError> {
        let head = match self.head.take() {
            Some(head) => head,
            None if self.buffer.len() < HEADER => return Ok(None),
            None => self.read_head()?,
        };
        if self.buffer.len() < head.packed {
            self.head = Some(head);
            return Ok(None);
        }
        Ok(Some(Packed { bytes: self.buffer.split_to(head.packed).freeze(), slice: head.slice }))
    }

    fn read_head(&mut self) -> Result<Head, PatchError> {
        let packed = self.buffer.get_u32_le();
        let from = self.buffer.get_u64_le();
        let slice = u64::from(self.buffer.get_u32_le());
        let end = from.checked_add(slice).filter(|end| *end <= self.base && slice <= SLICE_MAX);
        let length = usize::try_from(packed).ok().filter(|length| (1..=compress_bound(FRAME_LEN)).contains(length));
        match (end, length) {
            (Some(end), Some(packed)) => Ok(Head { slice: from..end, packed }),
            _ => Err(PatchError::Frame { packed: packed.into(), from, slice }),
        }
    }
}

#[cfg(test)]
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::print_stdout,
    reason = "what tests have fits into memory, and one measures"
)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1024 * 1024;

    /// Bytes that do not compress.
    fn noise(seed: u64, length: usize) -> Vec<u8> {
        let mut state = seed | 1;
        std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state & 0xff) as u8
        })
        .take(length)
        .collect()
    }

    /// A whole patch, as it is sent.
    fn patch(nar: &[u8], base: &[u8]) -> Vec<u8> {
        let shape = Shape::new(nar.len() as u64, base.len() as u64).unwrap();
        let part = |whole: &[u8], range: &Range<u64>| whole[range.start as usize..range.end as usize].to_vec();
        let mut sent = Vec::new();
        for frame in shape.frames_from(0) {
            let slice = shape.slice(&frame);
            sent.extend(pack(&part(nar, &frame), &part(base, &slice), slice.start).unwrap());
        }
        sent
    }

    /// What becomes of it, in chunks.
    fn undone(sent: &[u8], base: &[u8], nar: usize, chunk: usize) -> Result<Vec<u8>, PatchError> {
        let (mut frames, mut whole) = (Frames::new(base.len() as u64), Vec::new());
        for chunk in sent.chunks(chunk) {
            frames.push(chunk);
            while let Some(Packed { slice, bytes }) = frames.take()? {
                let length = (nar - whole.len()).min(FRAME as usize);
                whole.extend(unpack(&bytes, &base[slice.start as usize..slice.end as usize], length)?);
            }
        }
        Ok(whole)
    }

    #[test]
    fn a_new_version_is_its_differences() {
        let base = noise(1, 5 * MIB as usize);
        let mut nar = base.clone();
        nar[3_000_000..3_000_100].fill(7);
        nar.splice(1_000_000..1_000_000, noise(2, 50_000));
        let sent = patch(&nar, &base);
        assert!(sent.len() < 60_000, "{}", sent.len());
        for chunk in [1000, 65_536, sent.len()] {
            assert!(undone(&sent, &base, nar.len(), chunk).unwrap() == nar);
        }
    }

    #[test]
    fn a_base_that_is_another_one_here_is_noticed_frame_by_frame() {
        let base = noise(1, 2 * MIB as usize);
        let nar = base.clone();
        let sent = patch(&nar, &base);
        let mut damaged = base.clone();
        damaged[1_500_000] ^= 1;
        assert!(matches!(undone(&sent, &damaged, nar.len(), 4096), Err(PatchError::Content(_))));
    }

    #[test]
    fn lengths_that_cannot_be_end_it_before_anything_is_waited_for() {
        let head = |packed: u32, from: u64, slice: u32| {
            let mut frames = Frames::new(10 * MIB);
            frames.push(&[&packed.to_le_bytes()[..], &from.to_le_bytes(), &slice.to_le_bytes()].concat());
            frames.take()
        };
        assert!(matches!(head(10, 0, 100), Ok(None)));
        for (packed, from, slice) in
            [(0, 0, 1), (u32::MAX, 0, 1), (10, u64::MAX, 1), (10, 10 * MIB, 1), (10, 0, u32::MAX), (10, 0, 5 << 20)]
        {
            assert!(matches!(head(packed, from, slice), Err(PatchError::Frame { .. })), "{packed} {from} {slice}");
        }
    }

    #[test]
    fn what_is_small_or_of_another_size_is_not_patched() {
        for (nar, base, is_worth_it) in [
            (MIB, MIB, true),
            (NAR_MIN - 1, MIB, false),
            (10 * MIB, 20 * MIB, true),
            (10 * MIB, 21 * MIB, false),
            (20 * MIB, 9 * MIB, false),
            (NAR_MAX + 1, NAR_MAX, false),
            (MIB, 0, false),
        ] {
            assert_eq!(Shape::new(nar, base).is_some(), is_worth_it, "{nar} {base}");
        }
    }

    /// How much less that is than zstd makes of the NAR alone, on pairs of real versions: `PEERNIX_PAIRS` names a folder of folders with
    /// `1.nar` and `2.nar` each.
    #[test]
    #[ignore = "needs pairs of NARs; docs/performance.md says which"]
    fn pairs() {
        let folder = std::env::var_os("PEERNIX_PAIRS").expect("PEERNIX_PAIRS is not set");
        let mut factors = Vec::new();
        for pair in std::path::Path::new(&folder).read_dir().unwrap().flatten().filter(|pair| pair.path().is_dir()) {
            let [base, nar] = ["1.nar", "2.nar"].map(|name| std::fs::read(pair.path().join(name)).unwrap());
            let (alone, begun) = (zstd::bulk::compress(&nar, 3).unwrap().len(), std::time::Instant::now());
            let sent = patch(&nar, &base);
            let took = begun.elapsed();
            assert!(undone(&sent, &base, nar.len(), 65_536).unwrap() == nar);
            let factor = alone as f64 / sent.len() as f64;
            println!(
                "{:?}: {} bytes, zstd -3 {alone}, patch {}: {factor:.2} x, made in {took:.1?}",
                pair.file_name(),
                nar.len(),
                sent.len()
            );
            factors.push(factor);
        }
        factors.sort_by(f64::total_cmp);
        let median = factors[factors.len() / 2];
        println!("median: {median:.2} x");
        assert!(median >= 3.0, "{factors:?}");
    }

    proptest! {
        /// Frames hold all of a NAR, once, whatever it begins with; no slice is longer than it may be.
        #[test]
        fn frames_hold_all_of_it(nar in NAR_MIN..=64 * MIB, base in 0..=128 * MIB, from in 0..64 * MIB) {
            if let Some(shape) = Shape::new(nar, base) {
                let mut at = from.min(nar) / FRAME * FRAME;
                for frame in shape.frames_from(from.min(nar)) {
                    prop_assert_eq!(frame.start, at);
                    let slice = shape.slice(&frame);
                    prop_assert!(slice.start <= slice.end && slice.end <= base && slice.end - slice.start <= SLICE_MAX);
                    at = frame.end;
                }
                prop_assert_eq!(at.max(from.min(nar)), nar);
            }
        }

        #[test]
        fn what_is_no_patch_ends_with_an_error_and_not_otherwise(sent in proptest::collection::vec(any::<u8>(), 0..4000)) {
            let base = [7; 1000];
            let mut frames = Frames::new(1000);
            frames.push(&sent);
            while let Ok(Some(Packed { slice, bytes })) = frames.take() {
                let _ = unpack(&bytes, &base[slice.start as usize..slice.end as usize], 100);
            }
        }
    }
}
