//! Trees of every odd kind, and the layout of a tree without a store around it.

use super::super::layout::Layout;
use super::super::reader::NarSource;
use super::super::stream::{Block, Source};
use super::super::{StoreError, walk};
use crate::nix::{NarHash, StorePath};
use std::ffi::OsStr;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const BASE: &str = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-tree";

/// A directory that plays the store, with one path in it.
pub(super) struct Tree {
    store: tempfile::TempDir,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self { store: tempfile::tempdir().unwrap() }
    }

    pub(super) fn store(&self) -> &Path {
        self.store.path()
    }

    pub(super) fn root(&self) -> PathBuf {
        self.store.path().join(BASE)
    }

    pub(super) fn layout(&self) -> Result<Arc<Layout>, StoreError> {
        let path: StorePath = BASE.parse().unwrap();
        walk::walk(self.store(), &path, NarHash::new([0; 32])).map(Arc::new)
    }

    /// Reads a part of the NAR, in blocks of `size` bytes.
    pub(super) fn read(&self, layout: &Arc<Layout>, range: &Range<u64>, size: usize) -> Result<Vec<u8>, StoreError> {
        let mut source = NarSource::new(Arc::clone(layout), self.store(), range, None);
        let mut bytes = Vec::new();
        loop {
            let mut block = Block::own(size);
            source.fill(&mut block, &AtomicBool::new(false))?;
            bytes.extend_from_slice(block.as_ref());
            if block.room() > 0 {
                return Ok(bytes);
            }
        }
    }

    /// What the real Nix makes of it.
    pub(super) fn dump(&self) -> Vec<u8> {
        let output = std::process::Command::new("nix-store").arg("--dump").arg(self.root()).output();
        let output = output.expect("these tests need the real Nix (Debian: apt-get install nix-bin)");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// Bytes that are not all alike.
pub(super) fn noise(size: usize) -> Vec<u8> {
    (0..size).map(|index| u8::try_from((index * 31 + index / 251) % 251).unwrap()).collect()
}

/// Puts one of everything into the directory `root`.
pub(super) fn odd_tree(root: &Path) {
    let file = |name: &[u8], bytes: &[u8]| {
        let file = root.join(OsStr::from_bytes(name));
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, bytes).unwrap();
        file
    };
    std::fs::create_dir_all(root).unwrap();
    for size in [0, 1, 7, 8, 9, 4095, 4096, 65_535, 65_536, 65_537, 262_143, 262_144, 262_145, 700_001] {
        file(format!("sizes/{size}").as_bytes(), &noise(size));
    }
    // The order of bytes is neither that of the locale nor that of the directory; a dot comes before a slash.
    for name in ["a", "a.b", "a-b", "a b", "B", "ab", "a/c", "Z/z", "~nix~case~hack~1"] {
        if name != "a" {
            file(format!("names/{name}").as_bytes(), name.as_bytes());
        }
    }
    file(b"names/\xff\xfe not UTF-8", b"x");
    file("names/\u{e4}\n\t\"\\".as_bytes(), b"x");
    file(&[b"names/".as_slice(), &[b'n'; 255]].concat(), b"x");
    for (mode, name) in [(0o755, "755"), (0o744, "744"), (0o655, "655"), (0o444, "444"), (0o4755, "4755")] {
        let file = file(format!("modes/{name}").as_bytes(), b"#!/bin/sh\n");
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::fs::create_dir_all(root.join("empty/deeper/still")).unwrap();
    std::fs::create_dir_all(root.join("links")).unwrap();
    symlink("/nonexistent", root.join("links/dangling")).unwrap();
    symlink("../sizes", root.join("links/directory")).unwrap();
    symlink("loop", root.join("links/loop")).unwrap();
    symlink("t".repeat(4000), root.join("links/long")).unwrap();
    symlink(OsStr::from_bytes(b"\xff"), root.join("links/bytes")).unwrap();
    // With root and file this makes 60 levels.
    file(format!("deep/{}file", "d/".repeat(57)).as_bytes(), b"deep");
}

#[test]
fn roots_of_all_kinds_are_as_nix_dumps_them() {
    let roots: [fn(&Path); 7] = [
        |root| std::fs::write(root, b"").unwrap(),
        |root| std::fs::write(root, noise(300_000)).unwrap(),
        |root| {
            std::fs::write(root, b"#!").unwrap();
            std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o555)).unwrap();
        },
        |root| symlink("elsewhere", root).unwrap(),
        |root| std::fs::create_dir(root).unwrap(),
        |root| std::fs::create_dir_all(root.join("a/b")).unwrap(),
        odd_tree,
    ];
    for make in roots {
        let tree = Tree::new();
        make(&tree.root());
        let layout = tree.layout().unwrap();
        let expected = tree.dump();
        assert_eq!(layout.nar_size(), expected.len() as u64);
        for size in [65_536, 1000, 1] {
            // One byte at a time takes long on the large ones.
            if size > 1 || expected.len() < 4096 {
                assert!(tree.read(&layout, &(0..layout.nar_size()), size).unwrap() == expected, "{size}");
            }
        }
    }
}

