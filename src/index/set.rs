//! Sets of entries as bytes: sorted, the gaps between them Rice-coded. Some 35 bits an entry for 20,000, which is less than a filter with as few
//! false answers, and can be read back.
//!
//! ```text
//! count  4 bytes   how many entries, big-endian
//! k      1 byte    how many low bits of a gap are written as they are
//! gaps             each: gap >> k times the bit 1, the bit 0, the k low bits; the highest bit of a byte first, zeros to the end
//! ```
//!
//! A gap is the number of values that are left out before the next entry, so that no set has an entry twice.

use super::entry::{BITS, Entry};
use super::error::IndexError;

/// The most entries of a set: two million. What claims more is refused before anything is read.
pub const ENTRIES_MAX: usize = 2_000_000;
/// The length of what is before the gaps, in bytes.
const HEAD: usize = 5;

/// Writes `entries`, which are in order and without repetition.
pub(crate) fn encode(entries: &[Entry], bytes: &mut Vec<u8>) {
    let count = u32::try_from(entries.len()).unwrap_or(u32::MAX);
    let k = parameter(entries.len());
    bytes.reserve(HEAD + entries.len() * (k as usize + 2) / 8 + 1);
    bytes.extend(count.to_be_bytes());
    bytes.push(u8::try_from(k).unwrap_or_default());
    let mut writer = Writer { bytes, word: 0, bits: 0 };
    let mut next = 0;
    for entry in entries {
        let gap = entry.number() - next;
        writer.unary(gap >> k);
        writer.low(gap, k);
        next = entry.number() + 1;
    }
    writer.finish();
}

/// Reads a set from the beginning of `bytes`, and says how long it was.
///
/// # Errors
/// More than `most` entries, or anything that [`encode`] does not write.
pub(crate) fn decode(bytes: &[u8], most: usize) -> Result<(Vec<Entry>, usize), IndexError> {
    let head = bytes.first_chunk::<HEAD>().ok_or(IndexError::Truncated)?;
    let [a, b, c, d, k] = *head;
    let (count, k) = (u32::from_be_bytes([a, b, c, d]) as usize, u32::from(k));
    if count > most {
        return Err(IndexError::TooMany(count, most));
    }
    // An entry is at least one bit and the low ones: nothing is reserved for what cannot be there.
    let gaps = &bytes[HEAD..];
    if k >= BITS || (count as u64) * u64::from(k + 1) > gaps.len() as u64 * 8 {
        return Err(IndexError::Truncated);
    }
    let mut entries = Vec::with_capacity(count);
    let mut reader = Reader { bytes: gaps, at: 0 };
    let mut next = 0u64;
    for _ in 0..count {
        // Both below 2^48: the sum does not overflow.
        let high = reader.unary((1 << BITS) >> k)?;
        let number = next + (high << k) + reader.low(k)?;
        entries.push(Entry::new(number).ok_or(IndexError::Range)?);
        next = number + 1;
    }
    Ok((entries, HEAD + reader.finish()?))
}

/// How many low bits are best for so many entries, spread evenly: about the logarithm of the mean gap times 0.69.
fn parameter(count: usize) -> u32 {
    let mean = (1u64 << BITS) / (count as u64).max(1);
    (mean * 7 / 10).max(1).ilog2().min(BITS - 1)
}

struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    /// The bits that are no whole byte yet, in the low ones.
    word: u64,
    bits: u32,
}

