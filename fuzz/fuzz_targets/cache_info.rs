//! `nix-cache-info`: what is accepted can be written, and is then the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::nix::cache_info::CacheInfo;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(info) = CacheInfo::parse(text) {
        assert_eq!(CacheInfo::parse(&info.render()), Ok(info));
    }
});
