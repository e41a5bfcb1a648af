//! Nix's base-32: its own alphabet, and groups of five bits taken from the *end* of the bytes.
//!
//! Source: the Nix manual, [store path specification](https://nix.dev/manual/nix/stable/protocols/store-path).

use super::FormatError;

/// The alphabet: digits and lower-case letters without `e`, `o`, `u` and `t`.
pub const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// The value of each byte in the alphabet, or `NONE`.
const VALUES: [u8; 256] = {
    let mut table = [NONE; 256];
    let mut value = 0;
    while value < 32 {
        // Lossless: value < 32.
        #[allow(clippy::cast_possible_truncation)]
        {
            table[ALPHABET[value] as usize] = value as u8;
        }
        value += 1;
    }
    table
};
const NONE: u8 = 0xff;

/// How many characters `bytes` bytes take.
#[must_use]
pub const fn encoded_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Encodes `bytes`.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(encoded_len(bytes.len()));
    for group in (0..encoded_len(bytes.len())).rev() {
        let (byte, bit) = (group * 5 / 8, group * 5 % 8);
        let low = u16::from(bytes[byte]);
        let high = bytes.get(byte + 1).copied().map_or(0, u16::from);
        let value = ((high << 8 | low) >> bit) & 0x1f;
        text.push(char::from(ALPHABET[usize::from(value)]));
    }
    text
}

/// Decodes exactly `N` bytes.
///
/// # Errors
/// A character outside the alphabet, another length than `N` bytes have, or spare bits that are not zero (so that each
/// value has one text only).
pub fn decode<const N: usize>(text: &str) -> Result<[u8; N], FormatError> {
    let mut bytes = [0u8; N];
    decode_into(text, &mut bytes)?;
    Ok(bytes)
}

/// Decodes into `bytes`, all of which are written; see [`decode`].
///
/// # Errors
/// As for [`decode`].
pub fn decode_into(text: &str, bytes: &mut [u8]) -> Result<(), FormatError> {
    if text.len() != encoded_len(bytes.len()) {
        return Err(FormatError::Base32Length(text.len()));
    }
    bytes.fill(0);
    for (group, character) in text.bytes().rev().enumerate() {
        let value = VALUES[usize::from(character)];
        if value == NONE {
            let shown = text.chars().rev().nth(group).unwrap_or('\u{fffd}');
            return Err(FormatError::Base32Character(shown));
        }
        let (byte, bit) = (group * 5 / 8, group * 5 % 8);
        let [low, high] = (u16::from(value) << bit).to_le_bytes();
        bytes[byte] |= low;
        match bytes.get_mut(byte + 1) {
            Some(next) => *next |= high,
            None if high != 0 => return Err(FormatError::Base32Length(text.len())),
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn agrees_with_nix() {
        // nix-hash --type sha256 --to-base32 of the SHA-256 of nothing.
        let empty = data_encoding::HEXLOWER
            .decode(b"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
            .unwrap();
        assert_eq!(encode(&empty), "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73");
    }

    #[test]
    fn refuses_what_no_encoder_writes() {
        assert_eq!(decode::<20>("e"), Err(FormatError::Base32Length(1)));
        assert_eq!(decode::<1>("0e"), Err(FormatError::Base32Character('e')));
        assert_eq!(decode::<1>("0é"), Err(FormatError::Base32Length(3)));
        // Two characters carry ten bits; the upper two of them must be zero in one byte.
        assert_eq!(decode::<1>("80"), Err(FormatError::Base32Length(2)));
        assert_eq!(decode::<1>("7z"), Ok([0xff]));
    }

    proptest! {
        #[test]
        fn round_trip(bytes in proptest::collection::vec(any::<u8>(), 1..100)) {
            let text = encode(&bytes);
            prop_assert_eq!(&text, &nix_base32::to_nix_base32(&bytes));
            let mut decoded = vec![0xaa; bytes.len()];
            decode_into(&text, &mut decoded).unwrap();
            prop_assert_eq!(decoded, bytes);
        }

        #[test]
        fn one_text_a_value(text in "[0-9a-z]{32}") {
            if let Ok(bytes) = decode::<20>(&text) {
                prop_assert_eq!(encode(&bytes), text);
            }
        }
    }
}
