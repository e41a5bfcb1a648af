//! Decoding what an upstream compressed: NARs by what their narinfo says, documents by their `Content-Encoding`.
//!
//! The decoders are synchronous and run on a blocking thread between two bounded channels. Which library decodes what, and
//! how fast, is in docs/architecture.md.

use crate::fetch::error::SourceError;
use crate::nix::Compression;
use bytes::{Buf, Bytes};
use std::io::{self, Read};
use tokio::sync::mpsc;

/// The most memory an xz decoder may take, in bytes. What `xz -9` makes needs 65 MiB.
const XZ_MEMORY: u64 = 128 * 1024 * 1024;
/// The largest zstd window, as a power of two: 128 MiB, what `zstd --long` uses.
const ZSTD_WINDOW_LOG: u32 = 27;
/// Compressed chunks that may wait for the decoder.
const QUEUE: usize = 4;
/// Bytes of decoded output in one chunk.
const BLOCK: usize = 128 * 1024;

/// How something may be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Codec {
    Identity,
    Xz,
    Zstd,
    Bzip2,
    Gzip,
    Brotli,
}

impl Codec {
    /// By its name in a narinfo or in a `Content-Encoding`; they agree where both have one.
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "none" | "identity" | "" => Self::Identity,
            "xz" => Self::Xz,
            "zstd" => Self::Zstd,
            "bzip2" => Self::Bzip2,
            "gzip" | "x-gzip" => Self::Gzip,
            "br" => Self::Brotli,
            _ => return None,
        })
    }

    /// What `reader` gives, decoded; refuses what asks for too much memory.
    fn decoder<R: Read + 'static>(self, reader: R) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Self::Identity => Box::new(reader),
            Self::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
                Box::new(liblzma::read::XzDecoder::new_stream(reader, stream))
            }
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(reader)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
            Self::Bzip2 => Box::new(bzip2::read::MultiBzDecoder::new(reader)),
            Self::Gzip => Box::new(flate2::read::MultiGzDecoder::new(reader)),
            Self::Brotli => Box::new(brotli_decompressor::Decompressor::new(reader, BLOCK)),
        })
    }
}

/// Whether [`start`] can decode it.
pub(crate) fn is_supported(compression: &Compression) -> bool {
    Codec::named(compression.name()).is_some()
}

/// Decodes a document that came with a `Content-Encoding`, into at most `limit` bytes. cache.nixos.org stores its logs and
/// listings with brotli, and sends them so whatever one asks for.
pub(crate) async fn document(encoding: &[u8], body: Bytes, limit: usize) -> Result<Bytes, SourceError> {
    let encoding = String::from_utf8_lossy(encoding).to_ascii_lowercase();
    let decoded = tokio::task::spawn_blocking(move || {
        let mut decoded = Vec::new();
        let decoder = Codec::named(&encoding).ok_or_else(|| unknown(&encoding))?.decoder(body.reader())?;
        decoder.take(limit as u64 + 1).read_to_end(&mut decoded)?;
        Ok(decoded)
    });
    match decoded.await {
        Ok(Ok(decoded)) if decoded.len() > limit => Err(SourceError::TooLarge(limit)),
        Ok(Ok(decoded)) => Ok(decoded.into()),
        Ok(Err(error)) => Err(SourceError::Decode(error)),
        Err(stopped) => Err(SourceError::Unavailable(stopped.to_string())),
    }
}

fn unknown(name: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, format!("compression '{name}' is not known here"))
}

/// A decoder at work: compressed bytes go into the sender, decoded ones come out of the receiver. It ends when the input
/// does, when the output is dropped, or with an error.
pub(crate) struct Decoder {
    /// Takes compressed bytes; closed by the decoder when it wants no more.
    pub(crate) input: mpsc::Sender<io::Result<Bytes>>,
    /// Gives decoded bytes from the `skip`th on.
    pub(crate) output: mpsc::Receiver<Result<Bytes, SourceError>>,
}

/// Starts decoding. The first `skip` decoded bytes are thrown away; after `size` bytes in all it stops reading, so that
/// a bomb ends where the signed size says.
pub(crate) fn start(compression: &Compression, skip: u64, size: u64) -> Decoder {
    let (input, chunks) = mpsc::channel(QUEUE);
    let (blocks, output) = mpsc::channel(QUEUE);
    let name = compression.name().to_owned();
    tokio::task::spawn_blocking(move || {
        let reader = ChannelReader { chunks, current: Bytes::new() };
        let decoder = Codec::named(&name).ok_or_else(|| unknown(&name)).and_then(|codec| codec.decoder(reader));
        let result = decoder.and_then(|mut decoder| copy(&mut *decoder, skip, size, &blocks));
        if let Err(error) = result {
            // The other side may be gone, which is no news to anybody.
            let _ = blocks.blocking_send(Err(SourceError::Decode(error)));
        }
    });
    Decoder { input, output }
}

