//! NARs: the verdict does not depend on how the bytes are cut, what is accepted is written again as the same bytes, and its
//! listing says where the contents are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use peernix::nix::listing::{Builder, Listing};
use peernix::nix::nar::{DEPTH_MAX, Event, NarError, Reader, Writer, is_name};

/// Reads `nar` in pieces; gives what was found, written again, and the verdict.
fn rewrite(nar: &[u8], piece: usize) -> (Vec<u8>, Result<u64, NarError>) {
    let mut reader = Reader::new(nar.len() as u64);
    let (mut writer, mut out) = (Writer::new(), Vec::new());
    let fed = nar.chunks(piece).try_for_each(|bytes| reader.feed(bytes, &mut |event| writer.event(&mut out, event)));
    (out, fed.and_then(|()| reader.finish()))
}

/// Reads a NAR that was accepted once more, passing over the contents; gives its listing, if it can have one, and its depth.
fn list(nar: &[u8]) -> (Option<Listing>, usize) {
    let (mut reader, mut builder) = (Reader::new(u64::MAX), Builder::default());
    let (mut at, mut depth, mut deepest) = (0, 0, 0);
    let mut open = Vec::new();
    while at < nar.len() {
        let mut contents = 0;
        let mut visit = |event: Event<'_>| {
            match event {
                Event::Directory { name } | Event::Symlink { name, .. } => assert!(depth == 0 || is_name(name)),
                Event::Regular { name, size, offset, .. } => {
                    assert!(depth == 0 || is_name(name));
                    assert_eq!(offset, at as u64 + 1, "contents begin behind the byte that ended their length");
                    contents = usize::try_from(size).expect("a size within the input");
                }
                Event::Contents(_) => unreachable!("contents are passed over"),
                Event::Close => {}
            }
            match event {
                Event::Directory { .. } => open.push(true),
                Event::Regular { .. } => open.push(false),
                Event::Close => drop(open.pop().expect("something open")),
                Event::Contents(_) | Event::Symlink { .. } => {}
            }
            depth = open.len();
            deepest = deepest.max(depth + usize::from(matches!(event, Event::Symlink { .. })));
            builder.event(event);
        };
        reader.feed(&nar[at..=at], &mut visit).expect("accepted before");
        at += 1;
        reader.skip(contents as u64, &mut |event| builder.event(event)).expect("these are contents");
        at += contents;
    }
    assert_eq!(reader.finish(), Ok(nar.len() as u64));
    (builder.finish().ok(), deepest)
}

fuzz_target!(|nar: &[u8]| {
    let (whole, verdict) = rewrite(nar, nar.len().max(1));
    for piece in [1, 1 + nar.len() % 61] {
        let (pieces, same) = rewrite(nar, piece);
        assert_eq!((&whole, verdict), (&pieces, same));
    }
    match verdict {
        Err(error) => assert!(error.offset <= nar.len() as u64),
        Ok(size) => {
            assert_eq!((size, whole.as_slice()), (nar.len() as u64, nar));
            let (listing, deepest) = list(nar);
            assert!(deepest <= DEPTH_MAX);
            if let Some(listing) = listing.filter(|_| deepest < DEPTH_MAX) {
                assert_eq!(Listing::parse(&listing.render()), Ok(listing));
            }
        }
    }
});
