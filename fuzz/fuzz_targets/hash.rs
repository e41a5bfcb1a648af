//! Hashes: all forms of one value are read as that value, and each form has one text.
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
    assert!(forms.iter().any(|form| form == text) || base16.eq_ignore_ascii_case(text), "{text}");
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
