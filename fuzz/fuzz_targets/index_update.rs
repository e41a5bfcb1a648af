//! What a stranger says of its index, whole and by its state.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::index::{Set, Update};
use peernix::peers::IndexState;

fuzz_target!(|data: &[u8]| {
    if let Some(state) = str::from_utf8(data).ok().and_then(|text| text.parse::<IndexState>().ok()) {
        assert_eq!(state.to_string().parse(), Ok(state));
    }
    let Ok(update) = Update::parse(data) else { return };
    assert_eq!(Update::parse(&update.to_bytes()), Ok(update.clone()), "what was read can be told on");
    let (state, entries) = match &update {
        Update::Snapshot { state, entries, .. } => (*state, entries.clone()),
        Update::Changes { state, added, .. } => (*state, added.clone()),
    };
    let before = Update::Snapshot { state, salt: peernix::index::Salt::OPEN, entries: vec![] };
    let set = Set::updated(None, before).and_then(|before| Set::updated(Some(&before), update));
    let set = set.expect("changes of the state that is known");
    assert!(entries.iter().all(|entry| set.has(*entry)));
});
