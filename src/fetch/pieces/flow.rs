//! Carries out what [`super::stripes`] decides: asks members for their stripes, has every piece checked, and hands them on in order.

use super::group::Group;
use super::stripes::{Action, Event, Key, Stripes};
use super::table::{PIECE, bytes_of};
use crate::fetch::blame::About;
use crate::fetch::error::{SourceError, Violation};
use crate::fetch::source::{ByteFlow, Source};
use crate::peers::Sample;
use bytes::{Bytes, BytesMut};
use std::collections::HashMap;
use std::future::poll_fn;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;

/// How long a member may be silent while others could send what it sends…
const SILENCE: Duration = Duration::from_secs(1);
/// … and when it is the only one.
const SILENCE_ALONE: Duration = Duration::from_secs(5);
/// How much longer it may take to begin: a share lets who asks wait for a second before it says that it is busy.
const BEGIN: Duration = Duration::from_millis(1500);
/// How long a piece may take. Others send one that is waited for long before; this is for whoever sends a byte now and then.
const PIECE_MAX: Duration = Duration::from_secs(60);
/// How many events may wait.
const EVENTS: usize = 64;

/// The bytes of a NAR that several machines send, in order and each piece proved by its table.
pub(crate) struct PieceFlow {
    pieces: mpsc::Receiver<Result<Bytes, SourceError>>,
    received: Arc<AtomicU64>,
    _task: AbortOnDropHandle<()>,
}

impl PieceFlow {
    /// The NAR from byte `from` on.
    pub(crate) fn begin(group: Arc<Group>, from: u64) -> Self {
        // One piece is handed on while the next one is taken; what is more waits in the window.
        let (out, pieces) = mpsc::channel(1);
        let received = Arc::<AtomicU64>::default();
        let run = Run::new(group, from, Arc::clone(&received));
        Self { pieces, received, _task: AbortOnDropHandle::new(tokio::spawn(run.run(out))) }
    }
}

impl ByteFlow for PieceFlow {
    fn poll_chunk(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, SourceError>>> {
        self.pieces.poll_recv(context)
    }

    fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }
}

/// What is heard of a member.
enum Heard {
    /// The next piece of the stripe with this number.
    Piece { key: Key, stripe: u64, number: u32, content: Bytes },
    /// That stripe came to nothing.
    Failed { key: Key, stripe: u64, error: SourceError },
    /// A piece was checked; `None`: it is wrong.
    Checked { key: Key, number: u32, content: Option<Bytes> },
}

/// A stripe that a member sends.
struct Running {
    stripe: u64,
    /// Before which piece it stops.
    end: Arc<AtomicU32>,
    _task: AbortOnDropHandle<()>,
}

/// A member at work.
#[derive(Default)]
struct Member {
    running: Option<Running>,
    /// What it sent that was right, and how long it took for it.
    sample: Sample,
    /// Since when it sends what comes next.
    since: Option<Instant>,
}

struct Run {
    group: Arc<Group>,
    stripes: Stripes,
    members: Vec<Member>,
    begun: Instant,
    /// Those that are right and were not handed on.
    pieces: HashMap<u32, Bytes>,
    /// All pieces are among those that are wanted.
    is_all: bool,
    /// How much of the first piece is not wanted, in bytes.
    skip: usize,
    /// The number of the last stripe.
    last: u64,
    heard: mpsc::Sender<Heard>,
    hearing: mpsc::Receiver<Heard>,
    received: Arc<AtomicU64>,
}

impl Run {
    fn new(group: Arc<Group>, from: u64, received: Arc<AtomicU64>) -> Self {
        let (heard, hearing) = mpsc::channel(EVENTS);
        let first = u32::try_from(from / PIECE).unwrap_or(u32::MAX);
        let members = group.members.len();
        Self {
            stripes: Stripes::new(first, group.count, members),
            members: (0..members).map(|_| Member::default()).collect(),
            begun: Instant::now(),
            pieces: HashMap::new(),
            is_all: first == 0,
            // Lossless: less than a piece.
            skip: usize::try_from(from % PIECE).unwrap_or_default(),
            last: 0,
            heard,
            hearing,
            received,
            group,
        }
    }

