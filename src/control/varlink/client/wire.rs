//! One connection of a client: calls go out, answers come in.

use super::super::protocol::Decoder;
use serde::Deserialize;
use serde_json::{Value, json};
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The longest answer, in bytes. One path may refer to thousands; the other end may be another machine.
const REPLY_MAX: usize = 16 << 20;

/// How much is read at once, in bytes.
const READ_SIZE: usize = 16 << 10;

/// What a client can speak over.
pub trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// An answer.
#[derive(Debug, Deserialize)]
pub(super) struct Reply {
    #[serde(default)]
    pub(super) error: Option<String>,
    #[serde(default)]
    pub(super) parameters: Option<Value>,
    #[serde(default)]
    pub(super) continues: bool,
}

/// One connection.
pub(super) struct Wire {
    stream: Box<dyn Stream>,
    decoder: Decoder,
    chunk: Vec<u8>,
}

impl Wire {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, decoder: Decoder::new(REPLY_MAX), chunk: vec![0; READ_SIZE] }
    }

    pub(super) async fn send(&mut self, method: &str, parameters: Value, more: bool) -> io::Result<()> {
        let mut call = json!({ "method": method, "parameters": parameters });
        if more {
            call["more"] = Value::Bool(true);
        }
        let mut bytes = serde_json::to_vec(&call)?;
        bytes.push(0);
        self.stream.write_all(&bytes).await?;
        self.stream.flush().await
    }

    /// The next answer. May be dropped and called again.
    pub(super) async fn receive(&mut self) -> io::Result<Reply> {
        loop {
            if let Some(message) = self.decoder.take().map_err(io::Error::other)? {
                return Ok(serde_json::from_slice(&message)?);
            }
            let size = self.decoder.room().min(READ_SIZE);
            match self.stream.read(&mut self.chunk[..size]).await? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                length => self.decoder.add(&self.chunk[..length]),
            }
        }
    }
}
