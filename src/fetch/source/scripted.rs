//! Sources for tests that do what they are told, in virtual time. The real ones are driven over real sockets in `tests/`; here every
//! order of death, stall and lie is wanted, thousands of times.

use super::{Abilities, ByteFlow, NarId, Remote, Source, SourceId, Standing, Tier};
use crate::fetch::error::SourceError;
use crate::fetch::pieces::table::PieceTable;
use crate::nix::StoreHash;
use crate::peers::hello::WEIGHT_MAX;
use crate::peers::{Failure, NodeKey, Sample};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// One thing that a source does once it is asked for a NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Sends so many bytes.
    Send(usize),
    /// Sends so many bytes, of which the first is wrong.
    Corrupt(usize),
    /// Sends nothing for so long.
    Wait(Duration),
    /// Sends nothing any more.
    Stall,
    /// The connection breaks.
    Die,
    /// Says that this was all.
    End,
    /// Sends more than the NAR is long.
    Overrun,
}

/// So many bytes, no two near each other alike.
pub(crate) fn content(size: usize) -> Bytes {
    (0..size).map(|at| u8::try_from(at * 31 % 251).unwrap_or_default()).collect::<Vec<_>>().into()
}

/// What one request for the NAR meets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Script {
    /// It is refused, with this status.
    Refuse(u16),
    /// It is told to come again in a moment.
    Busy,
    /// It is answered after so long; then this is done, and after that everything that is left is sent.
    Answer(Duration, Vec<Act>),
}

impl Script {
    /// It is answered at once.
    pub(crate) fn at_once(acts: &[Act]) -> Self {
        Self::Answer(Duration::ZERO, acts.to_vec())
    }
}

/// What became known of a source.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// From which bytes on it was asked.
    pub(crate) opened: Vec<u64>,
    /// Of which paths it sent damaged content.
    pub(crate) barred: Vec<StoreHash>,
    /// Why it was banned.
    pub(crate) banned: Vec<String>,
    pub(crate) failures: Vec<Failure>,
    /// How many bytes each success had.
    pub(crate) successes: Vec<u64>,
    /// Whether it did anything that no honest source does.
    pub(crate) lied: bool,
    /// Whether it did anything at all that is not as it should be.
    pub(crate) faulty: bool,
}

impl Record {
    /// Whether it was neither barred from a path nor banned.
    pub(crate) fn is_blameless(&self) -> bool {
        self.barred.is_empty() && self.banned.is_empty()
    }
}

/// A source that does what it is told.
pub(crate) struct Scripted {
    id: SourceId,
    content: Bytes,
    abilities: Abilities,
    table: Option<PieceTable>,
    standing: Mutex<Standing>,
    scripts: Mutex<VecDeque<Script>>,
    /// What is done when no script is left.
    last: Script,
    given: AtomicU64,
    record: Arc<Mutex<Record>>,
}

impl Scripted {
    /// A peer with this number that has `content`: each request meets one of `scripts`, later ones an honest answer.
    pub(crate) fn peer(number: u8, content: &Bytes, scripts: impl IntoIterator<Item = Script>) -> Self {
        let standing =
            Standing { usable: true, tier: Tier::Online, latency: None, throughput: None, weight: WEIGHT_MAX };
        Self {
            id: SourceId::Peer(NodeKey::from_seed([number; 32]).id()),
            content: content.clone(),
            abilities: Abilities {
                begins_anywhere: true,
                silence: Duration::from_secs(5),
                is_far: false,
                is_partial: false,
                is_once: false,
            },
            table: None,
            standing: Mutex::new(standing),
            scripts: Mutex::new(scripts.into_iter().collect()),
            last: Script::at_once(&[]),
            given: AtomicU64::new(0),
            record: Arc::default(),
        }
    }

    /// An upstream, which has the NAR compressed.
    pub(crate) fn upstream(number: u8, content: &Bytes, scripts: impl IntoIterator<Item = Script>) -> Self {
        let id = SourceId::Upstream(format!("http://{number}.example.org").parse().unwrap());
        let abilities = Abilities {
            begins_anywhere: false,
            silence: Duration::from_secs(30),
            is_far: true,
            is_partial: false,
            is_once: false,
        };
        let standing =
            Standing { usable: true, tier: Tier::Upstream, latency: None, throughput: None, weight: WEIGHT_MAX };
        Self { id, abilities, standing: Mutex::new(standing), ..Self::peer(0, content, scripts) }
    }

    /// A peer that is fetching `content` itself.
    pub(crate) fn partial(number: u8, content: &Bytes, scripts: impl IntoIterator<Item = Script>) -> Self {
        let id = SourceId::Partial(NodeKey::from_seed([number; 32]).id());
        let silence = Duration::from_secs(3);
        let abilities = Abilities { begins_anywhere: true, silence, is_far: false, is_partial: true, is_once: false };
        Self { id, abilities, ..Self::peer(number, content, scripts) }
    }

    /// The same, with its last script for all further requests.
    pub(crate) fn for_ever(mut self) -> Self {
        self.last = self.scripts.lock().pop_back().unwrap_or(self.last);
        self
    }

