//! narinfos: what is accepted can be written, is then the same, and keeps what others rely on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::nix::narinfo::EXTRA_FIELDS_MAX;
use peernix::nix::signature::SIGNATURES_MAX;
use peernix::nix::{NarInfo, StoreDir};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    let dir = StoreDir::default();
    let Ok(narinfo) = NarInfo::parse(text, &dir) else { return };
    let written = narinfo.render(&dir);
    let again = NarInfo::parse(&written, &dir).expect("what was written can be read");
    assert_eq!(again, narinfo);
    assert_eq!(again.render(&dir), written);

    let info = &narinfo.info;
    assert!(info.nar_size > 0 && !narinfo.url.is_empty());
    assert!(info.references.is_sorted_by(|a, b| a < b));
    assert!(info.signatures.len() <= SIGNATURES_MAX && narinfo.extra.len() <= EXTRA_FIELDS_MAX);
    // What is signed is one line whose parts cannot be taken for each other.
    let fingerprint = info.fingerprint(&dir);
    assert_eq!(fingerprint.split(';').count(), 5);
    let references = fingerprint.rsplit(';').next().expect("the last part");
    assert_eq!(references.split(',').filter(|path| !path.is_empty()).count(), info.references.len());
    let _ = info.proves_itself(&dir);
});
