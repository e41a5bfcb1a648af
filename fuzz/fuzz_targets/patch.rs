//! What a stranger sends as a patch, and as a request for one: whatever it is, nothing larger than a frame comes of it, and what was asked is
//! read as it was written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::fetch::patch::frames::{FRAME, Frames, Packed, SLICE_MAX, unpack};
use peernix::fetch::patch::message::{parse_request, request};

fuzz_target!(|data: &[u8]| {
    if let Ok((from, bases)) = parse_request(data) {
        assert_eq!(request(from, &bases), data);
    }
    let base: Vec<u8> = data.iter().copied().cycle().take(data.len() * 3).collect();
    let mut frames = Frames::new(base.len() as u64);
    for chunk in data.chunks(100) {
        frames.push(chunk);
        while let Ok(Some(Packed { slice, bytes })) = frames.take() {
            assert!(slice.end <= base.len() as u64 && slice.end - slice.start <= SLICE_MAX);
            for length in [1, data.len(), FRAME as usize] {
                if let Ok(frame) = unpack(&bytes, &base[slice.start as usize..slice.end as usize], length) {
                    assert_eq!(frame.len(), length);
                }
            }
        }
    }
});
