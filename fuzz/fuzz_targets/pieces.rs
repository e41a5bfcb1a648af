//! A table that a stranger tells, and a piece that it sends: whatever they are, only the piece itself fits the true table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::fetch::pieces::table::{PieceTable, length};
use peernix::nix::NarHash;

fuzz_target!(|data: &[u8]| {
    let Some((size, rest)) = data.split_first_chunk() else { return };
    let Some((piece, rest)) = rest.split_first_chunk() else { return };
    let (size, piece) = (u64::from_le_bytes(*size), u32::from_le_bytes(*piece));
    // As sizes are, and as those are that a table of these bytes may have.
    let pieces = (rest.len() / 32) as u64 + 1;
    for size in [size, size % (pieces << 20)] {
        match PieceTable::parse(rest.to_vec().into(), size) {
            Ok(table) => {
                assert_eq!(Ok(rest.len()), length(size));
                assert!(!table.fits((&NarHash::new([0; 32]), size), piece, rest), "that would be a preimage");
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});
