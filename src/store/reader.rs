//! Reads a NAR from any offset: framing made from the layout, contents read from the files.
//!
//! Files are opened relative to their directories, and nothing follows a symbolic link. A small file costs three system
//! calls (open, read, close): it is read with one byte more than the layout gives it, so that a short answer proves its size.
//! Whatever is not as the layout says ends the stream with an error.

use super::StoreError;
use super::layout::{Framer, Layout};
use super::roots::RootGuard;
use super::stream::{Block, Source};
use ::nix::errno::Errno;
use ::nix::fcntl::{OFlag, open, openat};
use ::nix::sys::stat::Mode;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How a file in the store is opened: never through a link, never waiting for the other end of a pipe.
const FILE: OFlag =
    OFlag::O_RDONLY.union(OFlag::O_NOFOLLOW).union(OFlag::O_NONBLOCK).union(OFlag::O_NOCTTY).union(OFlag::O_CLOEXEC);
/// How a directory is opened: only as a place to open others from.
const DIRECTORY: OFlag = OFlag::O_PATH.union(OFlag::O_DIRECTORY).union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// The bytes of a NAR, or of a part of it.
pub(super) struct NarSource {
    layout: Arc<Layout>,
    /// The directory that holds the store paths.
    store: PathBuf,
    framer: Framer,
    /// Framing that was made and not handed out, and how far that is.
    framing: Vec<u8>,
    framed: usize,
    /// The file whose contents come after it, with how much of it is handed out.
    file: Option<Contents>,
    /// How many bytes are still wanted.
    remaining: u64,
    /// The base name of the store path, the root's name in the store directory.
    base_name: String,
    /// The store directory, once it was needed.
    top: Option<OwnedFd>,
    /// Directories by number, each in the one before it: those that are open in the framer, as far as they were needed.
    directories: Vec<(u32, OwnedFd)>,
    /// Held for as long as there is something to read.
    _root: Option<RootGuard>,
}

/// A file's contents under way.
struct Contents {
    /// Its number in the layout.
    node: u32,
    size: u64,
    position: u64,
    /// Open once a part of a file too large for one read has been handed out.
    file: Option<File>,
}

impl NarSource {
    /// The bytes `range` of the NAR of `layout`, whose path is in the directory `store`. The range must be inside the NAR.
    pub(super) fn new(layout: Arc<Layout>, store: &Path, range: &Range<u64>, root: Option<RootGuard>) -> Self {
        let (step, mut skipped) = layout.find(range.start);
        let mut source = Self {
            framer: Framer::at(&layout, step),
            base_name: layout.path().to_string(),
            layout,
            store: store.to_owned(),
            framing: Vec::new(),
            framed: 0,
            file: None,
            remaining: range.end.saturating_sub(range.start),
            top: None,
            directories: Vec::new(),
            _root: root,
        };
        if source.remaining > 0 {
            source.step();
            source.skip(&mut skipped);
            if skipped > 0
                && let Some(file) = &mut source.file
            {
                file.position = skipped.min(file.size);
                skipped -= file.position;
                source.end_file_when_done();
                source.skip(&mut skipped);
            }
        }
        source
    }

    /// Passes over framing.
    fn skip(&mut self, skipped: &mut u64) {
        let left = self.framing.len() - self.framed;
        let count = usize::try_from(*skipped).unwrap_or(left).min(left);
        self.framed += count;
        *skipped -= count as u64;
    }

    /// Makes the framing up to the next file's contents.
    fn step(&mut self) {
        self.framing.clear();
        self.framed = 0;
        let node = self.framer.next();
        if node == self.layout.len() {
            self.framer.finish(&mut self.framing);
        } else if self.framer.step(&self.layout, &mut self.framing) {
            let size = self.layout.node(node).size();
            // Lossless: the builder numbers nodes in 32 bits.
            #[allow(clippy::cast_possible_truncation)]
            let node = node as u32;
            self.file = Some(Contents { node, size, position: 0, file: None });
        }
    }

    /// Makes the framing after a file whose contents have all been handed out.
    fn end_file_when_done(&mut self) {
        if self.file.as_ref().is_some_and(|file| file.position == file.size) {
            self.file = None;
            self.framing.clear();
            self.framed = 0;
            self.framer.close(&mut self.framing);
        }
    }

