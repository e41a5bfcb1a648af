//! The validating reader: takes a NAR in pieces of any size and says what is in it, or where it is wrong.

use super::{DEPTH_MAX, Event, MAGIC, NAME_MAX, NarError, NarReason, TARGET_MAX, is_name, is_target, padding};

/// Checks a whole NAR that is in memory.
///
/// # Errors
/// See [`Reader::feed`] and [`Reader::finish`].
pub fn check(nar: &[u8]) -> Result<(), NarError> {
    let mut reader = Reader::new(nar.len() as u64);
    reader.feed(nar, &mut |_| {})?;
    reader.finish().map(drop)
}

/// Which string comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Magic,
    Open,
    Type,
    Kind,
    /// `executable` or `contents`.
    Mode,
    /// The empty string behind `executable`.
    Flag,
    /// `contents`, after the flag.
    ContentsOfExecutable,
    /// The contents themselves.
    Contents {
        executable: bool,
    },
    TargetOf,
    Target,
    EndOfSymlink,
    EndOfRegular,
    /// `entry`, or the end of the directory.
    Entry,
    EntryOpen,
    NameOf,
    Name,
    Node,
    EntryEnd,
    /// Nothing: the NAR is complete.
    Nothing,
}

impl Next {
    /// The longest string that may stand there (contents have the caller's limit), and what to say about another one.
    const fn limit(self) -> (usize, NarReason) {
        use NarReason::Expected;
        match self {
            Self::Magic => (MAGIC.len(), Expected("'nix-archive-1'")),
            Self::Open | Self::EntryOpen => (1, Expected("'('")),
            Self::Type => (4, Expected("'type'")),
            Self::Kind => (9, Expected("'regular', 'directory' or 'symlink'")),
            Self::Mode => (10, Expected("'executable' or 'contents'")),
            Self::Flag => (0, Expected("an empty string")),
            Self::ContentsOfExecutable => (8, Expected("'contents'")),
            Self::TargetOf => (6, Expected("'target'")),
            Self::Target => (TARGET_MAX, NarReason::Target),
            Self::EndOfSymlink | Self::EndOfRegular | Self::EntryEnd => (1, Expected("')'")),
            Self::Entry => (5, Expected("'entry' or ')'")),
            Self::NameOf => (4, Expected("'name'")),
            Self::Name => (NAME_MAX, NarReason::Name),
            Self::Node => (4, Expected("'node'")),
            Self::Contents { .. } | Self::Nothing => (0, NarReason::Trailing),
        }
    }
}

/// Which part of a string comes next.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// The length, of which `have` bytes are in `bytes`.
    Length { bytes: [u8; 8], have: usize },
    /// The bytes of a keyword, name or target: as many as these are still to come.
    Bytes(usize),
    /// The bytes of a regular file.
    Contents(u64),
    /// The zeros.
    Padding(usize),
}

const LENGTH: Part = Part::Length { bytes: [0; 8], have: 0 };

/// Reads one NAR, fed in pieces. It holds one name a level and one string, at most 20 KiB, whatever it is fed.
///
/// It accepts what `nix-store --dump` writes and nothing else: what the older versions of Nix tolerate beyond that (entries
/// out of order, fields twice or missing) no version writes.
#[derive(Debug, Clone)]
pub struct Reader {
    /// The most bytes that the NAR may have.
    limit: u64,
    /// How many bytes are behind us.
    offset: u64,
    /// Where the current string starts.
    start: u64,
    next: Next,
    part: Part,
    /// The bytes of the current keyword, name or target.
    string: Vec<u8>,
    /// The names on the way to the current node, one after the other.
    path: Vec<u8>,
    /// For each open directory, where in `path` the name of its latest entry starts.
    open: Vec<usize>,
    failed: Option<NarError>,
}

