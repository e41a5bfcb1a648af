//! What strangers say of who downloads what.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::fetch::claims::message::{answer, parse_answer, parse_request, request};

fuzz_target!(|data: &[u8]| {
    let [records, body @ ..] = data else { return };
    if let Ok(claims) = parse_request(body.to_vec().into()) {
        assert_eq!(request(&claims), body, "there is one way to write it");
    }
    let Ok(answers) = parse_answer(body.to_vec().into(), usize::from(*records)) else { return };
    assert_eq!(answers.len(), usize::from(*records));
    // An address may be written in two ways, so that it is what is read that is the same.
    assert_eq!(parse_answer(answer(&answers), answers.len()), Ok(answers));
});
