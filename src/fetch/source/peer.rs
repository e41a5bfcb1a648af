//! A peer as a source: the uncompressed NAR from any offset, at the URL that the protocol fixes.

use super::decode::Codec;
use super::decoded::{Decoded, Feed};
use super::direct::{Direct, Extent, extent, is_part};
use super::timed::{Measures, Timed, Tried};
use super::upstream::collect;
use super::{Abilities, ByteFlow, NarId, PatchBody, Remote, Source, SourceId, Standing, Tier, decode};
use crate::fetch::error::{SourceError, Violation};
use crate::fetch::patch::message::{self, BASE_HEADER, BaseName};
use crate::fetch::pieces::table::{self, PieceTable};
use crate::nix::{NarHash, StoreHash};
use crate::peers::compression::{Wish, is_compressed, tried};
use crate::peers::{Failure, LinkError, Peer, Sample, State};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use hyper::{Response, StatusCode};
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

/// How long a peer may be silent when there is no other source.
const SILENCE: Duration = Duration::from_secs(5);

/// A peer.
pub(crate) struct PeerSource(pub(crate) Arc<Peer>);

impl PeerSource {
    /// Sends a GET and waits for the head of the answer.
    ///
    /// # Errors
    /// The peer did not answer, has too much to do, or could not be asked, which is not its fault.
    pub(crate) async fn get(&self, target: &str, from: Option<u64>) -> Result<Response<Incoming>, SourceError> {
        answered(self.0.get(target, from).await)
    }

    /// The same for a POST, which may be sent twice.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub(crate) async fn post(&self, target: &str, body: Bytes) -> Result<Response<Incoming>, SourceError> {
        answered(self.0.post(target, body).await)
    }
}

impl PeerSource {
    /// Whether it is there, as far as is known.
    pub(crate) fn may_be_asked(&self) -> bool {
        !matches!(self.0.state(), State::Offline | State::Blocked) && self.0.weight() > 0
    }

    /// These bytes of a NAR, in the form that the line is worth.
    async fn read(&self, nar: &NarId, bytes: Range<u64>) -> Result<Box<dyn ByteFlow>, SourceError> {
        self.must_not_be_barred(nar.hash)?;
        let length = bytes.end.saturating_sub(bytes.start);
        match self.0.wish(length, length == nar.size) {
            Wish::Compressed(line) => {
                let response = self.ask(nar, &bytes, Some(line)).await?;
                if is_compressed(response.headers()).map_err(SourceError::Encoding)? {
                    return Ok(Box::new(decoded(response, &bytes, nar.size, Arc::clone(&self.0))?));
                }
                Ok(Box::new(direct(response, &bytes, nar.size)?))
            }
            Wish::Measured if tried(length) < length => self.tried(nar, bytes).await,
            wish => {
                let measures = (wish == Wish::Measured).then(|| Measures::new(&self.0));
                Ok(Box::new(self.timed(nar, &bytes, measures).await?))
            }
        }
    }

    async fn ask(&self, nar: &NarId, bytes: &Range<u64>, line: Option<u64>) -> Result<Response<Incoming>, SourceError> {
        let target = format!("/{}", nar_url(nar.hash, &nar.nar_hash));
        let end = (bytes.end < nar.size).then_some(bytes.end);
        let response = answered(self.0.get_nar(&target, (bytes.start, end), line).await)?;
        // The protocol leaves a peer no choice of this.
        if let Some(layer) = decode::encodings(response.headers())?.first() {
            return Err(SourceError::Encoding(layer.name().to_owned()));
        }
        Ok(response)
    }

    /// These bytes of a NAR as they are.
    async fn timed(&self, nar: &NarId, bytes: &Range<u64>, measures: Option<Measures>) -> Result<Timed, SourceError> {
        let flow = direct(self.ask(nar, bytes, None).await?, bytes, nar.size)?;
        Ok(Timed::begin(flow, bytes.end.saturating_sub(bytes.start), Arc::clone(&self.0), measures))
    }

