//! Base-32: one text a value, and every value has one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::nix::base32::{decode, decode_into, encode};

fuzz_target!(|data: &[u8]| {
    let text = encode(data);
    let mut bytes = vec![0xff; data.len()];
    decode_into(&text, &mut bytes).expect("what was encoded can be decoded");
    assert_eq!(bytes, data);

    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(bytes) = decode::<20>(text) {
        assert_eq!(encode(&bytes), text);
    }
    if let Ok(bytes) = decode::<32>(text) {
        assert_eq!(encode(&bytes), text);
    }
});
