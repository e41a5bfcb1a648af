//! What comes over NATS.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| peernix::sites::read_anything(data));
