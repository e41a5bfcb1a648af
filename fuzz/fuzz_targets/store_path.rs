//! Store paths and directories: one text a path, ordered as the texts are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::nix::{StoreDir, StorePath};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(dir) = StoreDir::new(text) {
        assert_eq!(dir.as_str(), text);
        assert!(dir.parse(text).is_err(), "the directory is no path inside itself");
    }
    let dir = StoreDir::default();
    if let Ok(path) = dir.parse(text) {
        assert_eq!(dir.join(&path), text);
    }
    // Two texts, to compare.
    let (first, second) = text.split_once('\n').unwrap_or((text, "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-x"));
    let (Ok(a), Ok(b)) = (first.parse::<StorePath>(), second.parse::<StorePath>()) else { return };
    assert_eq!((a.to_string(), b.to_string()), (first.to_owned(), second.to_owned()));
    assert_eq!(a.cmp(&b), first.cmp(second));
    assert_eq!(a == b, first == second);
    assert_eq!(dir.parse(&dir.join(&a)), Ok(a));
});
