//! A binary cache on the Internet for tests: a real HTTP server with files in memory, which can be told to fail.

use bytes::Bytes;
use http_body_util::Full;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use peernix::nix::nar::Writer;
use peernix::nix::narinfo::NarInfo;
use peernix::nix::{Compression, NarHash, PathInfo, SecretKey, StoreDir, StoreHash, StorePath};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

/// What the server does to a request instead of answering it well.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Answers with this status.
    Status(u16),
    /// Answers with this status, and says after how many seconds one may ask again.
    Busy(u16, u64),
    /// Answers after so long.
    Late(Duration),
    /// Sends the head and this many bytes of the body, and closes the connection.
    CutAt(usize),
    /// Accepts the request and never answers.
    Silence,
    /// Answers when the test says so.
    When(Arc<tokio::sync::Semaphore>),
    /// Flips a bit of the body at this offset.
    FlipAt(usize),
}

/// A server with files and a record of what it was asked.
pub(crate) struct Internet {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    files: Mutex<HashMap<String, Bytes>>,
    faults: Mutex<Vec<(String, Fault)>>,
    requests: Mutex<Vec<(String, Option<String>)>>,
}

/// A path with its NAR, as a builder would have made it.
pub(crate) struct Sample {
    pub(crate) info: PathInfo,
    pub(crate) nar: Bytes,
}

pub(crate) fn key() -> SecretKey {
    SecretKey::from_seed("test-1", [42; 32]).unwrap()
}

impl Sample {
    /// A path that holds one file of `size` bytes that do not compress to nothing.
    pub(crate) fn new(number: u8, size: usize) -> Self {
        let mut seed = u64::from(number) + 1;
        let content: Vec<u8> = std::iter::repeat_with(|| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            // Half the bits are zero, so that compressors have something to do.
            (seed & 0x0f0f_0f0f_0f0f_0f0f).to_le_bytes()
        })
        .flatten()
        .take(size)
        .collect();
        let mut writer = Writer::new();
        let mut nar = Vec::with_capacity(size + 256);
        writer.regular(&mut nar, b"", false, size as u64);
        nar.extend_from_slice(&content);
        nar.resize(nar.len().next_multiple_of(8), 0);
        writer.close(&mut nar);
        let path = StorePath::new(StoreHash::new([number; 20]), &format!("sample-{number}")).unwrap();
        let mut info = PathInfo {
            path,
            nar_hash: NarHash::new(Sha256::digest(&nar).into()),
            nar_size: nar.len() as u64,
            references: vec![],
            deriver: None,
            signatures: vec![],
            ca: None,
        };
        info.signatures = vec![key().sign(&info, &StoreDir::default())];
        Self { info, nar: nar.into() }
    }

    pub(crate) fn hash(&self) -> StoreHash {
        self.info.path.hash()
    }
}

pub(crate) fn compress(compression: &Compression, content: &[u8]) -> Vec<u8> {
    match compression {
        Compression::Xz => {
            let mut writer = liblzma::write::XzEncoder::new(Vec::new(), 0);
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
        Compression::None => content.to_vec(),
        Compression::Other(name) => panic!("no test compresses with {name}"),
    }
}

impl Internet {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let server = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let state = Arc::clone(&server);
                tokio::spawn(serve(stream, state));
            }
        });
        Self { address, state }
    }

    pub(crate) fn url(&self) -> hyper::Uri {
        format!("http://{}", self.address).parse().unwrap()
    }

    /// Publishes a path as `nix copy` would, and gives the file's URL.
    pub(crate) fn publish(&self, sample: &Sample, compression: &Compression) -> String {
        self.publish_as(sample, compression, |_| {})
    }

    /// The same, with the narinfo changed before it is written.
    pub(crate) fn publish_as(
        &self,
        sample: &Sample,
        compression: &Compression,
        change: impl FnOnce(&mut NarInfo),
    ) -> String {
        let file = Bytes::from(compress(compression, &sample.nar));
        let url = format!("nar/{}.nar.{compression}", sample.info.nar_hash.to_nix32());
        let mut narinfo = NarInfo {
            info: sample.info.clone(),
            url: url.clone(),
            compression: compression.clone(),
            file_hash: None,
            file_size: Some(file.len() as u64),
            extra: vec![],
        };
        change(&mut narinfo);
        let mut files = self.state.files.lock();
        files.insert(format!("/{}.narinfo", sample.hash()), narinfo.render(&StoreDir::default()).into());
        files.insert(format!("/{url}"), file);
        url
    }

    /// The file at `path`.
    pub(crate) fn file(&self, path: &str) -> Bytes {
        self.state.files.lock()[&format!("/{path}")].clone()
    }

    /// Puts `content` at `path`.
    pub(crate) fn replace(&self, path: &str, content: impl Into<Bytes>) {
        self.state.files.lock().insert(format!("/{path}"), content.into());
    }

    /// The next request whose path contains `part` meets `fault`; several are met one after the other.
    pub(crate) fn fault(&self, part: &str, fault: Fault) {
        self.state.faults.lock().push((part.to_owned(), fault));
    }

    /// Paths and `Range` headers of all requests so far whose path contains `part`.
    pub(crate) fn requests(&self, part: &str) -> Vec<(String, Option<String>)> {
        self.state.requests.lock().iter().filter(|(path, _)| path.contains(part)).cloned().collect()
    }
}

