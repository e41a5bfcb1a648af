//! Where a NAR can come from, and how it is asked for it.

use super::decode;
use super::error::{Lie, SourceError};
use super::ledger::SourceName;
use super::patience::Patience;
use super::upstream::{Upstream, collect};
use super::verify::{self, Trust, Whose};
use crate::nix::{Compression, NarHash, NarInfo, PathInfo, StoreHash};
use crate::peers::{LinkError, Peer, State};
use bytes::{Buf, Bytes};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE};
use hyper::{HeaderMap, Response, StatusCode};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// How long a peer may take to the head of a narinfo.
const PEER_HEAD: Duration = Duration::from_secs(1);
/// The longest URL in an upstream's narinfo, in bytes.
const URL_MAX: usize = 4096;

/// A source that offers a NAR.
#[derive(Clone)]
pub(super) enum Offer {
    /// A peer: the uncompressed NAR, at the URL that the protocol fixes.
    Peer(Arc<Peer>),
    /// An upstream, with what its narinfo said.
    Upstream {
        upstream: Arc<Upstream>,
        /// As in its narinfo.
        url: String,
        compression: Compression,
        /// The length of the file in bytes, which nobody signs.
        file_size: Option<u64>,
    },
}

impl Offer {
    /// Whether both mean the same source.
    pub(super) fn is_same_source(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Peer(a), Self::Peer(b)) => a.id() == b.id(),
            (Self::Upstream { upstream: a, .. }, Self::Upstream { upstream: b, .. }) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// The peer, if it is one.
    pub(super) const fn peer(&self) -> Option<&Arc<Peer>> {
        match self {
            Self::Peer(peer) => Some(peer),
            Self::Upstream { .. } => None,
        }
    }

    /// How many bytes it gave so far, all transfers together.
    pub(super) fn given(&self) -> u64 {
        match self {
            Self::Peer(peer) => peer.given(),
            Self::Upstream { upstream, .. } => upstream.given(),
        }
    }

    /// Who it is, for people.
    pub(super) fn name(&self) -> SourceName {
        match self {
            Self::Peer(peer) => SourceName::Peer(peer.id()),
            Self::Upstream { upstream, .. } => SourceName::Upstream(upstream.host()),
        }
    }

    /// Whether it can begin in the middle of the NAR without sending what is before.
    pub(super) fn can_begin_anywhere(&self) -> bool {
        matches!(self, Self::Peer(_) | Self::Upstream { compression: Compression::None, .. })
    }

    /// Whether it is worth trying now.
    pub(super) fn is_usable(&self) -> bool {
        match self {
            Self::Peer(peer) => !matches!(peer.state(), State::Offline | State::Blocked),
            Self::Upstream { .. } => true,
        }
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Peer(peer) => write!(f, "peer {}", peer.id()),
            Self::Upstream { upstream, .. } => write!(f, "upstream {upstream}"),
        }
    }
}

/// The NAR URL that the peer protocol fixes.
pub(super) fn peer_nar_url(hash: StoreHash, nar_hash: &NarHash) -> String {
    format!("nar/{hash}-{}.nar", nar_hash.to_nix32())
}

/// Asks a peer for a path's narinfo. `None`: it does not have the path, or nothing signed for us.
///
/// # Errors
/// The peer could not be asked, or lied.
pub(super) async fn ask_peer(
    peer: &Peer,
    hash: StoreHash,
    trust: &Arc<Trust>,
) -> Result<Option<PathInfo>, SourceError> {
    if trust.keys.is_empty() {
        // Nothing that it could say would count, and that would not be its fault.
        return Ok(None);
    }
    let path = format!("/{hash}.narinfo");
    let answer = tokio::time::timeout(PEER_HEAD, peer.get(&path, None)).await;
    let response = answered(answer.map_err(|_| PEER_HEAD))?;
    match response.status() {
        StatusCode::OK => {}
        StatusCode::NOT_FOUND => return Ok(None),
        other => return Err(SourceError::Status(other.as_u16())),
    }
    let text = collect(response.into_body(), verify::LIMIT).await?;
    let narinfo = believe(trust, text, hash, Whose::Peer).await?;
    // The protocol leaves a peer no choice of these, so whoever sends something else tries something.
    let expected = peer_nar_url(hash, &narinfo.info.nar_hash);
    if narinfo.url != expected || narinfo.compression != Compression::None {
        return Err(Lie::Url(narinfo.url.chars().take(200).collect()).into());
    }
    Ok(Some(narinfo.info))
}

