//! Listings: what is accepted can be written, and is then the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::nix::Listing;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(listing) = Listing::parse(text) {
        let written = listing.render();
        assert_eq!(Listing::parse(&written), Ok(listing));
    }
});
