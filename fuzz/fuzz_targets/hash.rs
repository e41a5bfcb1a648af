//! Hashes: all forms of one value are read as that value, and each form has one text, but for the end of base-64.
#![no_main]

use data_encoding::BASE64;
use libfuzzer_sys::fuzz_target;
use peernix::nix::NarHash;
use peernix::nix::hash::{Hash, HashAlgorithm};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let Ok(hash) = text.parse::<Hash>() else { return };
    assert_eq!(hash.digest().len(), hash.algorithm().size());
    let (name, base64) = (hash.algorithm().name(), BASE64.encode(hash.digest()));
    let base16 = format!("{name}:{}", hash.to_base16());
    let forms = [hash.to_string(), format!("{name}:{base64}"), format!("{name}-{base64}")];
    // In base-64 the padding may be missing, and the last digit have other spare bits.
    let digits = base64.trim_end_matches('=');
    let is_base64 = text.get(name.len() + 1..).is_some_and(|rest| rest.starts_with(&digits[..digits.len() - 1]));
    let is_form = forms.iter().any(|form| form == text) || base16.eq_ignore_ascii_case(text);
    assert!(is_form || is_base64, "{text}");
    for form in forms.iter().chain([&base16]) {
        assert_eq!(form.parse(), Ok(hash.clone()));
    }
    match NarHash::try_from(&hash) {
        Ok(nar_hash) => {
            assert_eq!(text.parse(), Ok(nar_hash));
            assert_eq!(NarHash::from_nix32(&nar_hash.to_nix32()), Ok(nar_hash));
            assert_eq!(nar_hash.to_string(), hash.to_string());
        }
        Err(_) => assert_ne!(hash.algorithm(), HashAlgorithm::Sha256),
    }
});