impl Reader {
    /// A reader of a NAR of at most `limit` bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self {
            limit,
            offset: 0,
            start: 0,
            next: Next::Magic,
            part: LENGTH,
            string: Vec::new(),
            path: Vec::new(),
            open: Vec::new(),
            failed: None,
        }
    }

    /// How many bytes it has taken.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the NAR is complete; any further byte is an error.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        matches!(self.next, Next::Nothing)
    }

    /// Takes the next bytes and tells `visit` what they hold.
    ///
    /// # Errors
    /// The first byte or string that cannot stand in a NAR, or more bytes than the limit. What `visit` was told before is
    /// true of the bytes up to there. After an error every further call gives the same error.
    pub fn feed(&mut self, bytes: &[u8], visit: &mut impl FnMut(Event<'_>)) -> Result<(), NarError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let left = usize::try_from(self.limit - self.offset).unwrap_or(usize::MAX);
        let (mut allowed, beyond) = bytes.split_at(bytes.len().min(left));
        while !allowed.is_empty() {
            allowed = self.advance(allowed, visit).map_err(|error| self.fail(error))?;
        }
        if beyond.is_empty() {
            return Ok(());
        }
        let reason = if self.is_complete() { NarReason::Trailing } else { NarReason::TooLarge(self.limit) };
        Err(self.fail(NarError { offset: self.offset, reason }))
    }

    /// Takes the next `len` bytes as contents without seeing them: the caller has them elsewhere.
    ///
    /// # Errors
    /// As [`Self::feed`], and if not that many bytes of contents come next.
    pub fn skip(&mut self, len: u64, visit: &mut impl FnMut(Event<'_>)) -> Result<(), NarError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.part {
            _ if len == 0 => Ok(()),
            Part::Contents(left) if len <= left => self.contents(left, len, visit).map_err(|error| self.fail(error)),
            _ => Err(self.fail(NarError { offset: self.offset, reason: NarReason::Skip })),
        }
    }

    /// Says that no more bytes come; returns how many there were.
    ///
    /// # Errors
    /// An earlier error, or a NAR that is not complete.
    pub fn finish(self) -> Result<u64, NarError> {
        match self.failed {
            Some(error) => Err(error),
            None if self.is_complete() => Ok(self.offset),
            None => Err(NarError { offset: self.offset, reason: NarReason::Truncated }),
        }
    }

    /// How much memory it holds, in bytes.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.string.capacity() + self.path.capacity() + self.open.capacity() * size_of::<usize>()
    }

    fn fail(&mut self, error: NarError) -> NarError {
        self.failed = Some(error);
        error
    }

    /// An error of the string that began at `start`.
    const fn bad(&self, reason: NarReason) -> NarError {
        NarError { offset: self.start, reason }
    }

    /// Takes some of `bytes`, which are not empty, and returns the others.
    fn advance<'a>(&mut self, bytes: &'a [u8], visit: &mut impl FnMut(Event<'_>)) -> Result<&'a [u8], NarError> {
        if self.is_complete() {
            return Err(NarError { offset: self.offset, reason: NarReason::Trailing });
        }
        match self.part {
            Part::Length { bytes: mut length, have } => {
                let (taken, rest) = bytes.split_at(bytes.len().min(8 - have));
                let now = have + taken.len();
                length[have..now].copy_from_slice(taken);
                self.offset += taken.len() as u64;
                if now < 8 {
                    self.part = Part::Length { bytes: length, have: now };
                } else {
                    self.begin(u64::from_le_bytes(length), visit)?;
                }
                Ok(rest)
            }
            Part::Bytes(left) => {
                let (taken, rest) = bytes.split_at(bytes.len().min(left));
                self.string.extend_from_slice(taken);
                self.offset += taken.len() as u64;
                self.part = Part::Bytes(left - taken.len());
                if taken.len() == left {
                    self.pad(self.string.len() as u64, visit)?;
                }
                Ok(rest)
            }
            Part::Contents(left) => {
                let most = usize::try_from(left).unwrap_or(usize::MAX);
                let (taken, rest) = bytes.split_at(bytes.len().min(most));
                visit(Event::Contents(taken));
                self.contents(left, taken.len() as u64, visit)?;
                Ok(rest)
            }
            Part::Padding(left) => {
                let (taken, rest) = bytes.split_at(bytes.len().min(left));
                if let Some(at) = taken.iter().position(|byte| *byte != 0) {
                    return Err(NarError { offset: self.offset + at as u64, reason: NarReason::Padding });
                }
                self.offset += taken.len() as u64;
                self.part = Part::Padding(left - taken.len());
                if taken.len() == left {
                    self.complete(visit)?;
                }
                Ok(rest)
            }
        }
    }

    /// The length of a string is known.
    fn begin(&mut self, length: u64, visit: &mut impl FnMut(Event<'_>)) -> Result<(), NarError> {
        if let Next::Contents { executable } = self.next {
            if length > self.limit - self.offset {
                return Err(self.bad(NarReason::TooLarge(self.limit)));
            }
            visit(Event::Regular { name: self.name(), executable, size: length, offset: self.offset });
            self.string.clear();
            return self.contents(length, 0, visit);
        }
        let (limit, reason) = self.next.limit();
        let length = usize::try_from(length).ok().filter(|length| *length <= limit).ok_or(self.bad(reason))?;
        self.string.clear();
        self.part = Part::Bytes(length);
        if length == 0 { self.complete(visit) } else { Ok(()) }
    }

    /// `taken` of the `left` bytes of contents are behind us.
    fn contents(&mut self, left: u64, taken: u64, visit: &mut impl FnMut(Event<'_>)) -> Result<(), NarError> {
        self.offset += taken;
        self.part = Part::Contents(left - taken);
        // The offset tells the padding as well as the size does: contents begin at a multiple of eight.
        if taken == left { self.pad(self.offset, visit) } else { Ok(()) }
    }

    /// The bytes of a string of `length` are behind us.
    fn pad(&mut self, length: u64, visit: &mut impl FnMut(Event<'_>)) -> Result<(), NarError> {
        match padding(length) {
            0 => self.complete(visit),
            zeros => {
                self.part = Part::Padding(zeros);
                Ok(())
            }
        }
    }

    /// A string is complete: what it means, and which one comes next.
    fn complete(&mut self, visit: &mut impl FnMut(Event<'_>)) -> Result<(), NarError> {
        self.next = match (self.next, self.string.as_slice()) {
            (Next::Magic, string) if string == MAGIC.as_bytes() => Next::Open,
            (Next::Open, b"(") if self.open.len() >= DEPTH_MAX => return Err(self.bad(NarReason::Depth)),
            (Next::Open, b"(") => Next::Type,
            (Next::Type, b"type") => Next::Kind,

            (Next::Kind, b"regular") => Next::Mode,
            (Next::Mode, b"executable") => Next::Flag,
            (Next::Flag, b"") => Next::ContentsOfExecutable,
            (Next::Mode, b"contents") => Next::Contents { executable: false },
            (Next::ContentsOfExecutable, b"contents") => Next::Contents { executable: true },
            (Next::Contents { .. }, _) => Next::EndOfRegular,
            (Next::EndOfRegular, b")") => {
                visit(Event::Close);
                self.after_node()
            }

            (Next::Kind, b"symlink") => Next::TargetOf,
            (Next::TargetOf, b"target") => Next::Target,
            (Next::Target, target) if is_target(target) => {
                visit(Event::Symlink { name: self.name(), target });
                Next::EndOfSymlink
            }
            (Next::EndOfSymlink, b")") => self.after_node(),

            (Next::Kind, b"directory") => {
                visit(Event::Directory { name: self.name() });
                self.open.push(self.path.len());
                Next::Entry
            }
            (Next::Entry, b"entry") => Next::EntryOpen,
            (Next::EntryOpen, b"(") => Next::NameOf,
            (Next::NameOf, b"name") => Next::Name,
            (Next::Name, name) if is_name(name) => {
                // An empty name stands for "none yet", which every name is greater than.
                if name <= self.name() {
                    return Err(self.bad(NarReason::Order));
                }
                self.path.truncate(self.open.last().copied().unwrap_or(0));
                self.path.extend_from_slice(name);
                Next::Node
            }
            (Next::Node, b"node") => Next::Open,
            (Next::EntryEnd, b")") => Next::Entry,
            (Next::Entry, b")") => {
                visit(Event::Close);
                self.path.truncate(self.open.pop().unwrap_or(0));
                self.after_node()
            }

            (next, _) => return Err(self.bad(next.limit().1)),
        };
        self.start = self.offset;
        self.part = LENGTH;
        Ok(())
    }

    /// What comes after a node: the root is all there is.
    fn after_node(&self) -> Next {
        if self.open.is_empty() { Next::Nothing } else { Next::EntryEnd }
    }

    /// The name of the latest entry of the innermost open directory.
    fn name(&self) -> &[u8] {
        &self.path[self.open.last().copied().unwrap_or(self.path.len())..]
    }
}