    /// These bytes, first some of them as they are; by how fast those come it is seen whether the others should be compressed.
    async fn tried(&self, nar: &NarId, bytes: Range<u64>) -> Result<Box<dyn ByteFlow>, SourceError> {
        let measures = Measures::new(&self.0);
        let middle = bytes.start + tried(bytes.end.saturating_sub(bytes.start));
        let first = self.timed(nar, &(bytes.start..middle), Some(measures)).await?;
        let (source, nar) = (Self(Arc::clone(&self.0)), *nar);
        let rest = Box::pin(async move { source.open_part(&nar, middle..bytes.end).await });
        Ok(Box::new(Tried::new(first, rest)))
    }

    /// A path of which it sent damaged content is not asked of it.
    ///
    /// # Errors
    /// This is one.
    pub(crate) fn must_not_be_barred(&self, hash: StoreHash) -> Result<(), SourceError> {
        if self.0.is_barred(hash) {
            return Err(SourceError::Barred);
        }
        Ok(())
    }
}

/// The body of an answer that is not compressed; its length is always told.
fn direct(response: Response<Incoming>, bytes: &Range<u64>, size: u64) -> Result<Direct, SourceError> {
    if bytes.end < size {
        return Direct::part(response, bytes, size);
    }
    if response.body().size_hint().exact().is_none() {
        return Err(Violation::Size(0, size).into());
    }
    Direct::new(response, bytes.start, size)
}

/// The body of one that is.
fn decoded(
    response: Response<Incoming>,
    bytes: &Range<u64>,
    size: u64,
    peer: Arc<Peer>,
) -> Result<Decoded, SourceError> {
    let first = if bytes.end < size {
        is_part(&response, bytes, size)?;
        bytes.start
    } else {
        let Extent { first, total } = extent(&response, bytes.start)?;
        if let Some(total) = total.filter(|total| *total != size) {
            return Err(Violation::Size(total, size).into());
        }
        first
    };
    let wire = Wire { body: response.into_body(), peer };
    Ok(Decoded::new(wire, vec![Codec::PeerZstd], bytes.start - first, bytes.end - first))
}

/// What comes compressed, for the decoder.
struct Wire {
    body: Incoming,
    peer: Arc<Peer>,
}

impl Feed for Wire {
    async fn next(&mut self) -> Option<Result<Bytes, SourceError>> {
        while let Some(frame) = self.body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(chunk)) => {
                    self.peer.line_carried(chunk.len() as u64);
                    return Some(Ok(chunk));
                }
                Ok(Err(_trailers)) => {}
                Err(error) => return Some(Err(SourceError::Connection(error.to_string()))),
            }
        }
        None
    }
}

/// A body as it is sent, whatever is in it.
struct Raw {
    body: Incoming,
    received: u64,
}

impl ByteFlow for Raw {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(context)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(chunk))) => {
                    self.received += chunk.len() as u64;
                    return Poll::Ready(Some(Ok(chunk)));
                }
                Some(Ok(Err(_trailers))) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(SourceError::Connection(error.to_string())))),
                None => return Poll::Ready(None),
            }
        }
    }

    fn received(&self) -> u64 {
        self.received
    }
}

fn answered(answer: Result<Response<Incoming>, LinkError>) -> Result<Response<Incoming>, SourceError> {
    let response = answer.map_err(|error| match error {
        // It has no place for us, or we are the ones who keep it busy.
        LinkError::Busy(_) | LinkError::AllInUse(_) => SourceError::Busy,
        error if error.doubts_peer() => SourceError::Connection(error.to_string()),
        error => SourceError::Unavailable(error.to_string()),
    })?;
    match response.status() {
        StatusCode::SERVICE_UNAVAILABLE => Err(SourceError::Busy),
        _ => Ok(response),
    }
}

/// Where a peer tells the table of the pieces of a NAR, but for the name of the NAR.
pub(crate) const PIECES: &str = "/peernix/v1/pieces/";

