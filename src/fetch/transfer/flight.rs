//! One source at work for one transfer: opened, listened to, and given up when it is silent or slow.

use super::min_rate::MinRate;
use super::stall_timeout::StallTimeout;
use crate::fetch::error::SourceError;
use crate::fetch::source::{ByteFlow, NarId, Source};
use crate::peers::Sample;
use bytes::Bytes;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How much larger than the NAR its file may be: what cannot be compressed grows a little.
const SLACK: u64 = 16;
const SLACK_MIN: u64 = 1024 * 1024;
/// How long a source that is near may send what gives nothing: a block of what is compressed, over a slow line that many share.
const DRIP_MAX: Duration = Duration::from_secs(30);

type Opening = Pin<Box<dyn Future<Output = Result<Box<dyn ByteFlow>, SourceError>> + Send>>;

/// A source that sends, or is about to.
pub(crate) struct Flight {
    pub(crate) source: Arc<dyn Source>,
    state: State,
    stall: StallTimeout,
    rate: MinRate,
    /// Since when the next bytes are waited for.
    waiting_since: Instant,
    /// How many bytes had come from the network when something came out last…
    received: u64,
    /// … and when it was looked at last.
    noticed: u64,
    /// What comes beyond this is no sign of life: no file of this NAR is as long.
    most: u64,
    /// How many came between the last two times that something came out.
    fresh: u64,
    /// How many were handed on.
    sent: u64,
}

enum State {
    Opening(Opening),
    Open(Box<dyn ByteFlow>),
}

/// What came of waiting.
enum Event {
    Opened(Result<Box<dyn ByteFlow>, SourceError>),
    Chunk(Option<Result<Bytes, SourceError>>),
}

impl State {
    async fn event(&mut self) -> Event {
        match self {
            Self::Opening(opening) => Event::Opened(opening.await),
            Self::Open(flow) => Event::Chunk(poll_fn(|context| flow.poll_chunk(context)).await),
        }
    }

    fn received(&self) -> u64 {
        if let Self::Open(flow) = self { flow.received() } else { 0 }
    }
}

impl Flight {
    /// Begins to open `nar` at `source` from byte `from` on.
    pub(crate) fn begin(source: Arc<dyn Source>, nar: NarId, from: u64) -> Self {
        let (now, given) = (Instant::now(), source.given());
        let most = nar.size + nar.size / SLACK + SLACK_MIN;
        let opening = Box::pin({
            let source = Arc::clone(&source);
            async move { source.open(&nar, from).await }
        });
        let rate = if source.abilities().is_partial { MinRate::of_partial() } else { MinRate::start(given) };
        let stall = StallTimeout::start(now, given);
        Self {
            source,
            state: State::Opening(opening),
            stall,
            rate,
            waiting_since: now,
            received: 0,
            noticed: 0,
            most,
            fresh: 0,
            sent: 0,
        }
    }

    /// The next bytes; `None` at the end of what the source sends. `has_other`: another source could go on.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// The source broke, or was silent or slow for too long.
    pub(crate) async fn next(&mut self, has_other: bool) -> Option<Result<Bytes, SourceError>> {
        let abilities = self.source.abilities();
        // What is asked once helps itself before anybody else does.
        let has_other = has_other && !abilities.is_once;
        loop {
            let due = match self.state {
                // What is far away has limits of its own for this.
                State::Opening(_) if abilities.is_far => None,
                _ => Some(self.stall.deadline(abilities.silence, has_other)),
            };
            let silence = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                event = self.state.event() => match event {
                    Event::Opened(Ok(flow)) => self.state = State::Open(flow),
                    Event::Opened(Err(error)) => return Some(Err(error)),
                    Event::Chunk(chunk) => return Some(self.judge(chunk?, has_other)),
                },
                () = silence => {
                    let (now, given, received) = (Instant::now(), self.source.given(), self.state.received());
                    let is_patient = abilities.is_far || self.waiting_since.elapsed() < DRIP_MAX;
                    if received > self.noticed && received <= self.most && is_patient {
                        // A decoder gives nothing while it skips what is there already, or has a part of a block only.
                        self.noticed = received;
                        self.stall = StallTimeout::start(now, given);
                    } else if let Some(waited) = self.stall.stalled(now, given, abilities.silence, has_other) {
                        return Some(Err(SourceError::Stalled(waited)));
                    }
                }
            }
        }
    }

    fn judge(&mut self, chunk: Result<Bytes, SourceError>, has_other: bool) -> Result<Bytes, SourceError> {
        let chunk = chunk?;
        let received = self.state.received();
        self.fresh = received - self.received;
        (self.received, self.noticed) = (received, received);
        self.source.gave(self.fresh);
        // What compresses well is not slow; and what is on the disk did not come.
        let progress = self.fresh.max(chunk.len() as u64);
        let rate = self.rate.note(self.waiting_since.elapsed(), progress, self.source.given());
        if has_other || !self.source.abilities().is_far {
            rate?;
        }
        Ok(chunk)
    }

    /// How many bytes came from the network for what was given last.
    pub(crate) const fn fresh(&self) -> u64 {
        self.fresh
    }

    /// What it gave was taken in: from now on the next bytes are waited for.
    pub(crate) fn taken(&mut self, bytes: u64) {
        let now = Instant::now();
        self.sent += bytes;
        self.waiting_since = now;
        self.stall = StallTimeout::start(now, self.source.given());
    }

    /// What it did, for the record.
    pub(crate) const fn sample(&self) -> Sample {
        Sample { bytes: self.sent, elapsed: self.rate.waited() }
    }
}