    /// Reads contents into `block`.
    fn read(&mut self, mut contents: Contents, block: &mut Block) -> Result<Contents, StoreError> {
        let left = contents.size - contents.position;
        let wanted = usize::try_from(left.min(self.remaining)).unwrap_or(usize::MAX);
        if contents.position == 0 && wanted as u64 == contents.size && wanted < block.room() {
            // Also when there is more in it than there should be, which the one byte more shows.
            let file = self.open(contents.node)?;
            let mut count = 0;
            while count <= wanted {
                match self.read_at(&file, contents.node, &mut block.unfilled()[count..=wanted], count as u64)? {
                    0 => break,
                    more => count += more,
                }
                if count == wanted {
                    break;
                }
            }
            if count != wanted {
                return Err(self.changed(contents.node));
            }
            block.advance(count);
            contents.position = contents.size;
            return Ok(contents);
        }
        let file = match contents.file.take() {
            Some(file) => file,
            None => self.open_checked(contents.node, contents.size)?,
        };
        let wanted = wanted.min(block.room());
        let count = self.read_at(&file, contents.node, &mut block.unfilled()[..wanted], contents.position)?;
        if count == 0 {
            return Err(self.changed(contents.node));
        }
        block.advance(count);
        contents.position += count as u64;
        contents.file = Some(file);
        Ok(contents)
    }

    fn read_at(&self, file: &File, node: u32, buffer: &mut [u8], position: u64) -> Result<usize, StoreError> {
        loop {
            match file.read_at(buffer, position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(|error| self.error(node, error)),
            }
        }
    }

    /// Opens a file and makes sure that it is a regular one of this size.
    fn open_checked(&mut self, node: u32, size: u64) -> Result<File, StoreError> {
        let file = self.open(node)?;
        let metadata = file.metadata().map_err(|error| self.error(node, error))?;
        if !metadata.is_file() || metadata.len() != size {
            return Err(self.changed(node));
        }
        Ok(file)
    }

    /// Opens a file, by way of the directories around it.
    fn open(&mut self, node: u32) -> Result<File, StoreError> {
        if self.top.is_none() {
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let top = open(&self.store, flags, Mode::empty());
            self.top = Some(top.map_err(|error| StoreError::Io { file: self.store.clone(), source: error.into() })?);
        }
        let open = self.framer.open();
        let kept = self.directories.iter().zip(open).take_while(|((have, _), want)| have == *want).count();
        self.directories.truncate(kept);
        for index in kept..self.framer.open().len() {
            let directory = self.framer.open()[index];
            let fd = self.open_in_innermost(directory, DIRECTORY)?;
            self.directories.push((directory, fd));
        }
        self.open_in_innermost(node, FILE).map(File::from)
    }

    fn open_in_innermost(&self, node: u32, flags: OFlag) -> Result<OwnedFd, StoreError> {
        let name =
            if node == 0 { self.base_name.as_bytes() } else { self.layout.name(&self.layout.node(node as usize)) };
        let Some(directory) = self.directories.last().map(|(_, fd)| fd).or(self.top.as_ref()) else {
            return Err(self.changed(node));
        };
        openat(directory, name, flags, Mode::empty()).map_err(|error| self.error(node, error.into()))
    }

    /// Something is not as it was at the walk.
    fn changed(&self, node: u32) -> StoreError {
        self.layout.set_stale();
        let file = self.layout.relative(node).display().to_string();
        StoreError::Changed { path: self.layout.path().clone(), file }
    }

    fn error(&self, node: u32, source: io::Error) -> StoreError {
        const GONE: [Errno; 5] = [Errno::ENOENT, Errno::ENOTDIR, Errno::ELOOP, Errno::EISDIR, Errno::ENXIO];
        if GONE.iter().any(|errno| source.raw_os_error() == Some(*errno as i32)) {
            return self.changed(node);
        }
        let file = self.store.join(&self.base_name).join(self.layout.relative(node));
        StoreError::Io { file, source }
    }
}

impl Source for NarSource {
    fn fill(&mut self, block: &mut Block, cancelled: &AtomicBool) -> Result<(), StoreError> {
        while self.remaining > 0 && block.room() > 0 && !cancelled.load(Ordering::Relaxed) {
            let before = block.room();
            if self.framed < self.framing.len() {
                let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX);
                let framing = &self.framing[self.framed..];
                self.framed += block.put(&framing[..framing.len().min(wanted)]);
            } else if let Some(contents) = self.file.take() {
                self.file = Some(if contents.size == 0 { contents } else { self.read(contents, block)? });
                self.end_file_when_done();
            } else {
                self.step();
            }
            self.remaining -= (before - block.room()) as u64;
        }
        Ok(())
    }
}
