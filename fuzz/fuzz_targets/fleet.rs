//! What strangers show of a fleet, and say when they join one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::peers::NodeKey;
use peernix::peers::fleet::{Fleet, FleetKey, FleetOptions};
use peernix::peers::fleet::pairing::{Code, Inviter, Joiner};
use std::sync::LazyLock;
use tokio::runtime::{Builder, Runtime};
use tokio::time::Instant;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Builder::new_current_thread().build().expect("a runtime"));
/// Whatever it is shown, it is shown by a stranger: nobody has the key of its fleet.
static FLEET: LazyLock<Fleet> = LazyLock::new(|| {
    let options = FleetOptions { fleet: Some(FleetKey::from_seed([9; 32]).id()), ..FleetOptions::default() };
    RUNTIME.block_on(Fleet::open(NodeKey::from_seed([1; 32]).id(), options)).expect("it reads no file")
});

fuzz_target!(|data: &[u8]| {
    let [length, rest @ ..] = data else { return };
    let (us, other) = (NodeKey::from_seed([1; 32]).id(), NodeKey::from_seed([2; 32]).id());
    let (message, proof) = rest.split_at(usize::from(*length).min(rest.len()));
    if let Ok(text) = std::str::from_utf8(rest) {
        assert!(FLEET.present(other, Some(text)).is_err());
        let _: Result<Code, _> = text.parse();
    }
    assert!(RUNTIME.block_on(FLEET.pair(other, rest)).is_err());
    let code: Code = "37-4821-9375".parse().expect("ten digits");
    let now = Instant::now();
    let mut inviter = Inviter::new(code.clone(), us, now);
    let _ = inviter.begins("37", other, message, now);
    assert!(inviter.ends(other, proof, now).is_err());
    let (joiner, _) = Joiner::begin(&code, other, us);
    assert!(joiner.end(message, proof).is_err());
});
