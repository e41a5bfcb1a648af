//! Every limit at its edge and one beyond, and what the reader keeps of what it is fed.

use super::tree::Tree;
use crate::nix::nar::{DEPTH_MAX, Event, NAME_MAX, NarError, NarReason, Reader, TARGET_MAX, Writer, check, padding};

fn reason(tree: &Tree) -> Option<NarReason> {
    check(&tree.to_nar()).err().map(|error| error.reason)
}

#[test]
fn lengths_and_depth() {
    let named = |len| Tree::directory([(&vec![b'n'; len][..], Tree::file(b""))]);
    assert_eq!(reason(&named(NAME_MAX)), None);
    assert_eq!(reason(&named(NAME_MAX + 1)), Some(NarReason::Name));
    assert_eq!(reason(&named(0)), Some(NarReason::Name));

    let link = |len| Tree::Symlink(vec![b't'; len]);
    assert_eq!(reason(&link(TARGET_MAX)), None);
    assert_eq!(reason(&link(TARGET_MAX + 1)), Some(NarReason::Target));
    assert_eq!(reason(&link(0)), Some(NarReason::Target));

    for leaf in [Tree::file(b"x"), Tree::Symlink(b"x".to_vec()), Tree::directory([])] {
        assert_eq!(reason(&leaf.clone().below(DEPTH_MAX - 1)), None);
        assert_eq!(reason(&leaf.below(DEPTH_MAX)), Some(NarReason::Depth));
    }
    // A NAR that overflowed the stack of Nix.
    let (mut writer, mut bomb) = (Writer::new(), Vec::new());
    (0..100_000).for_each(|_| writer.directory(&mut bomb, b"d"));
    (0..100_000).for_each(|_| writer.close(&mut bomb));
    assert_eq!(check(&bomb).unwrap_err().reason, NarReason::Depth);
}

#[test]
fn padding_fills_up_to_eight() {
    assert_eq!([0, 1, 7, 8, 9, u64::MAX].map(padding), [0, 7, 1, 0, 7, 1]);
}

#[test]
fn no_byte_more_than_allowed() {
    let nar = Tree::directory([(b"a", Tree::file(b"contents"))]).to_nar();
    let size = nar.len() as u64;
    let feed = |limit, bytes: &[u8], piece| {
        let mut reader = Reader::new(limit);
        bytes.chunks(piece).try_for_each(|bytes| reader.feed(bytes, &mut |_| {})).map(|()| reader.finish())
    };
    for piece in [1, 7, nar.len() + 1] {
        assert_eq!(feed(size, &nar, piece), Ok(Ok(size)));
        assert_eq!(feed(u64::MAX, &nar, piece), Ok(Ok(size)));
        let short = NarError { offset: size - 1, reason: NarReason::TooLarge(size - 1) };
        assert_eq!(feed(size - 1, &nar, piece), Err(short));
        let nothing = NarError { offset: 0, reason: NarReason::TooLarge(0) };
        assert_eq!(feed(0, &nar, piece), Err(nothing));

        let longer = [&nar[..], b"\0"].concat();
        let trailing = NarError { offset: size, reason: NarReason::Trailing };
        assert_eq!(feed(size, &longer, piece), Err(trailing));
        assert_eq!(feed(size + 1, &longer, piece), Err(trailing));
    }
    // Contents that announce more than is allowed are refused before they come.
    let contents = nar.windows(8).rposition(|bytes| bytes == b"contents").unwrap();
    let announce = |length: u64| {
        let mut bytes = nar[..contents].to_vec();
        bytes[contents - 8..].copy_from_slice(&length.to_le_bytes());
        Reader::new(size).feed(&bytes, &mut |_| {})
    };
    let left = size - contents as u64;
    let error = NarError { offset: contents as u64 - 8, reason: NarReason::TooLarge(size) };
    assert_eq!(announce(left), Ok(()));
    assert_eq!([left + 1, size, u64::MAX].map(announce), [Err(error); 3]);
}

