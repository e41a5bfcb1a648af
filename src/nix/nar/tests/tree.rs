//! A file system object in memory, to write and to compare.

use crate::nix::nar::{Event, NarError, Reader, Writer};
use proptest::prelude::*;
use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tree {
    Regular { executable: bool, contents: Vec<u8> },
    Symlink(Vec<u8>),
    Directory(BTreeMap<Vec<u8>, Tree>),
}

impl Tree {
    pub(super) fn file(contents: &[u8]) -> Self {
        Self::Regular { executable: false, contents: contents.to_vec() }
    }

    pub(super) fn directory<const N: usize>(entries: [(&[u8], Self); N]) -> Self {
        Self::Directory(entries.into_iter().map(|(name, node)| (name.to_vec(), node)).collect())
    }

    /// `levels` directories around `self`, one in the other.
    pub(super) fn below(self, levels: usize) -> Self {
        (0..levels).fold(self, |inner, _| Self::directory([(b"d", inner)]))
    }

    pub(super) fn to_nar(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut Writer::new(), &mut out, b"");
        out
    }

    fn write(&self, writer: &mut Writer, out: &mut Vec<u8>, name: &[u8]) {
        match self {
            Self::Regular { executable, contents } => {
                writer.regular(out, name, *executable, contents.len() as u64);
                out.extend_from_slice(contents);
                writer.close(out);
            }
            Self::Symlink(target) => writer.symlink(out, name, target),
            Self::Directory(entries) => {
                writer.directory(out, name);
                for (name, node) in entries {
                    node.write(writer, out, name);
                }
                writer.close(out);
            }
        }
    }

    /// Reads a NAR that is fed in pieces of `piece` bytes.
    pub(super) fn from_nar(nar: &[u8], piece: usize) -> Result<Self, NarError> {
        let mut reader = Reader::new(nar.len() as u64);
        let mut builder = Builder::default();
        for bytes in nar.chunks(piece) {
            reader.feed(bytes, &mut |event| builder.event(event))?;
        }
        assert_eq!(reader.finish()?, nar.len() as u64);
        assert!(builder.open.is_empty());
        Ok(builder.root.unwrap())
    }
}

/// Builds a tree from events, and checks that they come in a sensible order.
#[derive(Default)]
struct Builder {
    root: Option<Tree>,
    open: Vec<(Vec<u8>, Tree)>,
}

impl Builder {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Directory { name } => self.open.push((name.to_vec(), Tree::directory([]))),
            Event::Regular { name, executable, size, .. } => {
                let contents = Vec::with_capacity(usize::try_from(size).unwrap());
                self.open.push((name.to_vec(), Tree::Regular { executable, contents }));
            }
            Event::Contents(bytes) => match self.open.last_mut() {
                Some((_, Tree::Regular { contents, .. })) if !bytes.is_empty() => contents.extend_from_slice(bytes),
                other => panic!("contents of {other:?}"),
            },
            Event::Symlink { name, target } => self.add(name.to_vec(), Tree::Symlink(target.to_vec())),
            Event::Close => {
                let (name, node) = self.open.pop().unwrap();
                self.add(name, node);
            }
        }
    }

    fn add(&mut self, name: Vec<u8>, node: Tree) {
        let before = match self.open.last_mut() {
            Some((_, Tree::Directory(entries))) => entries.insert(name, node),
            Some(other) => panic!("{name:?} in {other:?}"),
            None => {
                assert!(name.is_empty(), "the root has no name");
                self.root.replace(node)
            }
        };
        assert_eq!(before, None);
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    let bytes = prop::collection::vec(any::<u8>(), 1..12);
    let near = prop::collection::vec(prop::sample::select(b"ab.-\0/ ".to_vec()), 1..5);
    let long = (any::<u8>(), 240..=255_usize).prop_map(|(byte, len)| vec![byte; len]);
    prop_oneof![bytes, near, long].prop_filter("a possible name", |name| crate::nix::nar::is_name(name))
}

/// Names and targets that are UTF-8, for oracles that know no others.
fn text() -> impl Strategy<Value = Vec<u8>> {
    "[^/\0]{1,9}".prop_map(String::into_bytes).prop_filter("a possible name", |name| crate::nix::nar::is_name(name))
}

fn tree(name: BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = Tree> {
    let contents = prop::collection::vec(any::<u8>(), 0..40);
    let leaf = prop_oneof![
        4 => (any::<bool>(), contents).prop_map(|(executable, contents)| Tree::Regular { executable, contents }),
        1 => name.clone().prop_map(Tree::Symlink),
        1 => Just(Tree::directory([])),
    ];
    leaf.prop_recursive(6, 48, 8, move |inner| {
        prop::collection::btree_map(name.clone(), inner, 0..8).prop_map(Tree::Directory)
    })
}

pub(super) fn any_tree() -> impl Strategy<Value = Tree> {
    tree(name().boxed())
}

pub(super) fn text_tree() -> impl Strategy<Value = Tree> {
    tree(text().boxed())
}