/// Asks an upstream for a path's narinfo. `None`: it does not have the path, or not signed by a trusted key.
///
/// # Errors
/// The upstream could not be asked.
pub(super) async fn ask_upstream(
    upstream: &Arc<Upstream>,
    hash: StoreHash,
    trust: &Arc<Trust>,
) -> Result<Option<(PathInfo, Offer)>, SourceError> {
    let Some(text) = upstream.document(&format!("{hash}.narinfo"), verify::LIMIT).await? else { return Ok(None) };
    match believe(trust, text, hash, Whose::Upstream).await {
        Ok(NarInfo { url, .. }) if url.len() > URL_MAX => Err(SourceError::TooLarge(URL_MAX)),
        // What nobody here can decode could not go on from another source, and has no name in our URLs.
        Ok(NarInfo { compression, .. }) if !decode::is_supported(&compression) => {
            log::debug!(upstream:% = upstream, path:% = hash; "not usable: compressed with {compression}");
            Ok(None)
        }
        Ok(NarInfo { info, url, compression, file_size, .. }) => {
            Ok(Some((info, Offer::Upstream { upstream: Arc::clone(upstream), url, compression, file_size })))
        }
        Err(SourceError::Lie(reason)) => {
            log::debug!(upstream:% = upstream, path:% = hash; "not usable: {reason}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Verifies off the reactor.
async fn believe(trust: &Arc<Trust>, text: Bytes, hash: StoreHash, whose: Whose) -> Result<NarInfo, SourceError> {
    let trust = Arc::clone(trust);
    match tokio::task::spawn_blocking(move || trust.believe(&text, hash, whose)).await {
        Ok(believed) => Ok(believed?),
        Err(stopped) => Err(SourceError::Unavailable(stopped.to_string())),
    }
}

/// The head of a peer's answer, or what it means that there is none: in `Err` for how long it was silent.
fn answered(
    answer: Result<Result<Response<Incoming>, LinkError>, Duration>,
) -> Result<Response<Incoming>, SourceError> {
    match answer {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(error)) if error.doubts_peer() => Err(SourceError::Connection(error.to_string())),
        Ok(Err(error)) => Err(SourceError::Unavailable(error.to_string())),
        Err(waited) => Err(SourceError::Stalled(waited)),
    }
}

/// The bytes of a NAR, uncompressed, on their way from one source.
pub(super) struct Flow {
    kind: FlowKind,
    /// How many bytes came in from the network; tells work from silence when nothing comes out.
    received: Arc<AtomicU64>,
}

enum FlowKind {
    /// As it comes, after `skip` bytes.
    Direct { body: Incoming, skip: u64 },
    /// Through a decoder, fed by a task that dies with the flow.
    Decoded {
        output: mpsc::Receiver<Result<Bytes, SourceError>>,
        /// What broke the connection: to the decoder it looks like bad input.
        broken: Arc<OnceLock<String>>,
        _feeder: AbortOnDropHandle<()>,
    },
}

/// Opens the NAR of `info` at `offer`, from byte `offset` on. A peer may be silent for as long as `patience` has it.
///
/// # Errors
/// The source cannot be reached, does not have it any more, or offers another length.
pub(super) async fn open(offer: &Offer, info: &PathInfo, offset: u64, patience: Patience) -> Result<Flow, SourceError> {
    let received = Arc::new(AtomicU64::new(0));
    match offer {
        Offer::Peer(peer) => {
            let url = format!("/{}", peer_nar_url(info.path.hash(), &info.nar_hash));
            let answer = patience.wait_for(peer.get(&url, (offset > 0).then_some(offset)), || peer.given()).await;
            let response = answered(answer)?;
            direct(response, offset, info.nar_size, received)
        }
        Offer::Upstream { upstream, url, compression: Compression::None, .. } => {
            let response = upstream.get(url, offset).await?;
            direct(response, offset, info.nar_size, received)
        }
        Offer::Upstream { upstream, url, compression, .. } => {
            let response = upstream.get(url, 0).await?;
            if response.status() != StatusCode::OK {
                return Err(SourceError::Status(response.status().as_u16()));
            }
            let decode::Decoder { input, output } = decode::start(compression, offset, info.nar_size);
            let broken = Arc::<OnceLock<String>>::default();
            let feeder = feed(response.into_body(), input, Arc::clone(&received), Arc::clone(&broken));
            let feeder = AbortOnDropHandle::new(tokio::spawn(feeder));
            Ok(Flow { kind: FlowKind::Decoded { output, broken, _feeder: feeder }, received })
        }
    }
}

/// A body that is the NAR itself.
fn direct(response: Response<Incoming>, offset: u64, size: u64, received: Arc<AtomicU64>) -> Result<Flow, SourceError> {
    let headers = response.headers();
    if headers.contains_key(CONTENT_ENCODING) {
        return Err(SourceError::Status(response.status().as_u16()));
    }
    let (start, total) = match response.status() {
        // Some servers ignore ranges; then what we have is skipped.
        StatusCode::OK => (0, length(headers)),
        StatusCode::PARTIAL_CONTENT if offset > 0 => match content_range(headers) {
            Some((start, total)) if start == offset => (start, Some(total)),
            // harmonia before 3.2 mislabels; whatever it is, it is not what was asked for.
            _ => return Err(Lie::Range.into()),
        },
        other => return Err(SourceError::Status(other.as_u16())),
    };
    let total = total.ok_or(Lie::Size(0, size))?;
    if total != size {
        return Err(Lie::Size(total, size).into());
    }
    let flow = FlowKind::Direct { body: response.into_body(), skip: offset - start };
    Ok(Flow { kind: flow, received })
}

fn length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// First byte and total of `bytes FIRST-LAST/TOTAL`, if it reaches to the end.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let value = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (range, total) = value.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last, total): (u64, u64, u64) = (first.parse().ok()?, last.parse().ok()?, total.parse().ok()?);
    (first <= last && last.checked_add(1) == Some(total)).then_some((first, total))
}

/// Carries a compressed body to its decoder.
async fn feed(
    mut body: Incoming,
    input: mpsc::Sender<std::io::Result<Bytes>>,
    received: Arc<AtomicU64>,
    broken: Arc<OnceLock<String>>,
) {
    while let Some(frame) = body.frame().await {
        let chunk = match frame {
            Ok(frame) => match frame.into_data() {
                Ok(chunk) => chunk,
                Err(_trailers) => continue,
            },
            Err(error) => {
                // Before the decoder can complain about it.
                let _ = broken.set(error.to_string());
                let _ = input.send(Err(std::io::Error::other(error))).await;
                return;
            }
        };
        received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
        if input.send(Ok(chunk)).await.is_err() {
            return;
        }
    }
}

impl Flow {
    /// How many bytes came from the network so far.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// The next bytes; `None` at the end of what the source sends.
    ///
    /// Cancel safe: nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The source broke, or what it sends does not decode.
    pub(super) async fn chunk(&mut self) -> Option<Result<Bytes, SourceError>> {
        match &mut self.kind {
            FlowKind::Decoded { output, broken, .. } => match (output.recv().await, broken.get()) {
                (Some(Err(_)), Some(reason)) => Some(Err(SourceError::Connection(reason.clone()))),
                (chunk, _) => chunk,
            },
            FlowKind::Direct { body, skip } => loop {
                let mut chunk = match body.frame().await {
                    None if body.is_end_stream() => return None,
                    None => return Some(Err(SourceError::Connection("the body ended early".to_owned()))),
                    Some(Err(error)) => return Some(Err(SourceError::Connection(error.to_string()))),
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(chunk) => chunk,
                        Err(_trailers) => continue,
                    },
                };
                self.received.fetch_add(chunk.len() as u64, Ordering::Relaxed);
                let skipped = usize::try_from(*skip).unwrap_or(usize::MAX).min(chunk.len());
                chunk.advance(skipped);
                *skip -= skipped as u64;
                if chunk.is_empty() {
                    continue;
                }
                return Some(Ok(chunk));
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_ranges_must_reach_the_end() {
        let range = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_RANGE, value.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(range("bytes 5-9/10"), Some((5, 10)));
        for value in [
            "bytes 5-8/10",
            "bytes 9-5/10",
            "bytes 5-9/*",
            "bytes */10",
            "5-9/10",
            "bytes 5-18446744073709551615/0",
            "",
        ] {
            assert_eq!(range(value), None, "{value}");
        }
    }
}
