//! One NAR on its way: from one source after the other into a [`Stream`], its SHA-256 running beside it.

use super::candidates::{Candidates, Choice};
use super::error::{Lie, SourceError, TransferError};
use super::found::Found;
use super::hasher::Hasher;
use super::ledger::Trace;
use super::lookup::Lookup;
use super::pace::Pace;
use super::patience::Patience;
use super::source::{self, Flow, Offer};
use super::stream::Stream;
use crate::nix::PathInfo;
use crate::peers::{Peer, Sample};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

/// NARs up to this size are verified whole before their first byte goes to Nix, in bytes.
pub(super) const WHOLE: u64 = 16 * 1024 * 1024;
/// How much of a larger NAR is withheld until its hash and size are right, in bytes.
pub(super) const WITHHELD: u64 = 64 * 1024;
/// How much of a larger NAR waits in memory for its slowest reader, in bytes.
pub(super) const WINDOW: u64 = 4 * 1024 * 1024;
/// How much a source has to send, in bytes, until what it failed before is forgiven.
const GOOD_WAY: u64 = 1024 * 1024;

/// The transfer of an uncompressed NAR.
pub(super) struct Transfer {
    pub(super) lookup: Arc<Lookup>,
    pub(super) found: Arc<Found>,
    pub(super) stream: Arc<Stream>,
    pub(super) trace: Arc<Trace>,
}

/// Which bytes of a pass came from which source.
type Segments = Vec<(Offer, Range<u64>)>;

/// How one pass through the NAR ended.
enum Pass {
    /// All bytes came, and they are right.
    Verified,
    /// All bytes came, and they are wrong.
    Wrong(TransferError),
}

/// What one pass through the NAR has come to so far.
struct Progress {
    hasher: Hasher,
    offset: u64,
    segments: Segments,
    /// What to tell the peer table once the content has turned out right.
    samples: Vec<(Arc<Peer>, Sample)>,
}

impl Progress {
    fn start() -> Self {
        Self { hasher: Hasher::start(), offset: 0, segments: Vec::new(), samples: Vec::new() }
    }
}

/// A mixed pass that was wrong, kept until the right content tells who sent what was not.
struct Riddle {
    chunks: Vec<Bytes>,
    segments: Segments,
}

impl Transfer {
    fn info(&self) -> &PathInfo {
        &self.found.info
    }

    /// Runs it to its end, which the stream tells.
    pub(super) async fn run(self) -> Result<(), TransferError> {
        let outcome = self.attempt().await;
        let metrics = &self.lookup.metrics;
        match &outcome {
            Ok(()) => metrics.transfers_completed.add(1),
            Err(TransferError::Abandoned) => log::debug!(path:% = self.info().path; "given up: nobody reads"),
            Err(error) => {
                metrics.transfers_failed.add(1);
                log::info!(path:% = self.info().path, reason:% = error; "a transfer failed: {error}");
            }
        }
        self.stream.finish(outcome.clone());
        outcome
    }

    async fn attempt(&self) -> Result<(), TransferError> {
        let nar = self.info().nar_hash;
        let mut candidates = Candidates::new(self.found.offers(), self.lookup.suspects.of(nar));
        let mut widened = false;
        // After a mixed pass that was wrong, sources are tried one at a time.
        let mut riddle: Option<Riddle> = None;
        loop {
            let mut progress = Progress::start();
            let pass = self.pass(&mut progress, &mut candidates, &mut widened, riddle.is_some()).await?;
            match pass {
                Pass::Verified => {
                    for (peer, sample) in progress.samples {
                        peer.succeeded(sample);
                    }
                    if let Some(riddle) = riddle {
                        self.solve(riddle).await;
                    }
                    self.lookup.suspects.clear(nar);
                    return Ok(());
                }
                Pass::Wrong(error) if !self.stream.keeps_all() => {
                    let peers = progress.segments.iter().filter_map(|(offer, _)| offer.peer());
                    self.lookup.suspects.add(nar, peers.map(|peer| peer.id()));
                    return Err(error);
                }
                Pass::Wrong(_) => {
                    let chunks = self.stream.restart();
                    if progress.segments.len() > 1 {
                        riddle = Some(Riddle { chunks, segments: progress.segments });
                    }
                }
            }
        }
    }

