//! Base-64 as Nix reads it in keys, signatures and SRI hashes: the padding may be there or not, and the bits that the last
//! digit has too many do not matter.

use data_encoding::{BASE64, Encoding, Specification};
use std::sync::LazyLock;

/// The digits of base-64, without padding and whatever the spare bits are.
static DIGITS: LazyLock<Option<Encoding>> = LazyLock::new(|| {
    let mut specification: Specification = BASE64.specification();
    specification.padding = None;
    specification.check_trailing_bits = false;
    specification.encoding().ok()
});

/// The most padding that a text may end in, in characters.
const PADDING_MAX: usize = 2;

/// The digits of `text`, without the padding at its end.
fn digits(text: &str) -> Option<&str> {
    let digits = text.trim_end_matches('=');
    (text.len() - digits.len() <= PADDING_MAX).then_some(digits)
}

/// Decodes `text` into `bytes`, all of which are written. `None` if it does not encode that many.
///
/// `BASE64` of `data_encoding` itself would also take several texts with padding one after the other (`YQ==YQ==`).
pub(crate) fn decode_into(text: &str, bytes: &mut [u8]) -> Option<()> {
    let digits = digits(text)?;
    if digits.len() != (bytes.len() * 4).div_ceil(3) {
        return None;
    }
    DIGITS.as_ref()?.decode_mut(digits.as_bytes(), bytes).is_ok().then_some(())
}

/// Whether `text` encodes at least one byte, and however many.
pub(crate) fn encodes_something(text: &str) -> bool {
    let is_digit = |c: u8| c.is_ascii_alphanumeric() || c == b'+' || c == b'/';
    // One digit is not yet a byte.
    digits(text).is_some_and(|digits| digits.len() > 1 && digits.bytes().all(is_digit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decode(text: &str, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        decode_into(text, &mut bytes).map(|()| bytes)
    }

    #[test]
    fn padding_and_spare_bits_are_read_as_by_nix() {
        for text in ["YWI=", "YWI", "YWI==", "YWJ=", "YWJ"] {
            assert_eq!(decode(text, 2), Some(b"ab".to_vec()), "{text}");
        }
        assert_eq!(decode("", 0), Some(vec![]));
        assert_eq!(decode("YQ==YQ==", 2), None, "two texts");
        assert_eq!(decode("YWI=YQ==YWJjYWI=", 11), None, "padding inside, right length");
        for text in ["YWI===", "YWJj", "YW", "YW=I", "YW I", "YWI\n", "=YWI", "Y===", "é=="] {
            assert_eq!(decode(text, 2), None, "{text}");
        }
    }

    #[test]
    fn what_has_another_length_is_still_base_64() {
        for text in ["YQ", "YQ==", "YWI", "YWJjZA+/"] {
            assert!(encodes_something(text), "{text}");
        }
        for text in ["", "=", "Y", "Y===", "YQ==YQ==", "Y Q", "YQ\n", "Y-_Q", "é"] {
            assert!(!encodes_something(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(value in prop::collection::vec(any::<u8>(), 0..70)) {
            let text = BASE64.encode(&value);
            for text in [text.as_str(), text.trim_end_matches('=')] {
                prop_assert_eq!(decode(text, value.len()), Some(value.clone()));
                prop_assert_eq!(encodes_something(text), !value.is_empty());
            }
        }

        #[test]
        fn what_is_decoded_encodes_something(text in "[A-D/+=]{0,12}", len in 1..9_usize) {
            prop_assert!(decode(&text, len).is_none() || encodes_something(&text));
        }
    }
}
