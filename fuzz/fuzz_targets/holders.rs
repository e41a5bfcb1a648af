//! What a stranger says of who has what.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::peers::holders::{answer, parse_answer};

fuzz_target!(|data: &[u8]| {
    let [paths, body @ ..] = data else { return };
    let Ok(holders) = parse_answer(body.to_vec().into(), usize::from(*paths)) else { return };
    assert_eq!(holders.len(), usize::from(*paths));
    // An address may be written in two ways, so that it is what is read that is the same.
    assert_eq!(parse_answer(answer(&holders), holders.len()), Ok(holders));
});
