//! What members say to each other of copies: whatever comes, what is read can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::copies::message::{Answer, MESSAGE_MAX, PATHS_MAX, REASON_MAX, Request};

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = Request::parse(data) {
        assert!(request.hold.len() <= PATHS_MAX && request.release.len() <= PATHS_MAX && data.len() <= MESSAGE_MAX);
        assert_eq!(Request::parse(&request.to_body()).unwrap(), request);
    }
    if let Ok(answer) = Answer::parse(data) {
        assert!(answer.refused.iter().all(|refused| refused.reason.chars().count() <= REASON_MAX));
        assert_eq!(Answer::parse(&answer.to_body()).unwrap(), answer);
    }
});
