//! The primitives of the worker protocol: 64-bit little-endian numbers, and strings padded to 8 bytes.
//!
//! Source: Nix's [serialisation](https://nix.dev/manual/nix/stable/protocols/) as its own `serialise.cc` does it. The daemon
//! is trusted by everybody on the machine, but it is still another program: every length is bounded.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream};

/// The longest string that is kept, in bytes: the sum of a few store paths, a signature, an error message.
pub(super) const STRING_MAX: u64 = 64 * 1024;
/// The longest string that is read past (log lines), in bytes.
const SKIPPED_MAX: u64 = 16 * 1024 * 1024;

/// What can go wrong on the wire.
#[derive(Debug)]
pub(super) enum WireError {
    /// The connection failed.
    Io(io::Error),
    /// The bytes are not the protocol.
    Protocol(&'static str),
    /// The daemon closed the connection instead of a greeting.
    HungUp,
    /// The daemon reports an error in its own words. The connection is still good.
    Refused(String),
}

impl From<io::Error> for WireError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// A connection with buffers both ways.
#[derive(Debug)]
pub(super) struct Wire<S: AsyncRead + AsyncWrite>(BufStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        const BUFFER: usize = 8 * 1024;
        Self(BufStream::with_capacity(BUFFER, BUFFER, stream))
    }

    /// The connection itself, for waiting until it ends.
    pub(super) fn get_ref(&self) -> &S {
        self.0.get_ref()
    }

    pub(super) async fn write_number(&mut self, number: u64) -> Result<(), WireError> {
        Ok(self.0.write_u64_le(number).await?)
    }

    pub(super) async fn write_string(&mut self, text: &str) -> Result<(), WireError> {
        self.write_number(text.len() as u64).await?;
        self.0.write_all(text.as_bytes()).await?;
        Ok(self.0.write_all(&[0; 8][..padding(text.len() as u64)]).await?)
    }

    /// Writes a list of strings.
    pub(super) async fn write_strings(&mut self, texts: &[String]) -> Result<(), WireError> {
        self.write_number(texts.len() as u64).await?;
        for text in texts {
            self.write_string(text).await?;
        }
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Result<(), WireError> {
        Ok(self.0.flush().await?)
    }

    pub(super) async fn read_number(&mut self) -> Result<u64, WireError> {
        Ok(self.0.read_u64_le().await?)
    }

    pub(super) async fn read_bool(&mut self) -> Result<bool, WireError> {
        Ok(self.read_number().await? != 0)
    }

    pub(super) async fn read_string(&mut self) -> Result<String, WireError> {
        let length = self.read_number().await?;
        if length > STRING_MAX {
            return Err(WireError::Protocol("a string is longer than any honest one"));
        }
        // Cannot fail: STRING_MAX fits everywhere.
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.0.read_exact(&mut bytes).await?;
        self.read_padding(length).await?;
        String::from_utf8(bytes).map_err(|_| WireError::Protocol("a string is not UTF-8"))
    }

    /// Reads a list of at most `most` strings.
    pub(super) async fn read_strings(&mut self, most: usize) -> Result<Vec<String>, WireError> {
        let count = self.read_number().await?;
        if count > most as u64 {
            return Err(WireError::Protocol("a list has more elements than any honest one"));
        }
        // No capacity in advance: the count is only a claim.
        let mut strings = Vec::new();
        for _ in 0..count {
            strings.push(self.read_string().await?);
        }
        Ok(strings)
    }

    /// Reads a string of at most `most` bytes that is UTF-8; past any other, which gives an empty one.
    pub(super) async fn read_short_string(&mut self, most: usize) -> Result<String, WireError> {
        let length = self.read_number().await?;
        if length > most as u64 {
            self.skip_bytes(length).await?;
            return Ok(String::new());
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        self.0.read_exact(&mut bytes).await?;
        self.read_padding(length).await?;
        Ok(String::from_utf8(bytes).unwrap_or_default())
    }

    /// Reads past a string, without keeping it.
    pub(super) async fn skip_string(&mut self) -> Result<(), WireError> {
        let length = self.read_number().await?;
        self.skip_bytes(length).await
    }

    async fn skip_bytes(&mut self, length: u64) -> Result<(), WireError> {
        if length > SKIPPED_MAX {
            return Err(WireError::Protocol("a log message is longer than any honest one"));
        }
        let skipped = tokio::io::copy(&mut (&mut self.0).take(length), &mut tokio::io::sink()).await?;
        if skipped != length {
            return Err(WireError::Io(io::ErrorKind::UnexpectedEof.into()));
        }
        self.read_padding(length).await
    }

    async fn read_padding(&mut self, length: u64) -> Result<(), WireError> {
        let mut zeros = [0; 8];
        let zeros = &mut zeros[..padding(length)];
        self.0.read_exact(zeros).await?;
        if zeros.iter().any(|byte| *byte != 0) {
            return Err(WireError::Protocol("the padding of a string is not zero"));
        }
        Ok(())
    }
}

/// How many bytes follow `length` bytes up to a multiple of 8.
const fn padding(length: u64) -> usize {
    // At most 7.
    #[allow(clippy::cast_possible_truncation)]
    let padding = (8 - length % 8) as usize % 8;
    padding
}
