use super::*;
use std::io::Write;

const ALL: [Codec; 8] =
    [Codec::Xz, Codec::Zstd, Codec::Bzip2, Codec::Gzip, Codec::Brotli, Codec::Lz4, Codec::Lzip, Codec::Lzma];

/// A megabyte that compresses, but not to nothing.
fn content() -> Vec<u8> {
    (0..1_000_000u32).flat_map(|i| (i / 7).to_le_bytes()).take(1_000_000).collect()
}

fn written<W: Write>(mut writer: W, content: &[u8], finish: impl FnOnce(W) -> Vec<u8>) -> Vec<u8> {
    writer.write_all(content).unwrap();
    finish(writer)
}

fn lzma_alone(content: &[u8]) -> Vec<u8> {
    let options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
    let stream = Stream::new_lzma_encoder(&options).unwrap();
    written(liblzma::write::XzEncoder::new_stream(Vec::new(), stream), content, |writer| writer.finish().unwrap())
}

/// A member of lzip, of which there is no encoder here: the LZMA stream of the older format, between lzip's own head and tail.
fn lzip(content: &[u8]) -> Vec<u8> {
    let lzma = lzma_alone(content);
    // Head: magic, version 1, a dictionary of 2^20 bytes as preset 1 has it. The older format has 13 bytes of head, and ends as this does.
    let mut member = [&b"LZIP\x01\x14"[..], &lzma[13..]].concat();
    let mut crc = flate2::Crc::new();
    crc.update(content);
    member.extend_from_slice(&crc.sum().to_le_bytes());
    member.extend_from_slice(&(content.len() as u64).to_le_bytes());
    let length = member.len() as u64 + 8;
    member.extend_from_slice(&length.to_le_bytes());
    member
}

/// Brotli without compressing anything: metablocks as they are, each of at most 64 KiB.
fn brotli(content: &[u8]) -> Vec<u8> {
    // WBITS 22 is `1101` read from the low bit on: 0b1011. Then for each block: not the last, four nibbles of length, length - 1, as it is.
    let (mut bits, mut count, mut out) = (0b1011_u64, 4_usize, Vec::new());
    for block in content.chunks(1 << 16) {
        let length = (block.len() - 1) as u64;
        bits |= ((length << 3) | (1 << 19)) << count;
        count += 20;
        out.extend_from_slice(&bits.to_le_bytes()[..count.div_ceil(8)]);
        out.extend_from_slice(block);
        (bits, count) = (0, 0);
    }
    // The last one, and empty.
    out.push(0b11);
    out
}

fn compressed(codec: Codec, content: &[u8]) -> Vec<u8> {
    match codec {
        Codec::Xz => written(liblzma::write::XzEncoder::new(Vec::new(), 1), content, |writer| writer.finish().unwrap()),
        Codec::Zstd | Codec::PeerZstd => zstd::encode_all(content, 1).unwrap(),
        Codec::Bzip2 => {
            let writer = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            written(writer, content, |writer| writer.finish().unwrap())
        }
        Codec::Gzip => {
            let writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            written(writer, content, |writer| writer.finish().unwrap())
        }
        Codec::Brotli => brotli(content),
        Codec::Lz4 => {
            let writer = lz4_flex::frame::FrameEncoder::new(Vec::new());
            written(writer, content, |writer| writer.finish().unwrap())
        }
        Codec::Lzip => lzip(content),
        Codec::Lzma => lzma_alone(content),
    }
}

