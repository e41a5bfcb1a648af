//! Where in its NAR each file of a store path lies.
//!
//! A layout is a flat list of nodes in the order of the NAR, 32 bytes each, with all names and targets in one arena: some 50
//! bytes a file. The framing around the contents is not kept but made again while reading ([`Framer`]), which costs less
//! than fetching it from memory would.

use crate::nix::nar::Writer;
use crate::nix::{NarHash, StorePath};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// The parent of the root.
const NONE: u32 = u32::MAX;

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Regular,
    Executable,
    Symlink,
    Directory,
}

/// A file, directory or symbolic link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Node {
    /// Where in the NAR its step begins: the ends of directories before it, then its own framing.
    offset: u64,
    /// The length of a file's contents or of a link's target in bytes; 0 for a directory.
    size: u64,
    /// The directory that it is in.
    parent: u32,
    /// Where in the arena its name begins; a link's target follows it.
    name: u32,
    name_len: u8,
    kind: Kind,
}

impl Node {
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    pub(super) const fn kind(&self) -> Kind {
        self.kind
    }
}

/// The shape of a store path: every file with its size and its place in the NAR. Cheap to share, compact in memory.
#[derive(Debug)]
pub struct Layout {
    path: StorePath,
    nar_hash: NarHash,
    nar_size: u64,
    /// Where the ends of the directories still open after the last node begin.
    end: u64,
    nodes: Box<[Node]>,
    arena: Box<[u8]>,
    /// The length of the listing in bytes, once it was asked for.
    listing_len: OnceLock<u64>,
    /// Set when a reader found something else on disk.
    stale: AtomicBool,
}

impl Layout {
    /// Whose layout it is.
    #[must_use]
    pub const fn path(&self) -> &StorePath {
        &self.path
    }

    /// The SHA-256 that the store knows for this NAR.
    #[must_use]
    pub const fn nar_hash(&self) -> NarHash {
        self.nar_hash
    }

    /// The length of the NAR in bytes.
    #[must_use]
    pub const fn nar_size(&self) -> u64 {
        self.nar_size
    }

    /// How many files, directories and links there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Always false: the root is a node.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// How much memory it takes, in bytes.
    pub(super) const fn memory(&self) -> usize {
        size_of::<Self>() + self.nodes.len() * size_of::<Node>() + self.arena.len()
    }

    /// A place to remember the length of the listing.
    pub(super) const fn listing_len(&self) -> &OnceLock<u64> {
        &self.listing_len
    }

    pub(super) fn node(&self, index: usize) -> Node {
        self.nodes[index]
    }

    /// A node's name in its directory; the root's is empty.
    pub(super) fn name(&self, node: &Node) -> &[u8] {
        &self.arena[node.name as usize..][..usize::from(node.name_len)]
    }

    /// A symbolic link's target.
    pub(super) fn target(&self, node: &Node) -> &[u8] {
        // Lossless: the builder took the length from a slice of the arena.
        #[allow(clippy::cast_possible_truncation)]
        let len = node.size as usize;
        &self.arena[node.name as usize + usize::from(node.name_len)..][..len]
    }

    /// The path of a node below the root, for messages.
    pub(super) fn relative(&self, index: u32) -> PathBuf {
        relative(&self.nodes, &self.arena, index)
    }

    /// Marks that the files are not any more as they were.
    pub(super) fn set_stale(&self) {
        self.stale.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stale(&self) -> bool {
        self.stale.load(Ordering::Relaxed)
    }

    /// The step in which byte `offset` lies, and how far into the step.
    pub(super) fn find(&self, offset: u64) -> (usize, u64) {
        if offset >= self.end {
            return (self.nodes.len(), offset - self.end);
        }
        // The first step begins at 0, so there is one.
        let step = self.nodes.partition_point(|node| node.offset <= offset) - 1;
        (step, offset - self.nodes[step].offset)
    }
}

/// The path of a node below the root.
fn relative(nodes: &[Node], arena: &[u8], index: u32) -> PathBuf {
    let mut names: Vec<&OsStr> = Vec::new();
    let mut at = &nodes[index as usize];
    while at.parent != NONE {
        names.push(OsStr::from_bytes(&arena[at.name as usize..][..usize::from(at.name_len)]));
        at = &nodes[at.parent as usize];
    }
    names.iter().rev().collect()
}

/// Collects the nodes of a walk.
#[derive(Debug, Default)]
pub(super) struct Builder {
    nodes: Vec<Node>,
    arena: Vec<u8>,
}

/// How many nodes a layout may have: two million, some 100 MiB.
pub(super) const NODES_MAX: usize = 1 << 21;

impl Builder {
    /// Adds a node and returns its number; `None` when there are more nodes or names than a layout may have.
    ///
    /// Nodes come in the order of the NAR. `parent` is `None` for the root, which comes first and has an empty name. Only a
    /// link has a `target`, and its size is the target's.
    pub(super) fn add(
        &mut self,
        parent: Option<u32>,
        name: &[u8],
        kind: Kind,
        size: u64,
        target: &[u8],
    ) -> Option<u32> {
        let index = u32::try_from(self.nodes.len()).ok().filter(|index| (*index as usize) < NODES_MAX)?;
        let position = u32::try_from(self.arena.len()).ok()?;
        let name_len = u8::try_from(name.len()).ok()?;
        self.arena.extend_from_slice(name);
        self.arena.extend_from_slice(target);
        let size = if kind == Kind::Symlink { target.len() as u64 } else { size };
        self.nodes.push(Node { offset: 0, size, parent: parent.unwrap_or(NONE), name: position, name_len, kind });
        Some(index)
    }