async fn serve(stream: tokio::net::TcpStream, state: Arc<State>) {
    let (mut side, hyper_side) = tokio::io::duplex(1024 * 1024);
    let (mut from_client, mut to_client) = stream.into_split();
    let cut = Arc::new(Mutex::new(None::<usize>));
    let cut_in_service = Arc::clone(&cut);
    let service = service_fn(move |request: Request<hyper::body::Incoming>| {
        let (state, cut) = (Arc::clone(&state), Arc::clone(&cut_in_service));
        async move { answer(&request, &state, &cut).await }
    });
    let http = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(hyper_side), service);
    let relay = async {
        let (mut read, mut write) = tokio::io::split(&mut side);
        let up = tokio::io::copy(&mut from_client, &mut write);
        let down = async {
            let mut buffer = vec![0; 64 * 1024];
            loop {
                let count = tokio::io::AsyncReadExt::read(&mut read, &mut buffer).await.unwrap_or(0);
                // The head of an answer is small; it is not counted as body when a cut is due.
                let head = buffer[..count].windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
                let allowed = match &mut *cut.lock() {
                    None => count,
                    Some(left) => {
                        let body = (count - head).min(*left);
                        *left -= body;
                        head + body
                    }
                };
                if to_client.write_all(&buffer[..allowed]).await.is_err() || allowed < count || count == 0 {
                    return;
                }
            }
        };
        tokio::select! { _ = up => {}, () = down => {} }
    };
    tokio::select! { _ = http => {}, () = relay => {} }
}

async fn answer(
    request: &Request<hyper::body::Incoming>,
    state: &State,
    cut: &Mutex<Option<usize>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let range = request.headers().get("range").map(|value| value.to_str().unwrap().to_owned());
    state.requests.lock().push((path.clone(), range.clone()));
    let fault = {
        let mut faults = state.faults.lock();
        let at = faults.iter().position(|(part, _)| path.contains(part.as_str()));
        at.map(|at| faults.remove(at).1)
    };
    let status = |status| Ok(Response::builder().status(status).body(Full::default()).unwrap());
    let Some(mut file) = state.files.lock().get(&path).cloned() else { return status(404) };
    match fault {
        Some(Fault::Status(code)) => return status(code),
        Some(Fault::Busy(code, seconds)) => {
            let busy = Response::builder().status(code).header("retry-after", seconds);
            return Ok(busy.body(Full::default()).unwrap());
        }
        Some(Fault::Late(after)) => tokio::time::sleep(after).await, // pace
        Some(Fault::When(told)) => drop(told.acquire().await.unwrap()),
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::CutAt(count)) => *cut.lock() = Some(count),
        Some(Fault::FlipAt(at)) => {
            let mut flipped = file.to_vec();
            flipped[at] ^= 1;
            file = flipped.into();
        }
        None => {}
    }
    let builder = Response::builder().header("accept-ranges", "bytes").header("etag", "\"one\"");
    Ok(match range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok()) {
        Some(from) => builder
            .status(StatusCode::PARTIAL_CONTENT)
            .header("content-range", format!("bytes {from}-{}/{}", file.len() - 1, file.len()))
            .body(Full::new(file.slice(from..)))
            .unwrap(),
        None => builder.body(Full::new(file)).unwrap(),
    })
}
