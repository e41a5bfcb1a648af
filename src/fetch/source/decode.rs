//! Decoding what an upstream compressed: NARs by what their narinfo says, documents by their `Content-Encoding`.
//!
//! The decoders are synchronous and run on a blocking thread between two bounded channels. Which library decodes what, and
//! how fast, is in docs/architecture.md.

use super::blocks::{BLOCK, Block};
use crate::fetch::error::SourceError;
use crate::nix::Compression;
use brotli_decompressor::BrotliDecoderParameter;
use bytes::{Buf, Bytes};
use hyper::HeaderMap;
use hyper::header::CONTENT_ENCODING;
use liblzma::stream::{CONCATENATED, Stream};
use lz4_flex::frame::FrameDecoder;
use std::cell::RefCell;
use std::io::{self, Read};
use std::rc::Rc;
use tokio::sync::mpsc;

/// The most memory a decoder of the LZMA family (xz, lzma, lzip) may take, in bytes. What `xz -9` makes needs 65 MiB.
const LZMA_MEMORY: u64 = 128 * 1024 * 1024;
/// The largest zstd window, as a power of two: 128 MiB, what `zstd --long` uses.
const ZSTD_WINDOW_LOG: u32 = 27;
/// The same of peers: 8 MiB, what RFC 8878 has everybody accept.
const PEER_WINDOW_LOG: u32 = 23;
/// How many encodings a server may put round one body.
const ENCODINGS_MAX: usize = 2;
/// Compressed chunks that may wait for the decoder.
const QUEUE: usize = 4;

/// How something may be compressed: everything that Nix writes and reads without the help of another program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Xz,
    Zstd,
    /// As peers send it.
    PeerZstd,
    Bzip2,
    Gzip,
    Brotli,
    Lz4,
    Lzip,
    Lzma,
}

impl Codec {
    /// By its name in a narinfo or, in small letters, in a `Content-Encoding`; they agree where both have one. `None` in it: not at all.
    ///
    /// # Errors
    /// It is not known here.
    fn named(name: &str) -> Result<Option<Self>, SourceError> {
        Ok(Some(match name {
            "none" | "identity" | "" => return Ok(None),
            "xz" => Self::Xz,
            "zstd" => Self::Zstd,
            "bzip2" => Self::Bzip2,
            "gzip" | "x-gzip" => Self::Gzip,
            "br" => Self::Brotli,
            "lz4" => Self::Lz4,
            "lzip" => Self::Lzip,
            "lzma" => Self::Lzma,
            other => return Err(SourceError::Encoding(other.chars().take(100).collect())),
        }))
    }

    /// What a narinfo says of its NAR.
    ///
    /// # Errors
    /// As for [`Self::named`].
    pub(crate) fn of(compression: &Compression) -> Result<Option<Self>, SourceError> {
        Self::named(compression.name())
    }

    /// Its name in a narinfo.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Xz => "xz",
            Self::Zstd | Self::PeerZstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
            Self::Lz4 => "lz4",
            Self::Lzip => "lzip",
            Self::Lzma => "lzma",
        }
    }

    /// What `reader` gives, decoded; refuses what asks for too much memory.
    fn decoder<R: Read + 'static>(self, reader: R) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Self::Xz => lzma(reader, Stream::new_stream_decoder(LZMA_MEMORY, CONCATENATED)?),
            Self::Lzip => lzma(reader, Stream::new_lzip_decoder(LZMA_MEMORY, CONCATENATED)?),
            Self::Lzma => lzma(reader, Stream::new_lzma_decoder(LZMA_MEMORY)?),
            Self::Zstd => zstd(reader, ZSTD_WINDOW_LOG)?,
            Self::PeerZstd => zstd(reader, PEER_WINDOW_LOG)?,
            Self::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(reader)),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(reader)),
            Self::Brotli => {
                let mut decoder = brotli_decompressor::Decompressor::new(reader, BLOCK);
                // Windows as RFC 7932 has them, 16 MiB at most; the larger ones of an extension grow to a gigabyte.
                decoder.set_parameter(BrotliDecoderParameter::BROTLI_DECODER_PARAM_LARGE_WINDOW, 0);
                Box::new(decoder)
            }
            // Blocks of the frame format have 4 MiB at most, of the one before 8 MiB.
            Self::Lz4 => Box::new(Lz4Frames(FrameDecoder::new(reader))),
        })
    }
}

fn zstd<R: Read + 'static>(reader: R, window_log: u32) -> io::Result<Box<dyn Read>> {
    let mut decoder = zstd::stream::read::Decoder::new(reader)?;
    decoder.window_log_max(window_log)?;
    Ok(Box::new(decoder))
}

fn lzma<R: Read + 'static>(reader: R, stream: Stream) -> Box<dyn Read> {
    Box::new(liblzma::read::XzDecoder::new_stream(reader, stream))
}

/// Frame after frame of lz4, as its own program reads them: the decoder stops after each.
struct Lz4Frames<R: Read>(FrameDecoder<R>);

impl<R: Read> Read for Lz4Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            // At the end of all it says so again.
            0 => self.0.read(buffer),
            read => Ok(read),
        }
    }
}

