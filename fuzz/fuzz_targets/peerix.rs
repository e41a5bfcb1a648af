//! What machines with predecessors broadcast and ask.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::peers::go_peernix::Message;
use peernix::peers::peerix::Datagram;

fuzz_target!(|data: &[u8]| {
    if let Some(datagram) = Datagram::parse(data) {
        assert_eq!(datagram.to_bytes(), data, "there is one way to write it");
    }
    let _ = Message::parse(data);
});
