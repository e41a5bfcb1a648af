//! Content addresses: what is accepted can be written, and is then the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::nix::ContentAddress;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(address) = text.parse::<ContentAddress>() {
        let written = address.to_string();
        assert_eq!(written.parse(), Ok(address));
        // The writer's form is one of the forms of the reader: method, algorithm and digest are those of the text.
        let (before, _) = written.rsplit_once(':').expect("a digest");
        assert!(text.starts_with(before), "{text} became {written}");
    }
});
