//! What the demonstration's store paths are made of: trees of files that no compression makes smaller, written to disk and
//! hashed as a NAR in one go.

use peernix::nix::NarHash;
use peernix::nix::nar::Writer;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How much of a file is made at once, in bytes.
const CHUNK: usize = 256 * 1024;

/// A file system object.
pub(super) enum Node {
    /// A file of this many bytes, which follow from the seed.
    File { size: u64, seed: u64, executable: bool },
    /// A file with a text.
    Text(String),
    /// A symbolic link.
    Link(&'static str),
    /// A directory. The map's order is that of a NAR.
    Directory(BTreeMap<String, Node>),
}

/// A directory with these entries.
pub(super) fn directory(entries: impl IntoIterator<Item = (String, Node)>) -> Node {
    Node::Directory(entries.into_iter().collect())
}

/// Writes a tree as Nix would have it in its store (read-only, one second after 1970) and returns hash and size of its NAR.
pub(super) fn write(node: &Node, path: &Path) -> io::Result<(NarHash, u64)> {
    let mut sink = Sink { hasher: Sha256::new(), size: 0, framing: Vec::new(), writer: Writer::new() };
    sink.node(node, b"", path)?;
    sink.flush();
    Ok((NarHash::new(sink.hasher.finalize().into()), sink.size))
}

/// Where the NAR goes.
struct Sink {
    hasher: Sha256,
    size: u64,
    framing: Vec<u8>,
    writer: Writer,
}

impl Sink {
    fn node(&mut self, node: &Node, name: &[u8], path: &Path) -> io::Result<()> {
        match node {
            Node::File { size, seed, executable } => {
                self.writer.regular(&mut self.framing, name, *executable, *size);
                let mut file = File::create_new(path)?;
                self.fill(&mut file, *size, *seed)?;
                seal(&file, if *executable { 0o555 } else { 0o444 })?;
                self.writer.close(&mut self.framing);
            }
            Node::Text(text) => {
                self.writer.regular(&mut self.framing, name, false, text.len() as u64);
                self.framing.extend_from_slice(text.as_bytes());
                let mut file = File::create_new(path)?;
                file.write_all(text.as_bytes())?;
                seal(&file, 0o444)?;
                self.writer.close(&mut self.framing);
            }
            Node::Link(target) => {
                self.writer.symlink(&mut self.framing, name, target.as_bytes());
                symlink(target, path)?;
            }
            Node::Directory(entries) => {
                self.writer.directory(&mut self.framing, name);
                fs::create_dir(path)?;
                for (name, node) in entries {
                    self.node(node, name.as_bytes(), &path.join(name))?;
                }
                seal(&File::open(path)?, 0o555)?;
                self.writer.close(&mut self.framing);
            }
        }
        Ok(())
    }

    /// Makes the contents of a file, chunk by chunk.
    fn fill(&mut self, file: &mut File, size: u64, seed: u64) -> io::Result<()> {
        self.flush();
        let mut random = Random(seed);
        let mut chunk = vec![0; CHUNK];
        let mut left = size;
        while left > 0 {
            let length = usize::try_from(left).unwrap_or(CHUNK).min(CHUNK);
            let bytes = &mut chunk[..length];
            for word in bytes.chunks_mut(8) {
                word.copy_from_slice(&random.next().to_le_bytes()[..word.len()]);
            }
            self.hasher.update(&*bytes);
            file.write_all(bytes)?;
            left -= length as u64;
        }
        self.size += size;
        Ok(())
    }

    fn flush(&mut self) {
        self.hasher.update(&self.framing);
        self.size += self.framing.len() as u64;
        self.framing.clear();
    }
}

/// Gives a file or directory the mode and time that Nix gives everything in its store.
fn seal(file: &File, mode: u32) -> io::Result<()> {
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))?;
    file.set_permissions(Permissions::from_mode(mode))
}

/// Numbers that look random and are the same for the same seed (splitmix64, by Steele, Lea and Flood, 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `limit`, which is not zero.
    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