    /// One pass from the first byte to the last. With `alone` nothing is mixed: another source begins anew.
    async fn pass(
        &self,
        progress: &mut Progress,
        candidates: &mut Candidates,
        widened: &mut bool,
        alone: bool,
    ) -> Result<Pass, TransferError> {
        let size = self.info().nar_size;
        while progress.offset < size {
            if progress.offset > 0 && alone {
                self.stream.restart();
                *progress = Progress::start();
            }
            let choice = self.choose(candidates, widened, progress.offset).await?;
            self.refuse_to_mix_suspects(candidates, &choice, progress)?;
            if progress.offset > 0 {
                self.lookup.metrics.transfers_failed_over.add(1);
                self.trace.failed_over();
                let (path, bytes) = (&self.info().path, progress.offset);
                log::info!(path:% = path, source:% = choice.offer, bytes; "going on from {} at byte {bytes}", choice.offer);
            }
            if let Err(error) = self.copy(&choice, candidates, progress).await? {
                self.blame(&choice.offer, &error);
                candidates.failed(choice.index, &error);
            }
        }
        let hasher = std::mem::replace(&mut progress.hasher, Hasher::start());
        let Some(hash) = hasher.finish().await else { return Err(TransferError::Abandoned) };
        if hash == self.info().nar_hash {
            return Ok(Pass::Verified);
        }
        self.lookup.metrics.verification_failures.add(1);
        let lie = Lie::NarHash(hash.to_string());
        let wrong = Pass::Wrong(TransferError::Corrupt(lie.to_string()));
        if let [(offer, _)] = progress.segments.as_slice() {
            let error = SourceError::Lie(lie);
            self.blame(offer, &error);
            candidates.banish(offer, &error);
        } else {
            log::warn!(path:% = self.info().path; "one of {} sources sent wrong content", progress.segments.len());
        }
        Ok(wrong)
    }

    /// Ends a transfer that is already being read rather than continue a suspect's content or have a suspect continue it.
    fn refuse_to_mix_suspects(
        &self,
        candidates: &Candidates,
        choice: &Choice,
        progress: &Progress,
    ) -> Result<(), TransferError> {
        let mut parts = progress.segments.iter().map(|(offer, _)| offer).chain([&choice.offer]);
        if progress.segments.is_empty() || self.stream.keeps_all() || !parts.any(|part| candidates.suspicion(part) > 0)
        {
            return Ok(());
        }
        // Who leaves early is asked later next time.
        let peers = progress.segments.iter().filter_map(|(offer, _)| offer.peer());
        self.lookup.suspects.add(self.info().nar_hash, peers.map(|peer| peer.id()));
        Err(TransferError::NoSource("its sources are not mixed after wrong content".to_owned()))
    }

    /// Bans those whose part of a mixed pass differs from the content that turned out right.
    async fn solve(&self, riddle: Riddle) {
        let right = self.stream.kept();
        let solve = move || {
            let Riddle { chunks, mut segments } = riddle;
            segments.retain(|(_, range)| slice(&right, range) != slice(&chunks, range));
            segments
        };
        // Megabytes are compared: not on the reactor. It fails only when the program is being stopped.
        for (offer, range) in tokio::task::spawn_blocking(solve).await.unwrap_or_default() {
            self.blame(&offer, &SourceError::Lie(Lie::Segment(range.start, range.end)));
        }
    }

    /// The next source to try, after its pause; asks the network again before it settles for one that has failed.
    async fn choose(
        &self,
        candidates: &mut Candidates,
        widened: &mut bool,
        offset: u64,
    ) -> Result<Choice, TransferError> {
        loop {
            match candidates.choose(offset) {
                Some(choice) if choice.is_fresh || *widened => {
                    tokio::time::sleep(choice.pause).await; // backoff
                    return Ok(choice);
                }
                None if *widened => return Err(TransferError::NoSource(candidates.last_error())),
                _ => {
                    *widened = true;
                    candidates.extend(self.found.offers());
                    candidates.extend(self.lookup.ask_all(self.info()).await);
                }
            }
        }
    }

