//! What strangers ask for and answer when narinfos go together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::nix::StoreHash;
use peernix::peers::narinfo_batch::{Answer, parse_answer, parse_request, request};

fuzz_target!(|data: &[u8]| {
    if let Ok(hashes) = parse_request(data) {
        assert_eq!(&request(hashes.into_iter())[..], data);
    }
    // Asked for what it claims first, so that more than the first check is tried.
    let asked: Vec<StoreHash> = data.as_chunks::<20>().0.iter().take(4).copied().map(StoreHash::new).collect();
    let Ok(records) = parse_answer(data.to_vec().into(), &asked) else { return };
    let mut answer = Answer::default();
    for record in &records {
        let narinfo = record.narinfo.as_ref();
        answer.add(record.hash, narinfo.map(|said| (said.signed_by.as_deref().unwrap_or_default(), &said.text[..])));
    }
    assert_eq!(&answer.into_bytes()[..], data, "what was read can be written again");
});