    /// The path of a node below the root, for messages.
    pub(super) fn relative(&self, index: u32) -> PathBuf {
        relative(&self.nodes, &self.arena, index)
    }

    /// Measures the NAR. `None` when the sizes are more than a number can hold, or there is no node.
    pub(super) fn finish(self, path: StorePath, nar_hash: NarHash) -> Option<Layout> {
        let mut layout = Layout {
            path,
            nar_hash,
            nar_size: 0,
            end: 0,
            nodes: self.nodes.into_boxed_slice(),
            arena: self.arena.into_boxed_slice(),
            listing_len: OnceLock::new(),
            stale: AtomicBool::new(false),
        };
        let mut framer = Framer::default();
        let mut framing = Vec::new();
        let mut position = 0u64;
        for index in 0..layout.nodes.len() {
            layout.nodes[index].offset = position;
            framing.clear();
            if framer.step(&layout, &mut framing) {
                framer.close(&mut framing);
                position = position.checked_add(layout.nodes[index].size)?;
            }
            position = position.checked_add(framing.len() as u64)?;
        }
        layout.end = position;
        framing.clear();
        framer.finish(&mut framing);
        layout.nar_size = position.checked_add(framing.len() as u64)?;
        (!layout.nodes.is_empty()).then_some(layout)
    }
}

/// Makes the framing of a NAR from a layout, one step a node.
#[derive(Debug, Default)]
pub(super) struct Framer {
    writer: Writer,
    next: usize,
    /// The directories that are open.
    open: Vec<u32>,
}

impl Framer {
    /// A framer that has made all steps before `step`.
    pub(super) fn at(layout: &Layout, step: usize) -> Self {
        let mut framer = Self { next: step, ..Self::default() };
        if let Some(before) = step.checked_sub(1) {
            let mut at = before;
            if layout.nodes[at].kind != Kind::Directory {
                at = layout.nodes[at].parent as usize;
            }
            // `NONE` is beyond every node.
            while let Some(node) = layout.nodes.get(at) {
                // Lossless: it came from there.
                #[allow(clippy::cast_possible_truncation)]
                framer.open.push(at as u32);
                at = node.parent as usize;
            }
            framer.open.reverse();
            // The writer must know the depth; what it writes meanwhile is long past.
            let mut past = Vec::new();
            for _ in &framer.open {
                framer.writer.directory(&mut past, b"");
            }
        }
        framer
    }

    /// The number of the next node, that of all nodes at the end.
    pub(super) const fn next(&self) -> usize {
        self.next
    }

    /// The directories that are open, outermost first.
    pub(super) fn open(&self) -> &[u32] {
        &self.open
    }

    /// Writes the framing up to the next node's contents, and says whether it has any: then they follow, and after them
    /// [`Self::close`].
    pub(super) fn step(&mut self, layout: &Layout, out: &mut Vec<u8>) -> bool {
        let node = layout.nodes[self.next];
        while self.open.last().is_some_and(|innermost| *innermost != node.parent) {
            self.open.pop();
            self.writer.close(out);
        }
        let name = layout.name(&node);
        match node.kind {
            Kind::Regular | Kind::Executable => {
                self.writer.regular(out, name, node.kind == Kind::Executable, node.size);
            }
            Kind::Symlink => self.writer.symlink(out, name, layout.target(&node)),
            Kind::Directory => {
                self.writer.directory(out, name);
                // Lossless: the builder numbers nodes in 32 bits.
                #[allow(clippy::cast_possible_truncation)]
                self.open.push(self.next as u32);
            }
        }
        self.next += 1;
        matches!(node.kind, Kind::Regular | Kind::Executable)
    }

    /// Writes what follows a file's contents.
    pub(super) fn close(&mut self, out: &mut Vec<u8>) {
        self.writer.close(out);
    }

    /// Writes what follows the last node.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        while self.open.pop().is_some() {
            self.writer.close(out);
        }
    }
}
