//! The framing of a NAR: every byte of it but the contents of regular files.

use super::{Event, MAGIC, padding};

/// How long `strings` are as strings of a NAR, in bytes.
const fn framed_len(strings: &[&str]) -> usize {
    let (mut index, mut len) = (0, 0);
    while index < strings.len() {
        len += 8 + strings[index].len().next_multiple_of(8);
        index += 1;
    }
    len
}

/// `strings` as strings of a NAR; `N` is their [`framed_len`].
const fn framed<const N: usize>(strings: &[&str]) -> [u8; N] {
    let mut bytes = [0; N];
    let (mut index, mut at) = (0, 0);
    while index < strings.len() {
        let string = strings[index].as_bytes();
        // Lossless: these are the keywords below, shorter than 256 bytes; the other seven bytes of the length are zero.
        #[allow(clippy::cast_possible_truncation)]
        {
            bytes[at] = string.len() as u8;
        }
        let mut byte = 0;
        while byte < string.len() {
            bytes[at + 8 + byte] = string[byte];
            byte += 1;
        }
        at += 8 + string.len().next_multiple_of(8);
        index += 1;
    }
    bytes
}

/// The bytes of some keywords, made by the compiler.
macro_rules! framed {
    ($($string:expr),+) => {{
        const STRINGS: &[&str] = &[$($string),+];
        const BYTES: [u8; framed_len(STRINGS)] = framed(STRINGS);
        &BYTES
    }};
}

const START: &[u8] = framed!(MAGIC);
const ENTRY: &[u8] = framed!("entry", "(", "name");
const NODE: &[u8] = framed!("node");
const DIRECTORY: &[u8] = framed!("(", "type", "directory");
const REGULAR: &[u8] = framed!("(", "type", "regular", "contents");
const EXECUTABLE: &[u8] = framed!("(", "type", "regular", "executable", "", "contents");
const SYMLINK: &[u8] = framed!("(", "type", "symlink", "target");
const END: &[u8] = framed!(")");
/// The end of a node and of the entry around it.
const END_ENTRY: &[u8] = framed!(")", ")");

const ZEROS: [u8; 8] = [0; 8];

/// Writes the framing of a NAR to the end of a buffer of the caller's, node by node in the order of the NAR.
///
/// What lies between [`Writer::regular`] and the [`Writer::close`] after it are the contents, exactly as many bytes as were
/// announced; the caller puts them there or knows where they are. The framing of a tree may so be one buffer, cut where the
/// contents belong.
///
/// The caller answers for what it writes: one root, names for which [`is_name`](super::is_name) holds in ascending order,
/// targets for which [`is_target`](super::is_target) holds, a `close` for every `directory` and `regular`. A file system gives
/// all of that but the order.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    /// How many directories are open.
    depth: usize,
    /// The size of the regular file that is open.
    regular: Option<u64>,
}

impl Writer {
    /// A writer at the start of a NAR.
    #[must_use]
    pub const fn new() -> Self {
        Self { depth: 0, regular: None }
    }

    /// Begins a directory. `name` counts in a directory only: the root has none.
    pub fn directory(&mut self, out: &mut Vec<u8>, name: &[u8]) {
        self.node(out, name, DIRECTORY);
        self.depth += 1;
    }

    /// Begins a regular file with `size` bytes of contents, which follow.
    pub fn regular(&mut self, out: &mut Vec<u8>, name: &[u8], executable: bool, size: u64) {
        self.node(out, name, if executable { EXECUTABLE } else { REGULAR });
        out.extend_from_slice(&size.to_le_bytes());
        self.regular = Some(size);
    }

    /// Writes a symbolic link, whole.
    pub fn symlink(&mut self, out: &mut Vec<u8>, name: &[u8], target: &[u8]) {
        self.node(out, name, SYMLINK);
        string(out, target);
        self.end(out);
    }

    /// Ends the regular file or directory that was begun last.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        match self.regular.take() {
            Some(size) => out.extend_from_slice(&ZEROS[..padding(size)]),
            None => self.depth = self.depth.saturating_sub(1),
        }
        self.end(out);
    }

    /// Writes what a [`Reader`](super::Reader) found, contents included.
    pub fn event(&mut self, out: &mut Vec<u8>, event: Event<'_>) {
        match event {
            Event::Directory { name } => self.directory(out, name),
            Event::Regular { name, executable, size, .. } => self.regular(out, name, executable, size),
            Event::Contents(bytes) => out.extend_from_slice(bytes),
            Event::Symlink { name, target } => self.symlink(out, name, target),
            Event::Close => self.close(out),
        }
    }

    /// What precedes a node, and its first strings.
    fn node(&self, out: &mut Vec<u8>, name: &[u8], kind: &[u8]) {
        if self.depth == 0 {
            out.extend_from_slice(START);
        } else {
            out.extend_from_slice(ENTRY);
            string(out, name);
            out.extend_from_slice(NODE);
        }
        out.extend_from_slice(kind);
    }

    /// The end of a node.
    fn end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.depth == 0 { END } else { END_ENTRY });
    }
}

/// Writes one string: length, bytes, zeros.
fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let len = bytes.len() as u64;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(&ZEROS[..padding(len)]);
}