/// The NAR URL that the peer protocol fixes.
pub(crate) fn nar_url(hash: StoreHash, nar_hash: &NarHash) -> String {
    format!("nar/{hash}-{}.nar", nar_hash.to_nix32())
}

impl Remote for PeerSource {
    fn id(&self) -> SourceId {
        SourceId::Peer(self.0.id())
    }

    fn succeeded(&self, sample: Sample) {
        self.0.succeeded(sample);
    }

    fn failed(&self, failure: Failure) {
        self.0.failed(failure);
    }

    fn ban(&self, reason: &str, duration: Duration) -> bool {
        // Several requests may find the same peer out at once.
        let is_new = self.0.state() != State::Blocked;
        if is_new {
            self.0.ban(reason, duration);
        }
        is_new
    }

    fn bar(&self, hash: StoreHash) -> Option<usize> {
        self.0.bar(hash)
    }

    fn kept_us_waiting(&self, _: Instant) {
        self.0.kept_waiting();
    }

    fn own_name(&self) -> String {
        self.0.name()
    }
}

#[async_trait]
impl Source for PeerSource {
    fn remote(&self) -> &dyn Remote {
        self
    }

    fn abilities(&self) -> Abilities {
        // One of another site is as far away as an upstream.
        let is_far = self.0.is_far();
        Abilities { begins_anywhere: true, silence: SILENCE, is_far, is_partial: false, is_once: false }
    }

    fn standing(&self) -> Standing {
        let state = self.0.state();
        Standing {
            usable: self.may_be_asked(),
            tier: match state {
                _ if self.0.is_far() => Tier::Upstream,
                State::Online | State::Resting => Tier::Online,
                _ => Tier::Doubtful,
            },
            latency: self.0.latency(),
            throughput: self.0.throughput(),
            weight: self.0.weight(),
        }
    }

    fn given(&self) -> u64 {
        self.0.given()
    }

    fn gave(&self, bytes: u64) {
        self.0.gave(bytes);
    }

    async fn open(&self, nar: &NarId, from: u64) -> Result<Box<dyn ByteFlow>, SourceError> {
        self.read(nar, from..nar.size).await
    }

    fn has_pieces(&self) -> bool {
        self.0.gives_pieces()
    }

    async fn table(&self, nar: &NarId) -> Result<PieceTable, SourceError> {
        self.must_not_be_barred(nar.hash)?;
        let length = table::length(nar.size).map_err(|error| SourceError::Unavailable(error.to_string()))?;
        let target = format!("{PIECES}{}-{}", nar.hash, nar.nar_hash.to_nix32());
        let response = self.get(&target, None).await?;
        if response.status() != StatusCode::OK {
            return Err(SourceError::Status(response.status().as_u16()));
        }
        let told = collect(response.into_body(), length).await?;
        PieceTable::parse(told, nar.size).map_err(|_| Violation::Table.into())
    }

    fn gives_patches(&self) -> bool {
        self.0.gives_patches()
    }

    async fn patch(&self, nar: &NarId, from: u64, bases: &[BaseName]) -> Result<PatchBody, SourceError> {
        self.must_not_be_barred(nar.hash)?;
        let target = format!("{}{}-{}", message::TARGET, nar.hash, nar.nar_hash.to_nix32());
        let response = self.post(&target, message::request(from, bases)).await?;
        if response.status() != StatusCode::OK {
            return Err(SourceError::Status(response.status().as_u16()));
        }
        let base = response.headers().get(BASE_HEADER).and_then(|base| base.to_str().ok()?.parse().ok());
        let base = base.ok_or_else(|| SourceError::Encoding("a patch on no base".to_owned()))?;
        Ok(PatchBody { base, wire: Box::new(Raw { body: response.into_body(), received: 0 }) })
    }

    async fn open_part(&self, nar: &NarId, bytes: Range<u64>) -> Result<Box<dyn ByteFlow>, SourceError> {
        self.read(nar, bytes).await
    }
}