async fn decode(layers: &[Codec], input: Vec<u8>, skip: u64, size: u64) -> Result<Vec<u8>, SourceError> {
    let mut decoder = start(layers.to_vec(), skip, size);
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

#[tokio::test]
async fn every_compression_from_any_offset() {
    let content = content();
    for codec in ALL {
        assert_eq!(Codec::of(&codec.name().parse().unwrap()).unwrap(), Some(codec));
        for skip in [0, 1, 128 * 1024, 999_999, 1_000_000] {
            let input = compressed(codec, &content);
            let decoded = decode(&[codec], input, skip as u64, 1_000_000).await.unwrap();
            assert!(decoded == content[skip..], "{codec:?} from {skip}");
        }
    }
    assert_eq!(Codec::of(&Compression::None).unwrap(), None);
}

#[tokio::test]
async fn several_parts_are_one() {
    let content = content();
    let (first, second) = content.split_at(300_000);
    for codec in [Codec::Xz, Codec::Zstd, Codec::Bzip2, Codec::Gzip, Codec::Lz4, Codec::Lzip] {
        let input = [compressed(codec, first), compressed(codec, second)].concat();
        assert!(decode(&[codec], input, 0, 1_000_000).await.unwrap() == content, "{codec:?}");
    }
}

#[tokio::test]
async fn one_compression_round_another() {
    let content = content();
    let input = compressed(Codec::Gzip, &compressed(Codec::Xz, &content));
    assert!(decode(&[Codec::Gzip, Codec::Xz], input, 5, 1_000_000).await.unwrap() == content[5..]);
}

#[test]
fn what_was_done_to_a_body_is_undone_in_the_other_order() {
    let of = |values: &[&'static str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_ENCODING, hyper::header::HeaderValue::from_static(value));
        }
        encodings(&headers).ok()
    };
    for none in [&[][..], &[""], &["identity"], &["Identity, "], &["identity", "none"]] {
        assert_eq!(of(none), Some(vec![]), "{none:?}");
    }
    assert_eq!(of(&["X-GZIP"]), Some(vec![Codec::Gzip]));
    assert_eq!(of(&["br, gzip"]), Some(vec![Codec::Gzip, Codec::Brotli]));
    assert_eq!(of(&["br", "identity", "gzip"]), Some(vec![Codec::Gzip, Codec::Brotli]));
    for refused in [&["gzip, gzip, gzip"][..], &["compress"], &["gzip", "aes128gcm"]] {
        assert_eq!(of(refused), None, "{refused:?}");
    }
}

#[tokio::test]
async fn documents_are_decoded_within_their_limit() {
    // `printf 'built\n' | brotli`, which is small enough to write down.
    let brotli = Bytes::from_static(b"\x8b\x02\x80\x62\x75\x69\x6c\x74\x0a\x03");
    let layers = vec![Codec::Brotli];
    assert_eq!(document(layers.clone(), brotli.clone(), 100).await.unwrap(), "built\n");
    assert!(matches!(document(layers, brotli, 5).await, Err(SourceError::TooLarge(5))));
    for codec in ALL {
        let body: Bytes = compressed(codec, b"built").into();
        assert_eq!(document(vec![codec], body, 100).await.unwrap(), "built", "{codec:?}");
    }
    assert_eq!(document(vec![], Bytes::from_static(b"built"), 100).await.unwrap(), "built");
}

#[tokio::test]
async fn output_ends_at_the_signed_size() {
    for codec in ALL {
        let input = compressed(codec, &content());
        let decoded = decode(&[codec], input, 0, 1000).await.unwrap();
        assert!(decoded.len() > 1000 && decoded.len() <= 1001 + BLOCK, "{codec:?}: {}", decoded.len());
    }
}

#[tokio::test]
async fn broken_input_is_an_error() {
    for codec in ALL {
        let mut input = compressed(codec, &content());
        input.truncate(input.len() / 2);
        assert!(decode(&[codec], input, 0, 1_000_000).await.is_err(), "{codec:?} truncated");
        // No magic number, and in brotli, which has none, a window that is reserved.
        let garbage = vec![0x11; 4096];
        assert!(decode(&[codec], garbage, 0, 1_000_000).await.is_err(), "{codec:?} garbage");
    }
    assert!(Codec::of(&Compression::Other("lz5".into())).is_err());
}

#[tokio::test]
async fn greedy_headers_are_refused() {
    // What a dictionary of 512 MiB needs to be decoded.
    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(512 * 1024 * 1024);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream = Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc64).unwrap();
    let input =
        written(liblzma::write::XzEncoder::new_stream(Vec::new(), stream), b"small", |writer| writer.finish().unwrap());
    assert!(decode(&[Codec::Xz], input, 0, 5).await.is_err());
    // The same with lzma: the size of the dictionary is bytes 1 to 4; and with lzip: 2^29.
    let mut input = lzma_alone(b"small");
    input[1..5].copy_from_slice(&(512_u32 << 20).to_le_bytes());
    assert!(decode(&[Codec::Lzma], input, 0, 5).await.is_err());
    let mut input = lzip(b"small");
    input[5] = 29;
    assert!(decode(&[Codec::Lzip], input, 0, 5).await.is_err());
    // A zstd frame with a window of 2^30 bytes: magic, descriptor without single segment, window byte 0xa0.
    let input = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0xa0, 0x01, 0x00, 0x00];
    assert!(decode(&[Codec::Zstd], input, 0, 5).await.is_err());
    // One of 2^24, which upstreams may have and peers not.
    let input = vec![0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x70, 0x01, 0x00, 0x00];
    assert!(decode(&[Codec::Zstd], input.clone(), 0, 5).await.is_ok());
    assert!(decode(&[Codec::PeerZstd], input, 0, 5).await.is_err());
}