    /// Copies from one source until the NAR is complete or the source fails (the inner result). The outer error is the
    /// transfer's own end.
    async fn copy(
        &self,
        choice: &Choice,
        candidates: &mut Candidates,
        progress: &mut Progress,
    ) -> Result<Result<(), SourceError>, TransferError> {
        let size = self.info().nar_size;
        let begun_at = progress.offset;
        let mut flow =
            match source::open(&choice.offer, self.info(), begun_at, patience(candidates, choice, begun_at)).await {
                Ok(flow) => flow,
                Err(error) => return Ok(Err(error)),
            };
        let withheld = if self.stream.keeps_all() { size } else { WITHHELD };
        let (mut pace, mut received) = (Pace::start(choice.offer.given()), 0);
        let mut known = 0;
        while progress.offset < size {
            // Those who answered the lookup after it was over: how patient we are depends on them.
            if self.found.count() != known {
                known = self.found.count();
                candidates.extend(self.found.offers());
            }
            let since = Instant::now();
            let chunk = match next(&mut flow, &choice.offer, patience(candidates, choice, progress.offset)).await {
                Some(Ok(chunk)) => chunk,
                Some(Err(error)) => return Ok(Err(error)),
                None => return Ok(Err(SourceError::Truncated(progress.offset, size))),
            };
            let waited = since.elapsed();
            let length = chunk.len() as u64;
            if length > size - progress.offset {
                return Ok(Err(Lie::Size(progress.offset + length, size).into()));
            }
            match progress.segments.last_mut() {
                Some((offer, range)) if offer.is_same_source(&choice.offer) => range.end += length,
                _ => {
                    self.trace.flows_from(choice.offer.name());
                    progress.segments.push((choice.offer.clone(), progress.offset..progress.offset + length));
                }
            }
            self.count(&choice.offer, length);
            progress.hasher.push(chunk.clone()).await;
            self.stream.write(chunk, withheld).await?;
            progress.offset += length;
            self.trace.reached(progress.offset);
            if progress.offset - begun_at >= GOOD_WAY {
                candidates.progressed(choice.index);
            }
            // Of what came from the network: a decoder may have to skip most of it.
            let new = flow.received() - received;
            received += new;
            if let Err(error) = pace.note(waited, new, choice.offer.given()) {
                return Ok(Err(error));
            }
        }
        if let Offer::Peer(peer) = &choice.offer {
            let sample = Sample { bytes: progress.offset - begun_at, elapsed: pace.waited() };
            progress.samples.push((Arc::clone(peer), sample));
        }
        Ok(Ok(()))
    }

    fn count(&self, offer: &Offer, bytes: u64) {
        match offer {
            Offer::Peer(peer) => {
                self.lookup.metrics.fetched_peer_bytes.add(bytes);
                peer.gave(bytes);
            }
            Offer::Upstream { upstream, .. } => {
                self.lookup.metrics.fetched_upstream_bytes.add(bytes);
                upstream.gave(bytes);
            }
        }
    }

    /// Tells the peer table, or the log for an upstream.
    fn blame(&self, offer: &Offer, error: &SourceError) {
        match offer {
            Offer::Peer(peer) => {
                let path = &self.info().path;
                self.lookup.blame_for(peer, path.hash(), Some(path), error);
            }
            Offer::Upstream { upstream, .. } => {
                let path = &self.info().path;
                log::warn!(upstream:% = upstream, path:% = path, reason:% = error; "an upstream failed: {error}");
            }
        }
    }
}

/// How long a source may be silent.
fn patience(candidates: &Candidates, choice: &Choice, offset: u64) -> Patience {
    Patience::new(candidates.has_other(choice.index, offset))
}

/// The next chunk of `flow` from `offer`.
async fn next(flow: &mut Flow, offer: &Offer, patience: Patience) -> Option<Result<Bytes, SourceError>> {
    loop {
        let before = flow.received();
        match patience.wait_for(flow.chunk(), || offer.given()).await {
            Ok(chunk) => return chunk,
            // A decoder that skips what the reader already has gives nothing while it works.
            Err(_) if flow.received() > before => {}
            Err(waited) => return Some(Err(SourceError::Stalled(waited))),
        }
    }
}

/// The bytes of `range` of what `chunks` hold together.
fn slice(chunks: &[Bytes], range: &Range<u64>) -> Vec<u8> {
    let mut offset = 0;
    let mut bytes = Vec::new();
    for chunk in chunks {
        let end = offset + chunk.len() as u64;
        let inside = |at: u64| usize::try_from(at.clamp(offset, end) - offset).unwrap_or(chunk.len());
        bytes.extend_from_slice(&chunk[inside(range.start)..inside(range.end)]);
        offset = end;
    }
    bytes
}