impl Writer<'_> {
    fn unary(&mut self, count: u64) {
        for _ in 0..count {
            self.put(1, 1);
        }
        self.put(0, 1);
    }

    fn low(&mut self, value: u64, bits: u32) {
        // In two halves, so that with what is left of a byte they fit into a word.
        let lower = bits / 2;
        self.put((value >> lower) & mask(bits - lower), bits - lower);
        self.put(value & mask(lower), lower);
    }

    fn put(&mut self, value: u64, bits: u32) {
        self.word = (self.word << bits) | value;
        self.bits += bits;
        while self.bits >= 8 {
            self.bits -= 8;
            // What is cut off was written before.
            #[allow(clippy::cast_possible_truncation)]
            self.bytes.push((self.word >> self.bits) as u8);
        }
    }

    fn finish(mut self) {
        if self.bits > 0 {
            self.put(0, 8 - self.bits);
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    /// The next bit.
    at: usize,
}

impl Reader<'_> {
    /// The next up to 64 bits at least 57 of which are right, from the top of the word; zeros after the end.
    fn peek(&self) -> u64 {
        let (byte, bit) = (self.at / 8, self.at % 8);
        let rest = self.bytes.get(byte..).unwrap_or_default();
        let word = match rest.first_chunk::<8>() {
            Some(word) => u64::from_be_bytes(*word),
            None => {
                let mut word = [0; 8];
                word[..rest.len()].copy_from_slice(rest);
                u64::from_be_bytes(word)
            }
        };
        word << bit
    }

    fn skip(&mut self, bits: u32) -> Result<(), IndexError> {
        self.at += bits as usize;
        if self.at > self.bytes.len() * 8 { Err(IndexError::Truncated) } else { Ok(()) }
    }

    /// How many ones there are before the next zero, no more than `most`.
    fn unary(&mut self, most: u64) -> Result<u64, IndexError> {
        let mut count = 0;
        loop {
            let ones = self.peek().leading_ones().min(BITS);
            count += u64::from(ones);
            if count > most {
                return Err(IndexError::Range);
            }
            if ones < BITS {
                self.skip(ones + 1)?;
                return Ok(count);
            }
            self.skip(ones)?;
        }
    }

    fn low(&mut self, bits: u32) -> Result<u64, IndexError> {
        let value = if bits == 0 { 0 } else { self.peek() >> (64 - bits) };
        self.skip(bits)?;
        Ok(value)
    }

    /// How many bytes were read; what is left of the last one is zero.
    fn finish(self) -> Result<usize, IndexError> {
        let used = self.at.div_ceil(8);
        let left = used * 8 - self.at;
        let is_zero = left == 0 || self.bytes[used - 1] & ((1 << left) - 1) == 0;
        if is_zero { Ok(used) } else { Err(IndexError::Padding) }
    }
}

const fn mask(bits: u32) -> u64 {
    (1 << bits) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn round_trip(entries: &[Entry]) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(entries, &mut bytes);
        bytes.extend(*b"rest");
        let (decoded, used) = decode(&bytes, ENTRIES_MAX).unwrap();
        assert_eq!((decoded.as_slice(), used), (entries, bytes.len() - 4));
        bytes.truncate(used);
        bytes
    }

    #[test]
    fn the_least_and_the_greatest() {
        let [least, greatest] = [0, (1 << 48) - 1].map(|number| Entry::new(number).unwrap());
        for entries in [&[][..], &[least], &[greatest], &[least, greatest]] {
            round_trip(entries);
        }
        let all: Vec<Entry> = (0..100_000).filter_map(Entry::new).collect();
        round_trip(&all);
    }

    #[test]
    fn twenty_thousand_paths_take_less_than_100_kb() {
        use crate::index::entry::Salt;
        let of = |number: u64| Salt::OPEN.entry(number.to_le_bytes());
        let entries: Vec<Entry> = (0..20_000).map(of).collect::<BTreeSet<_>>().into_iter().collect();
        let size = round_trip(&entries).len();
        assert!(size < 90_000, "{size}");
    }

    #[test]
    fn what_claims_too_much_is_refused_before_memory_is_taken() {
        let refused = |bytes: &[u8]| decode(bytes, ENTRIES_MAX).unwrap_err();
        assert!(matches!(refused(&[0xff; 100]), IndexError::TooMany(..)));
        assert!(matches!(refused(&[0, 0x1e, 0x84, 0x80, 20, 0, 0, 0]), IndexError::Truncated));
        assert!(matches!(refused(&[0, 0, 0, 1, 48, 0, 0, 0, 0, 0, 0, 0]), IndexError::Truncated));
        assert!(matches!(refused(&[0, 0, 0, 1]), IndexError::Truncated));
        // A gap beyond the last value, and one of ones without an end.
        assert!(matches!(refused(&[[0, 0, 0, 1, 46].as_slice(), &[0xff; 20]].concat()), IndexError::Range));
        assert!(matches!(refused(&[0, 0, 0, 1, 0, 0xff]), IndexError::Truncated));
        assert!(matches!(refused(&[0, 0, 0, 1, 0, 0b0100_0000]), IndexError::Padding));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers in proptest::collection::btree_set(0..1u64 << 48, 0..300)) {
            let entries: Vec<Entry> = numbers.into_iter().filter_map(Entry::new).collect();
            round_trip(&entries);
        }

        #[test]
        fn what_is_read_is_a_set_and_has_one_form(bytes: Vec<u8>) {
            if let Ok((entries, used)) = decode(&bytes, 1000) {
                prop_assert!(entries.is_sorted_by(|one, next| one < next));
                prop_assert!(used <= bytes.len() && entries.len() <= 1000);
            }
        }
    }
}
