//! NAR, the Nix archive: the one serialisation of a file system object, on which hashes and signatures of paths rest.
//!
//! A NAR is a sequence of *strings*: a length of 64 bits, little endian, that many bytes, and zeros up to the next multiple
//! of eight. `nix-archive-1` comes first, then one node:
//!
//! ```text
//! node = "(" "type" ( "regular" [ "executable" "" ] "contents" BYTES
//!                   | "symlink" "target" TARGET
//!                   | "directory" { "entry" "(" "name" NAME "node" node ")" } ) ")"
//! ```
//!
//! Entries stand in ascending order of their names' bytes, so that a tree has one NAR. [`Writer`] makes the framing around
//! the contents, [`Reader`] checks a NAR while it passes. Neither holds contents, and neither recurses: a hostile NAR of
//! many levels overflowed the stack of Nix itself (CVE-2026-44028).
//!
//! Source: the Nix manual, [Nix archive format](https://nix.dev/manual/nix/stable/protocols/nix-archive/), and for the
//! limits what Nix enforces since 2.34.7.

mod error;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use error::{NarError, NarReason};
pub use read::{Reader, check};
pub use write::Writer;

/// The first string of every NAR.
pub const MAGIC: &str = "nix-archive-1";

/// The most nodes from the root to the innermost, both counted. Deeper trees cannot be sent: Nix refuses them since 2.34.7.
pub const DEPTH_MAX: usize = 64;

/// The longest name of a directory entry, in bytes.
pub const NAME_MAX: usize = 255;

/// The longest target of a symbolic link, in bytes.
pub const TARGET_MAX: usize = 4095;

/// How many zeros follow `len` bytes: 0 to 7.
#[must_use]
pub const fn padding(len: u64) -> usize {
    // Lossless: less than 8.
    #[allow(clippy::cast_possible_truncation)]
    let over = (len % 8) as usize;
    (8 - over) % 8
}

/// Whether a directory entry may have this name.
///
/// There is no case hack here: `a~nix~case~hack~1` is a name as any other, as it is for Nix on Linux.
#[must_use]
pub fn is_name(name: &[u8]) -> bool {
    let dots = name == b"." || name == b"..";
    !name.is_empty() && name.len() <= NAME_MAX && !dots && !name.iter().any(|c| matches!(c, b'/' | 0))
}

/// Whether a symbolic link may have this target. Where it points to is its own affair.
#[must_use]
pub fn is_target(target: &[u8]) -> bool {
    !target.is_empty() && target.len() <= TARGET_MAX && !target.contains(&0)
}

/// A part of a NAR, as [`Reader`] finds it and [`Writer::event`] writes it. The root's name is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event<'a> {
    /// A directory begins; its entries follow, then [`Event::Close`].
    Directory {
        /// Its name in the directory around it.
        name: &'a [u8],
    },
    /// A regular file begins; its contents follow in any number of pieces, then [`Event::Close`].
    Regular {
        /// Its name in the directory around it.
        name: &'a [u8],
        /// Whether its owner may execute it.
        executable: bool,
        /// The length of its contents in bytes.
        size: u64,
        /// Where in the NAR its contents begin, in bytes.
        offset: u64,
    },
    /// The next bytes of the regular file; never empty.
    Contents(&'a [u8]),
    /// A symbolic link, whole: no [`Event::Close`] follows.
    Symlink {
        /// Its name in the directory around it.
        name: &'a [u8],
        /// What it points to.
        target: &'a [u8],
    },
    /// The regular file or directory that began last and is still open is complete.
    Close,
}