    /// The same, which gives pieces, and says that this is their table.
    pub(crate) fn telling(mut self, table: PieceTable) -> Self {
        self.table = Some(table);
        self
    }

    /// The same, with other measures.
    pub(crate) fn measured(self, latency: Duration, throughput: f64) -> Self {
        let mut standing = self.standing.lock();
        (standing.latency, standing.throughput) = (Some(latency), Some(throughput));
        drop(standing);
        self
    }

    /// What became known of it.
    pub(crate) fn record(&self) -> Record {
        self.record.lock().clone()
    }
}

impl Remote for Scripted {
    fn id(&self) -> SourceId {
        self.id.clone()
    }

    fn succeeded(&self, sample: Sample) {
        self.record.lock().successes.push(sample.bytes);
    }

    fn failed(&self, failure: Failure) {
        self.record.lock().failures.push(failure);
    }

    fn bar(&self, hash: StoreHash) -> Option<usize> {
        let barred = &mut self.record.lock().barred;
        if barred.contains(&hash) {
            return None;
        }
        barred.push(hash);
        Some(barred.len())
    }

    fn ban(&self, reason: &str, _: Duration) -> bool {
        self.record.lock().banned.push(reason.to_owned());
        self.standing.lock().usable = false;
        true
    }
}

#[async_trait]
impl Source for Scripted {
    fn remote(&self) -> &dyn Remote {
        self
    }

    fn abilities(&self) -> Abilities {
        self.abilities
    }

    fn standing(&self) -> Standing {
        *self.standing.lock()
    }

    fn given(&self) -> u64 {
        self.given.load(Relaxed)
    }

    fn gave(&self, bytes: u64) {
        self.given.fetch_add(bytes, Relaxed);
    }

    async fn open(&self, nar: &NarId, from: u64) -> Result<Box<dyn ByteFlow>, SourceError> {
        self.open_part(nar, from..self.content.len() as u64).await
    }

    fn has_pieces(&self) -> bool {
        self.table.is_some()
    }

    async fn table(&self, _: &NarId) -> Result<PieceTable, SourceError> {
        self.table.clone().ok_or(SourceError::Status(404))
    }

    async fn open_part(&self, nar: &NarId, bytes: Range<u64>) -> Result<Box<dyn ByteFlow>, SourceError> {
        if self.record.lock().barred.contains(&nar.hash) {
            return Err(SourceError::Barred);
        }
        self.record.lock().opened.push(bytes.start);
        let script = self.scripts.lock().pop_front().unwrap_or_else(|| self.last.clone());
        match script {
            Script::Busy => Err(SourceError::Busy),
            Script::Refuse(status) => {
                self.record.lock().faulty = true;
                Err(SourceError::Status(status))
            }
            Script::Answer(after, acts) => {
                self.record.lock().faulty |= !after.is_zero();
                sleep(after).await; // pace
                let record = Arc::clone(&self.record);
                let at = |byte| usize::try_from(byte).unwrap();
                let content = self.content.slice(at(bytes.start)..at(bytes.end));
                Ok(Box::new(ScriptedFlow { content, acts: acts.into(), record, timer: None, received: 0 }))
            }
        }
    }
}

/// Bytes as a script has them.
struct ScriptedFlow {
    /// What is left.
    content: Bytes,
    acts: VecDeque<Act>,
    record: Arc<Mutex<Record>>,
    timer: Option<Pin<Box<Sleep>>>,
    received: u64,
}

impl ScriptedFlow {
    fn send(&mut self, length: usize) -> Poll<Option<Result<Bytes, SourceError>>> {
        let chunk = self.content.split_to(length.min(self.content.len()));
        self.received += chunk.len() as u64;
        Poll::Ready((!chunk.is_empty()).then_some(Ok(chunk)))
    }
}

impl ByteFlow for ScriptedFlow {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        loop {
            if let Some(timer) = &mut self.timer {
                ready!(timer.as_mut().poll(context));
                self.timer = None;
            }
            let act = self.acts.pop_front().unwrap_or(Act::Send(usize::MAX));
            self.record.lock().faulty |= !matches!(act, Act::Send(_));
            match act {
                Act::Send(0) => {}
                Act::Send(length) => return self.send(length),
                Act::Corrupt(length) => {
                    let mut chunk = self.content.split_to(length.min(self.content.len())).to_vec();
                    if let Some(first) = chunk.first_mut() {
                        *first ^= 1;
                        self.record.lock().lied = true;
                        self.received += chunk.len() as u64;
                        return Poll::Ready(Some(Ok(chunk.into())));
                    }
                }
                Act::Wait(time) => self.timer = Some(Box::pin(sleep(time))), // pace
                Act::Stall => {
                    self.acts.push_front(Act::Stall);
                    return Poll::Pending;
                }
                Act::Die => return Poll::Ready(Some(Err(SourceError::Connection("it died".to_owned())))),
                Act::End => return Poll::Ready(None),
                Act::Overrun => {
                    self.record.lock().lied = true;
                    let longer = [self.content.as_ref(), b"x"].concat();
                    return Poll::Ready(Some(Ok(longer.into())));
                }
            }
        }
    }

    fn received(&self) -> u64 {
        self.received
    }
}
