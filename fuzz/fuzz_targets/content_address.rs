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
        // One of a kind that is not known is what it was.
        let before = written.rsplit_once(':').map_or(written.as_str(), |(before, _)| before);
        assert!(text.starts_with(before), "{text} became {written}");
    }
});
