//! What holds for every tree, and for every damaged NAR.

use super::tree::{Tree, any_tree, text_tree};
use crate::nix::nar::{Event, NarError, Reader, Writer};
use proptest::prelude::*;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

/// Reads `bytes` in pieces; gives what was found, written again, and the verdict.
fn rewrite(bytes: &[u8], piece: usize) -> (Vec<u8>, Result<u64, NarError>) {
    let mut reader = Reader::new(bytes.len() as u64);
    let (mut writer, mut out) = (Writer::new(), Vec::new());
    let fed = bytes
        .chunks(piece)
        .try_for_each(|bytes| reader.feed(bytes, &mut |event: Event<'_>| writer.event(&mut out, event)));
    (out, fed.and_then(|()| reader.finish()))
}

/// Puts a tree whose names are UTF-8 into a file system.
fn unpack(tree: &Tree, path: &Path) {
    match tree {
        Tree::Regular { executable, contents } => {
            fs::write(path, contents).unwrap();
            let mode = if *executable { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        Tree::Symlink(target) => symlink(str::from_utf8(target).unwrap(), path).unwrap(),
        Tree::Directory(entries) => {
            fs::create_dir(path).unwrap();
            for (name, node) in entries {
                unpack(node, &path.join(str::from_utf8(name).unwrap()));
            }
        }
    }
}

/// What `nix-nar` finds in a NAR: path, and kind with contents or target.
fn by_oracle(nar: &[u8]) -> Vec<(String, String)> {
    let decoder = nix_nar::Decoder::new(nar).unwrap();
    let entries = decoder.entries().unwrap();
    let described = entries.map(|entry| {
        let entry = entry.unwrap();
        let what = match entry.content {
            nix_nar::Content::Directory => "directory".to_owned(),
            nix_nar::Content::Symlink { target } => format!("symlink {target}"),
            nix_nar::Content::File { executable, offset, mut data, .. } => {
                let mut contents = Vec::new();
                data.read_to_end(&mut contents).unwrap();
                format!("file {executable} {offset} {contents:?}")
            }
        };
        (entry.path.map(|path| path.to_string()).unwrap_or_default(), what)
    });
    described.collect()
}

/// The same as [`by_oracle`], by our reader.
fn by_us(nar: &[u8]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    let (mut path, mut contents) = (Vec::new(), None);
    let join = |path: &[String], name: &[u8]| {
        let name = str::from_utf8(name).unwrap();
        let parts: Vec<&str> = path.iter().map(String::as_str).chain([name]).filter(|part| !part.is_empty()).collect();
        parts.join("/")
    };
    let mut reader = Reader::new(nar.len() as u64);
    reader
        .feed(nar, &mut |event| match event {
            Event::Directory { name } => {
                found.push((join(&path, name), "directory".into()));
                path.push(str::from_utf8(name).unwrap().to_owned());
            }
            Event::Symlink { name, target } => {
                found.push((join(&path, name), format!("symlink {}", str::from_utf8(target).unwrap())));
            }
            Event::Regular { name, executable, offset, .. } => {
                contents = Some((join(&path, name), format!("file {executable} {offset}"), Vec::new()));
            }
            Event::Contents(bytes) => contents.as_mut().unwrap().2.extend_from_slice(bytes),
            Event::Close => match contents.take() {
                Some((path, what, contents)) => found.push((path, format!("{what} {contents:?}"))),
                None => drop(path.pop()),
            },
        })
        .unwrap();
    reader.finish().unwrap();
    found
}

proptest! {
    #[test]
    fn a_tree_survives(tree in any_tree(), piece in 1..200_usize) {
        let nar = tree.to_nar();
        prop_assert_eq!(nar.len() % 8, 0);
        prop_assert_eq!(Tree::from_nar(&nar, piece).unwrap(), tree);
    }

    #[test]
    fn a_damaged_nar_is_refused_or_is_another_nar(
        tree in any_tree(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>(), 0..6), 1..4),
        piece in 1..100_usize,
    ) {
        let mut bytes = tree.to_nar();
        for (at, other, value, kind) in damage {
            if bytes.is_empty() {
                break;
            }
            let (at, other) = (at.index(bytes.len()), other.index(bytes.len()));
            let words = at.min(other) / 8 * 8..at.max(other) / 8 * 8;
            match kind {
                0 => bytes[at] = value,
                1 => bytes[at] ^= 1 << (value % 8),
                2 => bytes.truncate(at),
                3 => drop(bytes.drain(words)),
                4 => {
                    let copy = bytes[words.clone()].to_vec();
                    bytes.splice(words.start..words.start, copy);
                }
                _ => bytes.insert(at, value),
            }
        }
        let (rewritten, verdict) = rewrite(&bytes, piece);
        prop_assert_eq!((&rewritten, verdict), (&rewrite(&bytes, bytes.len().max(1)).0, rewrite(&bytes, bytes.len().max(1)).1));
        match verdict {
            Ok(size) => {
                prop_assert_eq!(size, bytes.len() as u64);
                prop_assert_eq!(rewritten, bytes);
            }
            Err(error) => prop_assert!(error.offset <= bytes.len() as u64, "{}", error),
        }
    }

    #[test]
    fn anything_at_all_is_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(rewrite(&bytes, 16).1.is_err());
    }

    #[test]
    fn nix_nar_reads_what_we_write(tree in text_tree()) {
        let nar = tree.to_nar();
        prop_assert_eq!(by_oracle(&nar), by_us(&nar));
    }
}

proptest! {
    // Each case makes files.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn we_write_what_nix_nar_writes(tree in text_tree()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tree");
        unpack(&tree, &path);
        let mut theirs = Vec::new();
        nix_nar::Encoder::new(&path).unwrap().read_to_end(&mut theirs).unwrap();
        prop_assert_eq!(&theirs, &tree.to_nar());
        prop_assert_eq!(Tree::from_nar(&theirs, 64).unwrap(), tree);
    }
}