/// Copies bytes `skip..size` of what `decoder` gives, and one more should there be one.
fn copy(
    decoder: &mut dyn Read,
    mut skip: u64,
    size: u64,
    blocks: &mpsc::Sender<Result<Bytes, SourceError>>,
) -> io::Result<()> {
    // One byte beyond the size lets the transfer see that the NAR is too long.
    let mut left = size.saturating_add(1);
    while left > 0 {
        let mut block = vec![0; BLOCK];
        let read = match decoder.read(&mut block) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        block.truncate(read);
        let mut block = Bytes::from(block);
        let read = read as u64;
        left = left.saturating_sub(read);
        let skipped = skip.min(read);
        skip -= skipped;
        // Lossless: at most the block's length.
        block.advance(usize::try_from(skipped).unwrap_or(block.len()));
        if !block.is_empty() && blocks.blocking_send(Ok(block)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The receiving end of a channel of chunks, as a reader.
struct ChannelReader {
    chunks: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let count = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// A megabyte that compresses, but not to nothing.
    fn content() -> Vec<u8> {
        (0..1_000_000u32).flat_map(|i| (i / 7).to_le_bytes()).take(1_000_000).collect()
    }

    fn compressed(compression: &Compression, content: &[u8]) -> Vec<u8> {
        match compression {
            Compression::Xz => {
                let mut writer = liblzma::write::XzEncoder::new(Vec::new(), 1);
                writer.write_all(content).unwrap();
                writer.finish().unwrap()
            }
            Compression::Zstd => zstd::encode_all(content, 1).unwrap(),
            Compression::Bzip2 => {
                let mut writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
                writer.write_all(content).unwrap();
                writer.finish().unwrap()
            }
            Compression::Gzip => {
                let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                writer.write_all(content).unwrap();
                writer.finish().unwrap()
            }
            Compression::None | Compression::Other(_) => content.to_vec(),
        }
    }

    async fn decode(compression: &Compression, input: Vec<u8>, skip: u64, size: u64) -> Result<Vec<u8>, SourceError> {
        let mut decoder = start(compression, skip, size);
        let feed = tokio::spawn(async move {
            for chunk in input.chunks(10_000) {
                if decoder.input.send(Ok(Bytes::copy_from_slice(chunk))).await.is_err() {
                    break;
                }
            }
        });
        let mut decoded = Vec::new();
        while let Some(block) = decoder.output.recv().await {
            decoded.extend_from_slice(&block?);
        }
        feed.await.unwrap();
        Ok(decoded)
    }

    const ALL: [Compression; 5] =
        [Compression::None, Compression::Xz, Compression::Zstd, Compression::Bzip2, Compression::Gzip];

    #[tokio::test]
    async fn every_compression_from_any_offset() {
        let content = content();
        for compression in &ALL {
            for skip in [0, 1, 128 * 1024, 999_999, 1_000_000] {
                let input = compressed(compression, &content);
                let decoded = decode(compression, input, skip as u64, 1_000_000).await.unwrap();
                assert!(decoded == content[skip..], "{compression} from {skip}");
            }
        }
    }

    #[tokio::test]
    async fn documents_are_decoded_within_their_limit() {
        // `printf 'built\n' | brotli`, which is small enough to write down.
        let brotli = Bytes::from_static(b"\x8b\x02\x80\x62\x75\x69\x6c\x74\x0a\x03");
        assert_eq!(document(b"br", brotli.clone(), 100).await.unwrap(), "built\n");
        assert!(matches!(document(b"br", brotli, 5).await, Err(SourceError::TooLarge(5))));
        for (name, compression) in [("gzip", Compression::Gzip), ("zstd", Compression::Zstd), ("xz", Compression::Xz)] {
            let body: Bytes = compressed(&compression, b"built").into();
            assert_eq!(document(name.as_bytes(), body, 100).await.unwrap(), "built", "{name}");
        }
        assert!(document(b"compress", Bytes::new(), 100).await.is_err());
    }

    #[tokio::test]
    async fn output_ends_at_the_signed_size() {
        for compression in &ALL {
            let input = compressed(compression, &content());
            let decoded = decode(compression, input, 0, 1000).await.unwrap();
            assert!(decoded.len() > 1000 && decoded.len() <= 1001 + BLOCK, "{compression}: {}", decoded.len());
        }
    }

    #[tokio::test]
    async fn broken_input_is_an_error() {
        for compression in &ALL[1..] {
            let mut input = compressed(compression, &content());
            input.truncate(input.len() / 2);
            assert!(decode(compression, input, 0, 1_000_000).await.is_err(), "{compression} truncated");
            let garbage = vec![0x5a; 4096];
            assert!(decode(compression, garbage, 0, 1_000_000).await.is_err(), "{compression} garbage");
        }
        let other = Compression::Other("lz5".into());
        assert!(!is_supported(&other) && decode(&other, vec![1], 0, 1).await.is_err());
    }

    #[tokio::test]
    async fn greedy_headers_are_refused() {
        // What a dictionary of 512 MiB needs to be decoded.
        let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
        options.dict_size(512 * 1024 * 1024);
        let mut filters = liblzma::stream::Filters::new();
        filters.lzma2(&options);
        let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc64).unwrap();
        let mut writer = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        writer.write_all(b"small").unwrap();
        let input = writer.finish().unwrap();
        assert!(decode(&Compression::Xz, input, 0, 5).await.is_err());
        // A zstd frame with a window of 2^30 bytes: magic, descriptor without single segment, window byte 0xa0.
        let input = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0, 0x01, 0x00, 0x00];
        assert!(decode(&Compression::Zstd, input, 0, 5).await.is_err());
    }
}