#[test]
fn a_string_too_long_is_refused_before_it_comes() {
    // The longest that may stand at each place, from the magic to the end of the directory or its next `entry`.
    let link = Tree::directory([(b"a", Tree::Symlink(b"t".to_vec()))]);
    strings_are_at_most(&link, &[13, 1, 4, 9, 5, 1, 4, NAME_MAX, 4, 1, 4, 9, 6, TARGET_MAX, 1, 1, 5]);
    // And up to the contents.
    strings_are_at_most(&Tree::Regular { executable: true, contents: vec![] }, &[13, 1, 4, 9, 10, 0, 8]);
}

fn strings_are_at_most(tree: &Tree, longest: &[usize]) {
    let (nar, mut at) = (tree.to_nar(), 0);
    for &most in longest {
        let feed = |length: usize| {
            let bytes = [&nar[..at], &(length as u64).to_le_bytes()].concat();
            Reader::new(u64::MAX).feed(&bytes, &mut |_| {}).map_err(|error| error.offset)
        };
        assert_eq!((feed(most), feed(most + 1)), (Ok(()), Err(at as u64)));
        let length = u64::from_le_bytes(nar[at..at + 8].try_into().unwrap());
        at += 8 + usize::try_from(length).unwrap().next_multiple_of(8);
    }
}

#[test]
fn an_error_stays() {
    let mut reader = Reader::new(1000);
    let error = reader.feed(b"no archive at all", &mut |_| {}).unwrap_err();
    assert_eq!(error.reason, NarReason::Expected("'nix-archive-1'"));
    let nar = Tree::file(b"").to_nar();
    assert_eq!(reader.feed(&nar, &mut |_| panic!("an event after an error")), Err(error));
    assert_eq!(reader.skip(0, &mut |_| {}), Err(error));
    assert!(!reader.is_complete());
    assert_eq!(reader.finish(), Err(error));
    assert_eq!(error.to_string(), "not a NAR: at byte 0, expected 'nix-archive-1'");
}

#[test]
fn memory_does_not_grow_with_the_nar() {
    // The worst that is accepted: the longest names at every level, and the longest target at the bottom.
    let name = [b'n'; NAME_MAX];
    let deep = (1..DEPTH_MAX).fold(Tree::Symlink(vec![b't'; TARGET_MAX]), |inner, _| Tree::directory([(&name, inner)]));
    let nar = deep.to_nar();
    let mut reader = Reader::new(u64::MAX);
    let mut most = 0;
    for bytes in nar.chunks(13) {
        reader.feed(bytes, &mut |_| {}).unwrap();
        most = most.max(reader.capacity());
    }
    assert!(most > NAME_MAX * (DEPTH_MAX - 1) && most < 64 * 1024, "{most} bytes");
    assert!(reader.is_complete());
}

#[test]
fn contents_can_be_passed_over() {
    let tree = Tree::directory([(b"a", Tree::file(b"")), (b"b", Tree::file(b"twelve bytes"))]);
    let nar = tree.to_nar();
    let (mut events, mut whole) = (Vec::new(), Vec::new());
    let at = nar.windows(12).position(|bytes| bytes == b"twelve bytes").unwrap();
    let mut reader = Reader::new(nar.len() as u64);
    reader.feed(&nar[..at], &mut |event| events.push(format!("{event:?}"))).unwrap();
    reader.skip(5, &mut |event| events.push(format!("{event:?}"))).unwrap();
    reader.skip(7, &mut |event| events.push(format!("{event:?}"))).unwrap();
    reader.feed(&nar[at + 12..], &mut |event| events.push(format!("{event:?}"))).unwrap();
    assert_eq!(reader.finish(), Ok(nar.len() as u64));

    let mut reader = Reader::new(nar.len() as u64);
    reader
        .feed(&nar, &mut |event| {
            if !matches!(event, Event::Contents(_)) {
                whole.push(format!("{event:?}"));
            }
        })
        .unwrap();
    assert_eq!(events, whole);
    assert!(whole.iter().any(|event| event.contains(&format!("offset: {at}"))), "{whole:?}");

    for (fed, len) in [(at, 13), (at - 1, 1), (0, 1), (at + 12, 1)] {
        let mut reader = Reader::new(u64::MAX);
        reader.feed(&nar[..fed], &mut |_| {}).unwrap();
        let error = NarError { offset: fed as u64, reason: NarReason::Skip };
        assert_eq!(reader.skip(len, &mut |_| {}), Err(error), "{fed} {len}");
    }
}
