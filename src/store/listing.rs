//! Listings (`HASH.ls`) made from a layout while they are sent, so that no tree of any size is ever held as text.
//!
//! The nodes are written by [`crate::nix::listing`]; only the nesting around them is made here.

use super::StoreError;
use super::layout::{Framer, Kind, Layout};
use super::stream::{Block, Source};
use crate::nix::listing::Node;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The text of a listing.
pub(super) struct ListingSource {
    layout: Arc<Layout>,
    framer: Framer,
    framing: Vec<u8>,
    /// Where in the NAR the next step begins.
    offset: u64,
    /// Text that was made and not handed out, and how far that is.
    text: Vec<u8>,
    given: usize,
    /// Whether a comma comes before the next entry.
    is_first: bool,
    is_done: bool,
}

impl ListingSource {
    pub(super) fn new(layout: Arc<Layout>) -> Self {
        Self {
            layout,
            framer: Framer::default(),
            framing: Vec::new(),
            offset: 0,
            text: br#"{"version":1,"root":"#.to_vec(),
            given: 0,
            is_first: true,
            is_done: false,
        }
    }

    /// How long the whole text is, in bytes. Blocks for some 0.1 µs a file.
    pub(super) fn measure(layout: &Arc<Layout>) -> Result<u64, StoreError> {
        let mut source = Self::new(Arc::clone(layout));
        let mut length = 0;
        while !source.is_done {
            length += source.text.len() as u64;
            source.text.clear();
            source.step()?;
        }
        Ok(length + source.text.len() as u64)
    }

    /// Adds the text of the next node.
    fn step(&mut self) -> Result<(), StoreError> {
        let index = self.framer.next();
        if index == self.layout.len() {
            self.text.extend(self.framer.open().iter().flat_map(|_| *b"}}"));
            self.text.push(b'}');
            self.is_done = true;
            return Ok(());
        }
        let node = self.layout.node(index);
        let before = self.framer.open().len();
        self.framing.clear();
        let has_contents = self.framer.step(&self.layout, &mut self.framing);
        let after = self.framer.open().len() - usize::from(node.kind() == Kind::Directory);
        let contents = self.offset + self.framing.len() as u64;
        if has_contents {
            self.framer.close(&mut self.framing);
            self.offset += node.size();
        }
        self.offset += self.framing.len() as u64;

        self.text.extend((after..before).flat_map(|_| *b"}}"));
        if index > 0 {
            if !self.is_first || after < before {
                self.text.push(b',');
            }
            let name = self.text_of(self.layout.name(&node))?.to_owned();
            self.json(&name)?;
            self.text.push(b':');
        }
        self.is_first = node.kind() == Kind::Directory;
        let listed = match node.kind() {
            Kind::Directory => {
                self.text.extend_from_slice(br#"{"type":"directory","entries":{"#);
                return Ok(());
            }
            Kind::Symlink => Node::Symlink { target: self.text_of(self.layout.target(&node))?.into() },
            kind => {
                Node::Regular { size: node.size(), executable: kind == Kind::Executable, nar_offset: Some(contents) }
            }
        };
        self.json(&listed)
    }

    fn text_of<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, StoreError> {
        str::from_utf8(bytes).map_err(|_| StoreError::NoListing(self.layout.path().clone()))
    }

    fn json(&mut self, value: &impl serde::Serialize) -> Result<(), StoreError> {
        // Cannot fail: a Vec takes everything, and there are no maps here.
        serde_json::to_writer(&mut self.text, value).map_err(|_| StoreError::NoListing(self.layout.path().clone()))
    }
}

impl Source for ListingSource {
    fn fill(&mut self, block: &mut Block, cancelled: &AtomicBool) -> Result<(), StoreError> {
        while block.room() > 0 && !cancelled.load(Ordering::Relaxed) {
            if self.given == self.text.len() {
                if self.is_done {
                    break;
                }
                self.text.clear();
                self.given = 0;
                self.step()?;
            }
            self.given += block.put(&self.text[self.given..]);
        }
        Ok(())
    }
}
