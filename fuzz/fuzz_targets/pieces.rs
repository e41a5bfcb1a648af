//! A table that a stranger tells, and a piece that it sends: whatever they are, only the piece itself fits the true table.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::fetch::pieces::table::{PieceTable, length};
use peernix::nix::NarHash;

fuzz_target!(|data: &[u8]| {
    let Some((head, rest)) = data.split_at_checked(12) else { return };
    let size = u64::from_le_bytes(head[..8].try_into().unwrap());
    let piece = u32::from_le_bytes(head[8..].try_into().unwrap());
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