    async fn run(mut self, out: mpsc::Sender<Result<Bytes, SourceError>>) {
        self.stripes.handle(Event::Tick, self.now());
        loop {
            while let Some(action) = self.stripes.next_action() {
                self.carry_out(action);
            }
            if self.stripes.is_done() {
                return self.tell_how_it_went();
            }
            if self.stripes.is_lost() {
                let error = SourceError::Connection("nobody is left who sends pieces".to_owned());
                // Whoever does not listen any more does not want to know.
                let _ = out.send(Err(error)).await;
                return;
            }
            let (has_next, look) = (self.stripes.has_next(), self.stripes.next_look(self.now()));
            let look = async {
                match look {
                    Some(look) => sleep_until(self.begun + look).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Ours is one of the senders: it is never closed.
                Some(heard) = self.hearing.recv() => self.hear(heard),
                place = out.reserve(), if has_next => {
                    let Ok(place) = place else { return };
                    if let Some(piece) = self.hand_on() {
                        place.send(Ok(piece));
                    }
                }
                () = look => self.stripes.handle(Event::Tick, self.begun.elapsed()),
            }
        }
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Request(key, pieces) => self.request(key, pieces),
            Action::Shorten(key, end) => {
                if let Some(running) = &self.members[key].running {
                    running.end.store(end, Relaxed);
                }
            }
            Action::Cancel(key) => self.members[key].running = None,
            Action::Blame(key, number) => {
                let bytes = bytes_of(&(number..number + 1), self.group.nar.size);
                self.group.metrics.pieces_wrong.add(1);
                self.blame(key, &Violation::Segment(bytes.start, bytes.end).into());
            }
        }
    }

    fn blame(&self, key: Key, error: &SourceError) {
        let Group { members, blame, path, .. } = &*self.group;
        blame.blame(members[key].remote(), About::Nar(path), error);
    }

    fn request(&mut self, key: Key, pieces: Range<u32>) {
        self.last += 1;
        let end = Arc::new(AtomicU32::new(pieces.end));
        let stripe = Receiving {
            group: Arc::clone(&self.group),
            key,
            stripe: self.last,
            silence: if self.members.len() > 1 { SILENCE } else { SILENCE_ALONE },
            heard: self.heard.clone(),
            received: Arc::clone(&self.received),
        };
        let task = AbortOnDropHandle::new(tokio::spawn(stripe.run(pieces, Arc::clone(&end))));
        let member = &mut self.members[key];
        member.since = Some(Instant::now());
        member.running = Some(Running { stripe: self.last, end, _task: task });
    }

    fn hear(&mut self, heard: Heard) {
        let now = self.now();
        match heard {
            Heard::Piece { key, stripe, number, content } => {
                // One that was cancelled meanwhile counts no more.
                if self.is_current(key, stripe) {
                    self.stripes.handle(Event::Arrived(key), now);
                    self.check(key, number, content);
                }
            }
            Heard::Failed { key, stripe, error } => {
                if self.is_current(key, stripe) {
                    self.members[key].running = None;
                    let is_final = error.is_final();
                    self.stripes.handle(if is_final { Event::Lost(key) } else { Event::Failed(key) }, now);
                    // That it had too much to do for a moment is no fault while it goes on.
                    if is_final || self.stripes.is_out(key) {
                        self.blame(key, &error);
                    }
                }
            }
            Heard::Checked { key, number, content: Some(content) } => {
                let member = &mut self.members[key];
                let elapsed = member.since.replace(Instant::now()).map_or(Duration::ZERO, |since| since.elapsed());
                if member.sample.bytes == 0 {
                    self.group.trace.flows_from(self.group.members[key].remote().id().name());
                }
                member.sample.bytes += content.len() as u64;
                member.sample.elapsed += elapsed;
                let metrics = &self.group.metrics;
                if self.stripes.wants(number) {
                    self.pieces.insert(number, content);
                    metrics.pieces_right.add(1);
                } else {
                    metrics.pieces_twice.add(1);
                }
                self.stripes.handle(Event::Right(key, number), now);
            }
            Heard::Checked { key, number, content: None } => self.stripes.handle(Event::Wrong(key, number), now),
        }
    }

    fn is_current(&self, key: Key, stripe: u64) -> bool {
        self.members[key].running.as_ref().is_some_and(|running| running.stripe == stripe)
    }

