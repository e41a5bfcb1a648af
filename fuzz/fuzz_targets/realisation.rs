//! Realisations of both generations: what is accepted can be written, and is then the same and signed as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::nix::realisation::{BuildTrace, BuildTraceKey, DrvOutput, Realisation};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<DrvOutput>() {
        assert_eq!(id.to_string().parse(), Ok(id));
    }
    if let Ok(realisation) = Realisation::parse(text) {
        let again = Realisation::parse(&realisation.render()).expect("what was written can be read");
        assert_eq!(again, realisation);
        assert_eq!(again.fingerprint(), realisation.fingerprint());
        assert!(realisation.dependent.keys().map(ToString::to_string).is_sorted());
    }
    if let Ok(trace) = BuildTrace::parse(text) {
        let again = BuildTrace::parse(&trace.render()).expect("what was written can be read");
        assert_eq!(again, trace);
        let key = BuildTraceKey::new(trace.out_path.clone(), "out").expect("a key");
        assert_eq!(again.fingerprint(&key), trace.fingerprint(&key));
    }
});
