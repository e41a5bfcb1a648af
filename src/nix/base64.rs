//! Base-64 with padding, as keys, signatures and SRI hashes have it, with one text a value.

use data_encoding::BASE64_NOPAD;

/// Decodes `text` into `bytes`, all of which are written. `None` if it is not the one text that encodes that many bytes.
///
/// `BASE64` of `data_encoding` itself would also take several texts with padding one after the other (`YQ==YQ==`).
pub(crate) fn decode_into(text: &str, bytes: &mut [u8]) -> Option<()> {
    let padding = ["", "==", "="][bytes.len() % 3];
    let digits = text.strip_suffix(padding)?;
    if text.len() != bytes.len().div_ceil(3) * 4 {
        return None;
    }
    BASE64_NOPAD.decode_mut(digits.as_bytes(), bytes).is_ok().then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::BASE64;
    use proptest::prelude::*;

    #[test]
    fn one_text_a_value() {
        let decode = |text: &str, len| {
            let mut bytes = vec![0; len];
            decode_into(text, &mut bytes).map(|()| bytes)
        };
        assert_eq!(decode("YWI=", 2), Some(b"ab".to_vec()));
        assert_eq!(decode("", 0), Some(vec![]));
        assert_eq!(decode("YQ==YQ==", 2), None, "another length");
        assert_eq!(decode("YWI=YQ==YWJjYWI=", 11), None, "padding inside, right length");
        assert_eq!(decode("YWJ=", 2), None, "spare bits");
        for text in ["YWI", "YWI==", "YWJj", "YW=I", "YW I", "YWI\n", "=YWI", "Y===", "é=="] {
            assert_eq!(decode(text, 2), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn round_trip(value in prop::collection::vec(any::<u8>(), 0..70)) {
            let mut decoded = vec![0xaa; value.len()];
            prop_assert_eq!(decode_into(&BASE64.encode(&value), &mut decoded), Some(()));
            prop_assert_eq!(decoded, value);
        }

        #[test]
        fn what_is_accepted_is_canonical(text in "[A-D/+=]{0,12}", len in 0..9_usize) {
            let mut bytes = vec![0; len];
            if decode_into(&text, &mut bytes).is_some() {
                prop_assert_eq!(BASE64.encode(&bytes), text);
            }
        }
    }
}