/// What was done to a body on its way, the last first. That it is as it is may be said as well.
///
/// # Errors
/// Something that cannot be undone here, or too much.
pub(crate) fn encodings(headers: &HeaderMap) -> Result<Vec<Codec>, SourceError> {
    let mut layers = Vec::new();
    for value in headers.get_all(CONTENT_ENCODING) {
        let text = String::from_utf8_lossy(value.as_bytes()).to_ascii_lowercase();
        for name in text.split(',').map(str::trim) {
            layers.extend(Codec::named(name)?);
            if layers.len() > ENCODINGS_MAX {
                return Err(SourceError::Encoding(text));
            }
        }
    }
    layers.reverse();
    Ok(layers)
}

/// A reader through all `layers`, the first of which is the outermost.
fn through(layers: Vec<Codec>, reader: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    layers.into_iter().try_fold(Box::new(reader) as Box<dyn Read>, |reader, layer| layer.decoder(reader))
}

/// Decodes a document that came with these `Content-Encoding`s, into at most `limit` bytes. cache.nixos.org stores its logs and
/// listings with brotli, and sends them so whatever one asks for.
pub(crate) async fn document(layers: Vec<Codec>, body: Bytes, limit: usize) -> Result<Bytes, SourceError> {
    if layers.is_empty() {
        return Ok(body);
    }
    let decoded = tokio::task::spawn_blocking(move || {
        let mut decoded = Vec::new();
        through(layers, body.reader())?.take(limit as u64 + 1).read_to_end(&mut decoded)?;
        Ok(decoded)
    });
    match decoded.await {
        Ok(Ok(decoded)) if decoded.len() > limit => Err(SourceError::TooLarge(limit)),
        Ok(Ok(decoded)) => Ok(decoded.into()),
        Ok(Err(error)) => Err(SourceError::Decode(error)),
        Err(stopped) => Err(SourceError::Unavailable(stopped.to_string())),
    }
}

/// A decoder at work: compressed bytes go into the sender, decoded ones come out of the receiver. It ends when the input
/// does, when the output is dropped, or with an error.
pub(crate) struct Decoder {
    /// Takes compressed bytes; closed by the decoder when it wants no more.
    pub(crate) input: mpsc::Sender<io::Result<Bytes>>,
    /// Gives decoded bytes from the `skip`th on.
    pub(crate) output: mpsc::Receiver<Result<Bytes, SourceError>>,
}

/// Starts decoding through all `layers`, the first of which is the outermost. The first `skip` decoded bytes are thrown away; after `size` bytes in all it stops reading, so that
/// a bomb ends where the signed size says.
pub(crate) fn start(layers: Vec<Codec>, skip: u64, size: u64) -> Decoder {
    let (input, chunks) = mpsc::channel(QUEUE);
    let (blocks, output) = mpsc::channel(QUEUE);
    tokio::task::spawn_blocking(move || {
        let arrivals = Rc::new(RefCell::new(Arrivals { chunks, current: Bytes::new() }));
        let reader = ArrivalsReader(Rc::clone(&arrivals));
        let has_more = || arrivals.borrow().has_more();
        let result = through(layers, reader).and_then(|mut decoder| copy(&mut *decoder, has_more, skip, size, &blocks));
        if let Err(error) = result {
            // The other side may be gone, which is no news to anybody.
            let _ = blocks.blocking_send(Err(SourceError::Decode(error)));
        }
    });
    Decoder { input, output }
}

/// Copies bytes `skip..size` of what `decoder` gives, and one more should there be one. A block goes on when it is full, or when there is
/// nothing more to decode for now.
fn copy(
    decoder: &mut dyn Read,
    has_more: impl Fn() -> bool,
    mut skip: u64,
    size: u64,
    blocks: &mpsc::Sender<Result<Bytes, SourceError>>,
) -> io::Result<()> {
    // One byte beyond the size lets the transfer see that the NAR is too long.
    let mut left = size.saturating_add(1);
    while left > 0 {
        let mut block = Block::take();
        let outcome = fill(decoder, &has_more, &mut block);
        let filled = block.filled() as u64;
        left = left.saturating_sub(filled);
        let skipped = skip.min(filled);
        skip -= skipped;
        let mut block = block.freeze();
        // Lossless: at most the block's length.
        block.advance(usize::try_from(skipped).unwrap_or(block.len()));
        if !block.is_empty() && blocks.blocking_send(Ok(block)).is_err() {
            return Ok(());
        }
        if outcome? {
            return Ok(());
        }
    }
    Ok(())
}

/// Puts into `block` what `decoder` gives without waiting for more than its first bytes; whether that was the end.
fn fill(decoder: &mut dyn Read, has_more: impl Fn() -> bool, block: &mut Block) -> io::Result<bool> {
    while !block.rest().is_empty() && (block.filled() == 0 || has_more()) {
        match decoder.read(block.rest()) {
            Ok(0) => return Ok(true),
            Ok(read) => block.fill(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// What came to be decoded.
struct Arrivals {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Arrivals {
    /// Whether something is there that was not read.
    fn has_more(&self) -> bool {
        !self.current.is_empty() || !self.chunks.is_empty()
    }
}

/// The same as a reader, which waits for more.
struct ArrivalsReader(Rc<RefCell<Arrivals>>);

impl Read for ArrivalsReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Arrivals { chunks, current } = &mut *self.0.borrow_mut();
        while current.is_empty() {
            match chunks.blocking_recv() {
                Some(chunk) => *current = chunk?,
                None => return Ok(0),
            }
        }
        let count = current.len().min(buffer.len());
        current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