#[test]
fn every_offset_is_found() {
    let tree = Tree::new();
    let root = tree.root();
    std::fs::create_dir_all(root.join("a/b/c")).unwrap();
    std::fs::create_dir_all(root.join("a/d")).unwrap();
    std::fs::create_dir_all(root.join("e/empty")).unwrap();
    for (name, size) in [("a/b/c/1", 3), ("a/b/2", 0), ("a/d/3", 8), ("e/4", 17), ("f", 1)] {
        std::fs::write(root.join(name), noise(size)).unwrap();
    }
    symlink("x", root.join("a/b/link")).unwrap();
    let layout = tree.layout().unwrap();
    let expected = tree.dump();
    let size = layout.nar_size();
    for start in 0..=size {
        let read = tree.read(&layout, &(start..size), 4096).unwrap();
        assert!(read == expected[usize::try_from(start).unwrap()..], "from {start}");
        let end = size.min(start + 13);
        let read = tree.read(&layout, &(start..end), 5).unwrap();
        assert!(read == expected[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()], "{start}..{end}");
    }
}

mod ranges {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static ODD: LazyLock<(Tree, Arc<Layout>, Vec<u8>)> = LazyLock::new(|| {
        let tree = Tree::new();
        odd_tree(&tree.root());
        let (layout, dump) = (tree.layout().unwrap(), tree.dump());
        (tree, layout, dump)
    });

    /// Trees of up to three levels: each file is a path of up to three names and a size.
    fn any_tree() -> impl Strategy<Value = Vec<(Vec<String>, usize)>> {
        let name = prop::collection::vec("[a-c.]{1,2}", 1..4);
        prop::collection::vec((name, prop_oneof![0..20usize, 0..70_000usize]), 0..12)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn of_an_odd_tree(start in 0.0..1.0f64, length in prop_oneof![0..100u64, 0..3_000_000u64], block in 1..300_000usize) {
            let (tree, layout, dump) = &*ODD;
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let start = (dump.len() as f64 * start) as usize;
            let end = dump.len().min(start + usize::try_from(length).unwrap());
            let read = tree.read(layout, &(start as u64..end as u64), block).unwrap();
            prop_assert!(read == dump[start..end], "{}..{}", start, end);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn of_any_tree(files in any_tree(), cuts in prop::collection::vec(0.0..1.0f64, 8)) {
            let tree = Tree::new();
            std::fs::create_dir(tree.root()).unwrap();
            for (names, size) in files {
                let file: PathBuf = names.iter().filter(|name| !["..", "."].contains(&name.as_str())).collect();
                let file = tree.root().join(file);
                // A name may be taken by a file where a directory would be needed: then there is one file less.
                if file.parent().is_some_and(|parent| std::fs::create_dir_all(parent).is_ok()) && !file.is_dir() {
                    std::fs::write(&file, noise(size)).unwrap();
                }
            }
            let (layout, dump) = (tree.layout().unwrap(), tree.dump());
            prop_assert_eq!(layout.nar_size(), dump.len() as u64);
            for cut in cuts {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
                let start = (dump.len() as f64 * cut) as usize;
                let read = tree.read(&layout, &(start as u64..dump.len() as u64), 10_000).unwrap();
                prop_assert!(read == dump[start..], "from {}", start);
            }
        }
    }
}

#[test]
fn what_cannot_be_in_a_nar_is_refused() {
    let tree = Tree::new();
    assert!(matches!(tree.layout(), Err(StoreError::Io { .. })), "nothing there");
    std::fs::create_dir(tree.root()).unwrap();
    ::nix::unistd::mkfifo(&tree.root().join("pipe"), ::nix::sys::stat::Mode::S_IRWXU).unwrap();
    let error = tree.layout().unwrap_err().to_string();
    assert!(error.contains("tree/pipe: neither a file nor"), "{error}");
}

#[test]
fn levels_are_bounded_as_in_nix() {
    let tree = Tree::new();
    // The root and 62 directories, and then a file: 64 levels.
    let innermost = tree.root().join("d/".repeat(62));
    std::fs::create_dir_all(&innermost).unwrap();
    std::fs::write(innermost.join("f"), "x").unwrap();
    let layout = tree.layout().unwrap();
    assert!(tree.read(&layout, &(0..layout.nar_size()), 65_536).unwrap() == tree.dump());
    std::fs::create_dir(innermost.join("d")).unwrap();
    std::fs::write(innermost.join("d/f"), "x").unwrap();
    let error = tree.layout().unwrap_err().to_string();
    assert!(error.contains("levels of directories") && error.contains("64"), "{error}");
}