    /// A megabyte is hashed in a millisecond or three: not on the reactor.
    fn check(&self, key: Key, number: u32, content: Bytes) {
        let (group, heard) = (Arc::clone(&self.group), self.heard.clone());
        tokio::spawn(async move {
            let checked = spawn_blocking(move || {
                let nar = (&group.nar.nar_hash, group.nar.size);
                group.table.fits(nar, number, &content).then_some(content)
            });
            // It fails only when the program is being stopped.
            if let Ok(content) = checked.await {
                let _ = heard.send(Heard::Checked { key, number, content }).await;
            }
        });
    }

    fn hand_on(&mut self) -> Option<Bytes> {
        let number = self.stripes.take_next(self.begun.elapsed())?;
        let mut piece = self.pieces.remove(&number)?;
        let skipped = std::mem::take(&mut self.skip).min(piece.len());
        // Never none: a transfer ends where the NAR does.
        Some(piece.split_off(skipped))
    }

    /// All is proved: those who sent it get credit for it, and who told another table is named.
    fn tell_how_it_went(self) {
        let Group { members, liars, blame, path, .. } = &*self.group;
        for (source, member) in members.iter().zip(self.members) {
            if member.sample.bytes > 0 {
                source.remote().succeeded(member.sample);
            }
        }
        // What was there before these pieces, nobody compared with any table.
        for liar in liars.iter().filter(|_| self.is_all) {
            blame.blame(liar.remote(), About::Nar(path), &Violation::Table.into());
        }
    }
}

/// One stripe on its way.
struct Receiving {
    group: Arc<Group>,
    key: Key,
    stripe: u64,
    silence: Duration,
    heard: mpsc::Sender<Heard>,
    received: Arc<AtomicU64>,
}

impl Receiving {
    /// Tells of each piece before `end`, or of the failure. Nobody listens any more when the whole is over.
    async fn run(self, pieces: Range<u32>, end: Arc<AtomicU32>) {
        let Self { key, stripe, .. } = self;
        if let Err(error) = self.receive(pieces, &end).await {
            let _ = self.heard.send(Heard::Failed { key, stripe, error }).await;
        }
    }

    async fn receive(&self, pieces: Range<u32>, end: &AtomicU32) -> Result<(), SourceError> {
        let Self { group, key, stripe, .. } = self;
        let (nar, source) = (&group.nar, &group.members[*key]);
        let opened = timeout(self.silence + BEGIN, source.open_part(nar, bytes_of(&pieces, nar.size))).await;
        let mut flow = opened.map_err(|_| SourceError::Stalled(self.silence))??;
        let (mut ahead, mut noted) = (Bytes::new(), 0);
        for number in pieces {
            if number >= end.load(Relaxed) {
                return Ok(());
            }
            let content = self.piece(source.as_ref(), flow.as_mut(), (&mut ahead, &mut noted), number).await?;
            let piece = Heard::Piece { key: *key, stripe: *stripe, number, content };
            if self.heard.send(piece).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Notes what came from the network, which may be less than it became.
    fn note(&self, source: &dyn Source, flow: &dyn ByteFlow, noted: &mut u64) {
        let count = flow.received().saturating_sub(*noted);
        *noted += count;
        self.received.fetch_add(count, Relaxed);
        source.gave(count);
    }

    /// Copied into one buffer: a source that sends byte by byte would cost many times what it sends.
    async fn piece(
        &self,
        source: &dyn Source,
        flow: &mut dyn ByteFlow,
        (ahead, noted): (&mut Bytes, &mut u64),
        number: u32,
    ) -> Result<Bytes, SourceError> {
        let size = self.group.nar.size;
        let bytes = bytes_of(&(number..number + 1), size);
        // Lossless: at most a piece.
        let length = usize::try_from(bytes.end - bytes.start).unwrap_or_default();
        let mut content = BytesMut::with_capacity(length);
        let begun = Instant::now();
        while content.len() < length {
            if ahead.is_empty() {
                let next = timeout(self.silence, poll_fn(|context| flow.poll_chunk(context))).await;
                // Of what is compressed a block may be on its way.
                let is_coming = flow.received() > *noted;
                if begun.elapsed() > PIECE_MAX || (next.is_err() && !is_coming) {
                    return Err(SourceError::Stalled(self.silence));
                }
                let Ok(next) = next else {
                    self.note(source, flow, noted);
                    continue;
                };
                *ahead = next.ok_or(SourceError::Truncated(bytes.start + content.len() as u64, size))??;
                self.note(source, flow, noted);
            }
            let part = ahead.split_to(ahead.len().min(length - content.len()));
            content.extend_from_slice(&part);
        }
        Ok(content.freeze())
    }
}
