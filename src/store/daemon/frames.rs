//! What a daemon says before the result of an operation: log lines, activities and their progress, errors.
//!
//! Source: `logging.hh` and `daemon.cc` (`TunnelLogger`) of Nix 2.3 to 2.36. Everything is bounded but the number of
//! messages of an operation that takes its time, which those who wait for it can end.

use super::connection::Connection;
use super::wire::WireError;
use tokio::io::{AsyncRead, AsyncWrite};

pub(super) const FRAME_NEXT: u64 = 0x6f6c_6d67;
pub(super) const FRAME_LAST: u64 = 0x616c_7473;
pub(super) const FRAME_ERROR: u64 = 0x6378_7470;
pub(super) const FRAME_START_ACTIVITY: u64 = 0x5354_5254;
pub(super) const FRAME_STOP_ACTIVITY: u64 = 0x5354_4f50;
pub(super) const FRAME_RESULT: u64 = 0x5253_4c54;

/// How many such frames there may be before the answer to a question.
pub(super) const FRAMES_MAX: usize = 10_000;
/// How many fields such a frame may have.
pub(super) const FIELDS_MAX: u64 = 64;
/// How many positions and hints an error may carry.
pub(super) const TRACES_MAX: u64 = 1024;
/// How much of a log line is kept, in bytes; of longer ones nothing is. A line that names a store path is far below.
const LINE_MAX: usize = 4096;

/// The kind of activity that copies a path from a binary cache (`actCopyPath`).
pub(crate) const COPY_PATH: u64 = 100;
/// The kind of result that says how far an activity is (`resProgress`): done, expected, and two more numbers.
const PROGRESS: u64 = 105;

/// What may be of interest in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Message {
    /// A line of the log.
    Line(String),
    /// Something begins.
    Start {
        /// Its number, of the daemon's choice.
        id: u64,
        /// What kind of thing.
        kind: u64,
        /// Its first field if that is a text: the path that is copied.
        subject: String,
    },
    /// How far it is, in bytes where a path is copied.
    Progress {
        /// Its number.
        id: u64,
        /// How much is done.
        done: u64,
    },
}

/// Who wants to hear it.
pub(crate) type Tell<'a> = &'a mut (dyn FnMut(Message) + Send);

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Reads what comes before the answer to a question: log messages, which are passed over, and errors.
    pub(super) async fn read_frames(&mut self) -> Result<(), WireError> {
        for _ in 0..FRAMES_MAX {
            if self.read_frame(&mut |_| ()).await? {
                return Ok(());
            }
        }
        Err(WireError::Protocol("more log messages than any honest operation has"))
    }

    /// Reads what comes before the result of an operation that takes its time, and passes it on.
    pub(super) async fn read_frames_to(&mut self, tell: Tell<'_>) -> Result<(), WireError> {
        while !self.read_frame(tell).await? {}
        Ok(())
    }

    /// Reads one frame. True after the last.
    async fn read_frame(&mut self, tell: Tell<'_>) -> Result<bool, WireError> {
        match self.wire.read_number().await? {
            FRAME_LAST => return Ok(true),
            FRAME_ERROR => return Err(WireError::Refused(self.read_error().await?)),
            FRAME_NEXT => tell(Message::Line(self.wire.read_short_string(LINE_MAX).await?)),
            FRAME_START_ACTIVITY => {
                // Number, level and type; text; fields; parent.
                let id = self.wire.read_number().await?;
                self.skip_numbers(1).await?;
                let kind = self.wire.read_number().await?;
                self.wire.skip_string().await?;
                let (_, subject) = self.read_fields().await?;
                self.skip_numbers(1).await?;
                tell(Message::Start { id, kind, subject });
            }
            FRAME_STOP_ACTIVITY => self.skip_numbers(1).await?,
            FRAME_RESULT => {
                let id = self.wire.read_number().await?;
                let kind = self.wire.read_number().await?;
                let (done, _) = self.read_fields().await?;
                if let (PROGRESS, Some(done)) = (kind, done) {
                    tell(Message::Progress { id, done });
                }
            }
            _ => return Err(WireError::Protocol("a message of a kind that we do not know")),
        }
        Ok(false)
    }

    async fn read_error(&mut self) -> Result<String, WireError> {
        if self.version < 0x011a {
            let message = self.wire.read_string().await?;
            self.skip_numbers(1).await?;
            return Ok(message);
        }
        self.wire.skip_string().await?;
        self.skip_numbers(1).await?;
        self.wire.skip_string().await?;
        let message = self.wire.read_string().await?;
        self.skip_numbers(1).await?;
        let traces = self.wire.read_number().await?;
        if traces > TRACES_MAX {
            return Err(WireError::Protocol("an error has more traces than any honest one"));
        }
        for _ in 0..traces {
            self.skip_numbers(1).await?;
            self.wire.skip_string().await?;
        }
        Ok(message)
    }

    pub(super) async fn skip_numbers(&mut self, count: usize) -> Result<(), WireError> {
        for _ in 0..count {
            self.wire.read_number().await?;
        }
        Ok(())
    }

    /// Reads the fields of a message, and keeps the first, a number or a text.
    async fn read_fields(&mut self) -> Result<(Option<u64>, String), WireError> {
        let count = self.wire.read_number().await?;
        if count > FIELDS_MAX {
            return Err(WireError::Protocol("a log message has more fields than any honest one"));
        }
        let (mut number, mut text) = (None, String::new());
        for index in 0..count {
            match self.wire.read_number().await? {
                0 if index == 0 => number = Some(self.wire.read_number().await?),
                0 => self.skip_numbers(1).await?,
                1 if index == 0 => text = self.wire.read_short_string(LINE_MAX).await?,
                1 => self.wire.skip_string().await?,
                _ => return Err(WireError::Protocol("a log message has a field of a kind that we do not know")),
            }
        }
        Ok((number, text))
    }
}
