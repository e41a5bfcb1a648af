//! Varlink: messages cut out of a stream are the same however it arrives, and what of a call we read ourselves.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::control::varlink::{Call, Decoder, Refusal};

/// Small, so that the limit is met.
const MOST: usize = 200;

/// All messages of a stream that arrives in pieces of this size, and whether it broke off.
fn messages(stream: &[u8], piece: usize) -> (Vec<Vec<u8>>, bool) {
    let mut decoder = Decoder::new(MOST);
    let mut found = Vec::new();
    let mut rest = stream;
    loop {
        loop {
            match decoder.take() {
                Ok(Some(message)) => {
                    assert!(message.len() <= MOST && !message.contains(&0));
                    found.push(message);
                }
                Ok(None) => break,
                Err(_) => return (found, true),
            }
        }
        if rest.is_empty() {
            return (found, false);
        }
        let size = piece.min(decoder.room()).min(rest.len());
        assert!(size > 0, "there is room once all messages are taken out");
        decoder.add(&rest[..size]);
        rest = &rest[size..];
    }
}

fuzz_target!(|data: &[u8]| {
    let whole = messages(data, usize::MAX);
    assert_eq!(messages(data, 1), whole);
    assert_eq!(messages(data, 7), whole);
    for message in whole.0 {
        let Ok(call) = Call::parse(message) else { continue };
        assert!(!call.method.contains('.'));
        let parameters = match call.parameters(&["id", "paths", "dryRun"]) {
            Ok(parameters) => parameters,
            Err(Refusal::Parameter(name, _)) => {
                assert!(!["id", "paths", "dryRun"].contains(&name.as_str()));
                continue;
            }
            Err(other) => panic!("{other:?}"),
        };
        for wrong in [
            parameters.optional::<u64>("id").err(),
            parameters.optional::<Vec<String>>("paths").err(),
            parameters.required::<bool>("dryRun").err(),
        ] {
            assert!(matches!(wrong, None | Some(Refusal::Parameter(..))));
        }
    }
});
