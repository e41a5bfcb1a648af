//! NARs on their way, kept so that other machines can stream them from here: each once, from its first byte, as far as it has come.
//!
//! A spool is a file without a name: small ones in memory, others in the cache directory. Whatever ends the program, or the machine, leaves
//! nothing behind, but for large ones: those have a name until they are whole, see [`super::rest`]. Some are for that alone. What others are given of it is never its end before all of it is proved: whoever sends the end vouches for the whole, and
//! a NAR that turns out wrong has no end.
//!
//! What fails here fails nobody's transfer: without a spool it is not streamed on, and that is all.

use super::assembly::WITHHELD;
use super::rest::{self, RESTS_MIN};
use crate::files;
use crate::nix::{NarHash, PathInfo};
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// Up to this size a spool is in memory, in bytes, and all of those together take this much at most.
const IN_MEMORY: u64 = 1024 * 1024;
const IN_MEMORY_ALL: u64 = 32 * 1024 * 1024;
/// So much of the disk is left free, in bytes.
const DISK_FREE: u64 = 512 * 1024 * 1024;
/// How many spools there are at most: each is an open file.
const SPOOLS_MAX: usize = 1024;
/// How many chunks may wait to be written.
const QUEUE: usize = 16;
/// How much is read at a time for whoever streams it, in bytes.
const BLOCK: u64 = 256 * 1024;
/// How many blocks wait for whoever streams them.
const AHEAD: usize = 1;
/// How many streams are sent from spools at a time: half of what may be sent at all.
const SENDS_MAX: u16 = 64;
/// How long a stream goes on to which nothing comes: whoever waits has gone elsewhere by then.
const QUIET: Duration = Duration::from_secs(5);
/// The least time from one look for spools that are over to the next.
const LOOK: Duration = Duration::from_secs(1);
/// How much may be asked of the disk at a time that is not done yet: with more it is stuck, and takes the threads of all others.
const DISK_OPERATIONS: usize = 64;
/// How long a transfer waits for the disk, before it goes on without a spool.
const DISK_WAIT: Duration = Duration::from_secs(1);
/// The same of one that is no use without.
const DISK_WAIT_MUST: Duration = Duration::from_secs(60);
/// How often it is looked for rests of transfers that are too old.
const CLEAN: Duration = Duration::from_secs(60 * 60);

/// Where spools are, how much they take and how long they last.
#[derive(Debug, Clone, Default)]
pub struct SpoolOptions {
    /// The directory for those that are not in memory; `None`: there are none.
    pub dir: Option<PathBuf>,
    /// How much all of them take at most, in bytes.
    pub max_size: u64,
    /// How long one is kept that nobody reads any more.
    pub keep: Duration,
}

/// Why a spool gives no more.
#[derive(Debug, Clone, Error)]
pub enum SpoolError {
    /// What it is of did not come to its end, or was wrong.
    #[error("the NAR is not on its way any more")]
    Ended,
    /// It cannot be read.
    #[error("the spool cannot be read: {0}")]
    Read(Arc<io::Error>),
}

/// All spools. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct Spools(Arc<Inner>);

struct Inner {
    options: Mutex<SpoolOptions>,
    spools: Mutex<Kept>,
    /// How many streams are sent from spools.
    sends: Arc<AtomicU16>,
    weight: AtomicU8,
    /// What is asked of the disk and not done yet.
    disk: Arc<()>,
}

/// Those that there are.
#[derive(Default)]
struct Kept {
    spools: HashMap<NarHash, Arc<Spool>>,
    /// A task looks for those that are over.
    is_swept: bool,
}

/// The NAR of one path, as far as it has come.
pub(crate) struct Spool {
    info: PathInfo,
    /// Made by whoever writes first.
    file: OnceLock<File>,
    in_memory: bool,
    /// Nobody may stream it: it is kept for this machine, should it begin anew.
    is_private: bool,
    /// Where it is until it is whole, if whatever ends the program should leave it.
    name: Mutex<Option<PathBuf>>,
    state: watch::Sender<State>,
    /// When somebody read it last, or wrote.
    used: Mutex<Instant>,
}

/// How far a spool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// So many bytes are there.
    Growing(u64),
    /// All of it is there and right.
    Proved,
    /// No more will come.
    Failed,
}

impl Spool {
    /// Up to which byte others may have it; `None`: they may have nothing any more.
    fn open_to(&self) -> Option<u64> {
        let size = self.info.nar_size;
        match *self.state.borrow() {
            State::Growing(written) => Some(written.min(size.saturating_sub(WITHHELD))),
            State::Proved => Some(size),
            State::Failed => None,
        }
    }

    fn is_read(&self) -> bool {
        self.state.receiver_count() > 0
    }

    /// Nothing of it is left when it is closed. Asks the disk.
    fn unname(&self) {
        if let (Some(path), Some(file)) = (self.name.lock().take(), self.file.get()) {
            rest::remove(&path, file);
        }
    }

    fn file(&self) -> io::Result<&File> {
        self.file.get().ok_or_else(|| io::Error::other("there is no file"))
    }
}

impl Spools {
    /// There are none yet.
    #[must_use]
    pub fn new(options: SpoolOptions) -> Self {
        let inner = Arc::new(Inner {
            options: Mutex::new(options),
            spools: Mutex::default(),
            sends: Arc::default(),
            weight: AtomicU8::new(100),
            disk: Arc::default(),
        });
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(clean(Arc::downgrade(&inner)));
        }
        Self(inner)
    }

    /// Keeps to these options from now on.
    pub fn set(&self, options: SpoolOptions) {
        *self.0.options.lock() = options;
        self.sweep();
    }

    /// How many streams are sent from spools at the moment.
    pub(crate) fn sends(&self) -> u16 {
        self.0.sends.load(Relaxed)
    }

    /// How much others should count on this machine, of a hundred: at a tenth a stream counts as ten.
    pub(crate) fn set_weight(&self, weight: u8) {
        self.0.weight.store(weight, Relaxed);
    }

    /// How busy this machine is with sending what it fetches, in streams of one that is on a wire and on mains; `None`: it sends nothing.
    pub(crate) fn load(&self) -> Option<u16> {
        let weight = u32::from(self.0.weight.load(Relaxed));
        // One stream more than there are: a machine without any is not all alike.
        let streams = (u32::from(self.sends()) + 1) * 100;
        (weight > 0).then(|| u16::try_from(streams / weight - 1).unwrap_or(u16::MAX))
    }

    /// How many bytes they take, or will.
    #[cfg(test)]
    fn size(&self) -> u64 {
        self.0.spools.lock().spools.values().map(|spool| spool.info.nar_size).sum()
    }

    /// A spool for the NAR of this path. `None` if there is no room for it, or one is there.
    ///
    /// With `must` the disk is waited for: it is no use without.
    pub(crate) fn open(&self, info: &PathInfo, must: bool) -> Option<Writer> {
        self.open_for(info, false, must)
    }

    /// The same for nobody but this machine.
    pub(crate) fn open_private(&self, info: &PathInfo, must: bool) -> Option<Writer> {
        self.open_for(info, true, must)
    }

    /// What the end of the program, or of a transfer, has left of a NAR: its first bytes, in a file that is gone when it is closed, and how
    /// many those are. Nobody has proved them.
    pub(crate) async fn take_rest(&self, info: &PathInfo) -> Option<(Arc<File>, u64)> {
        let (nar, size) = (info.nar_hash, info.nar_size);
        let dir = self.0.options.lock().dir.clone().filter(|_| size >= RESTS_MIN)?;
        let is_growing = self.0.spools.lock().spools.get(&nar).is_some_and(|spool| is_growing(spool));
        if is_growing || self.is_stuck() {
            return None;
        }
        let asked = Arc::clone(&self.0.disk);
        let finding = spawn_blocking(move || {
            let _asked = asked;
            rest::find(&dir, nar, size)
        });
        let (file, length, path) = timeout(DISK_WAIT, finding).await.ok()?.ok()??;
        // Only now, as somebody has it.
        let (file, asked) = (Arc::new(file), Arc::clone(&self.0.disk));
        let found = Arc::clone(&file);
        spawn_blocking(move || {
            let _asked = asked;
            rest::remove(&path, &found);
        });
        Some((file, length))
    }

    /// The disk has so much to do that it does nothing.
    fn is_stuck(&self) -> bool {
        // One is ours.
        Arc::strong_count(&self.0.disk) > DISK_OPERATIONS + 1
    }

    fn open_for(&self, info: &PathInfo, is_private: bool, must: bool) -> Option<Writer> {
        let (nar, size) = (info.nar_hash, info.nar_size);
        let SpoolOptions { max_size, dir, .. } = self.0.options.lock().clone();
        let mut kept = self.0.spools.lock();
        let gone = make_room(&mut kept.spools, nar, size, max_size);
        let in_memory: u64 =
            kept.spools.values().filter(|spool| spool.in_memory).map(|spool| spool.info.nar_size).sum();
        let in_memory = size <= IN_MEMORY && in_memory + size <= IN_MEMORY_ALL;
        let (has_room, gone) = gone.map_or((false, Vec::new()), |gone| (true, gone));
        if !has_room || (!in_memory && (dir.is_none() || self.is_stuck())) {
            drop(kept);
            let_go(gone);
            return None;
        }
        let (used, state) = (Mutex::new(Instant::now()), watch::Sender::new(State::Growing(0)));
        let (info, file, name) = (info.clone(), OnceLock::new(), Mutex::default());
        let spool = Arc::new(Spool { info, file, in_memory, is_private, name, state, used });
        let named = kept.spools.values().filter_map(|spool| spool.name.lock().clone()).collect();
        kept.spools.insert(nar, Arc::clone(&spool));
        let is_swept = std::mem::replace(&mut kept.is_swept, true);
        drop(kept);
        let_go(gone);
        if !is_swept {
            tokio::spawn(self.clone().keep());
        }
        let (chunks, queue) = mpsc::channel(QUEUE);
        let place = Place { dir, max_size, named };
        tokio::spawn(write(Arc::clone(&spool), place, Arc::downgrade(&self.0.disk), queue));
        let patience = if must { DISK_WAIT_MUST } else { DISK_WAIT };
        Some(Writer { spools: self.clone(), spool, chunks: Some(chunks), patience })
    }

    /// The path of whose NAR something is here.
    #[must_use]
    pub fn info(&self, nar: NarHash) -> Option<PathInfo> {
        self.0.spools.lock().spools.get(&nar).filter(|spool| !spool.is_private).map(|spool| spool.info.clone())
    }

    /// What is here and will come of a NAR, from byte `from` on; `None`: nothing.
    #[must_use]
    pub fn read(&self, nar: NarHash, from: u64) -> Option<SpoolBody> {
        let spool = self.0.spools.lock().spools.get(&nar).filter(|spool| !spool.is_private).map(Arc::clone)?;
        self.send(spool, from)
    }

    fn send(&self, spool: Arc<Spool>, from: u64) -> Option<SpoolBody> {
        let state = spool.state.subscribe();
        spool.open_to()?;
        let left = spool.info.nar_size.checked_sub(from)?;
        let sending = Sending::begin(&self.0.sends);
        let (blocks, receiver) = mpsc::channel(AHEAD);
        tokio::spawn(send(spool, state, from, blocks, sending));
        Some(SpoolBody { blocks: receiver, left })
    }

    /// A NAR that is here and right, from byte `from` on, for this machine itself; `None`: it is not.
    pub(crate) fn read_proved(&self, nar: NarHash, from: u64) -> Option<SpoolBody> {
        let spool = self.0.spools.lock().spools.get(&nar).map(Arc::clone)?;
        let is_proved = *spool.state.borrow() == State::Proved;
        if is_proved { self.send(spool, from) } else { None }
    }

    /// Whether as much is sent as may be.
    #[must_use]
    pub fn are_busy(&self) -> bool {
        self.sends() >= SENDS_MAX
    }

    /// Lets go of what nobody used for long, for as long as there are spools.
    async fn keep(self) {
        while let Some(next) = self.sweep() {
            sleep_until(next).await;
        }
    }

    /// Lets go of what nobody used for long; when to look again, if there is something left.
    fn sweep(&self) -> Option<Instant> {
        let (now, SpoolOptions { keep, max_size, .. }) = (Instant::now(), self.0.options.lock().clone());
        let mut kept = self.0.spools.lock();
        let is_over = |spool: &Spool| {
            if *spool.state.borrow() == State::Failed {
                return true;
            }
            let mut used = spool.used.lock();
            if spool.is_read() || is_growing(spool) {
                *used = now;
                return false;
            }
            now >= *used + keep
        };
        let mut gone: Vec<_> = kept.spools.extract_if(|_, spool| is_over(spool)).map(|(_, spool)| spool).collect();
        // Less may be kept than before.
        gone.extend(make_room(&mut kept.spools, NarHash::new([0; 32]), 0, max_size).into_iter().flatten());
        let next = kept.spools.values().map(|spool| (*spool.used.lock() + keep).max(now + LOOK)).min();
        kept.is_swept = next.is_some();
        drop(kept);
        let_go(gone);
        next
    }
}

/// Takes out those that were not used for longest, until another one of `size` bytes fits; `None`: it does not.
fn make_room(
    spools: &mut HashMap<NarHash, Arc<Spool>>,
    nar: NarHash,
    size: u64,
    max_size: u64,
) -> Option<Vec<Arc<Spool>>> {
    // One that failed makes room for the next try.
    let has_failed = |spool: &Arc<Spool>| spool.open_to().is_none();
    if spools.get(&nar).is_some_and(|spool| !has_failed(spool)) {
        return None;
    }
    let in_use = || spools.values().filter(|spool| spool.is_read() || is_growing(spool));
    if in_use().map(|spool| spool.info.nar_size).sum::<u64>() + size > max_size || in_use().count() >= SPOOLS_MAX {
        return None;
    }
    let mut gone: Vec<Arc<Spool>> = spools.remove(&nar).into_iter().collect();
    let mut taken: u64 = spools.values().map(|spool| spool.info.nar_size).sum();
    while taken + size > max_size || spools.len() >= SPOOLS_MAX {
        let idle = spools.iter().filter(|(_, spool)| !spool.is_read() && !is_growing(spool));
        let oldest = idle.min_by_key(|(_, spool)| *spool.used.lock()).map(|(nar, _)| *nar);
        let Some(spool) = oldest.and_then(|nar| spools.remove(&nar)) else { break };
        taken -= spool.info.nar_size;
        gone.push(spool);
    }
    Some(gone)
}

/// Closes their files, which gives back gigabytes: not on the reactor.
fn let_go(gone: Vec<Arc<Spool>>) {
    if !gone.is_empty() {
        spawn_blocking(move || drop(gone));
    }
}

/// Where files are made.
struct Place {
    dir: Option<PathBuf>,
    /// How much they take at most, in bytes.
    max_size: u64,
    /// Those that are in use.
    named: HashSet<PathBuf>,
}

/// A file for a spool, in memory or in the directory, which is gone when it is closed; unless it has a name.
fn make_file(spool: &Spool, place: &Place) -> io::Result<File> {
    if spool.in_memory {
        return Ok(memfd_create(c"peernix-spool", MFdFlags::MFD_CLOEXEC)?.into());
    }
    let dir = place.dir.as_ref().ok_or_else(|| io::Error::other("there is no cache directory"))?;
    let size = spool.info.nar_size;
    if files::free_space(dir)? < size.saturating_add(DISK_FREE) {
        return Err(io::ErrorKind::StorageFull.into());
    }
    if size >= RESTS_MIN {
        // It takes no more room than what came, whatever becomes of it.
        rest::clean(dir, place.max_size.saturating_sub(size), &place.named);
        let (file, path) = rest::create(dir, spool.info.nar_hash)?;
        *spool.name.lock() = Some(path);
        return Ok(file);
    }
    let file = tempfile::tempfile_in(dir)?;
    let length = i64::try_from(size).map_err(io::Error::other)?;
    match fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length) {
        // Where a file system does not know that, room is taken as it is written.
        Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(file),
        Err(error) => Err(error.into()),
    }
}

/// Removes rests that are too old, and those that are too many, as long as there are spools.
async fn clean(spools: Weak<Inner>) {
    while let Some(inner) = spools.upgrade() {
        let SpoolOptions { dir, max_size, .. } = inner.options.lock().clone();
        let in_use = inner.spools.lock().spools.values().filter_map(|spool| spool.name.lock().clone()).collect();
        drop(inner);
        if let Some(dir) = dir {
            // It fails only when the program is being stopped.
            let _ = spawn_blocking(move || rest::clean(&dir, max_size, &in_use)).await;
        }
        sleep(CLEAN).await; // poll
    }
}

fn is_growing(spool: &Spool) -> bool {
    matches!(*spool.state.borrow(), State::Growing(_))
}

/// Writes what comes into a spool. A NAR that does not come to its end leaves none.
pub(crate) struct Writer {
    spools: Spools,
    spool: Arc<Spool>,
    /// `None`: it is over.
    chunks: Option<mpsc::Sender<Write>>,
    /// How long the disk is waited for.
    patience: Duration,
}

enum Write {
    Chunk(Bytes),
    Proved,
}

impl Writer {
    /// Appends the next bytes; false: nothing is kept any more, and this may be dropped.
    pub(crate) async fn push(&mut self, chunk: Bytes) -> bool {
        self.hand_over(Write::Chunk(chunk)).await
    }

    /// Whether it is for this machine alone.
    pub(crate) fn is_private(&self) -> bool {
        self.spool.is_private
    }

    /// What came is of no use any more: nothing is left of it.
    pub(crate) fn discard(self) {
        let spool = Arc::clone(&self.spool);
        drop(self);
        spawn_blocking(move || spool.unname());
    }

    /// All of it came and is right. What this gives tells, later, whether it is kept.
    pub(crate) async fn proved(mut self) -> impl Future<Output = bool> + Send + 'static {
        let is_handed_over = self.hand_over(Write::Proved).await;
        if is_handed_over {
            self.chunks = None;
        }
        let (mut state, spool) = (self.spool.state.subscribe(), Arc::clone(&self.spool));
        async move {
            let is_settled = |state: &State| !matches!(state, State::Growing(_));
            // The spool is held: its sender lives.
            let state = state.wait_for(is_settled).await.map(|state| *state);
            drop(spool);
            is_handed_over && matches!(state, Ok(State::Proved))
        }
    }

    /// A disk that is stuck keeps no transfer waiting.
    async fn hand_over(&self, write: Write) -> bool {
        let Some(chunks) = &self.chunks else { return false };
        let is_open = !matches!(*self.spool.state.borrow(), State::Failed);
        is_open && matches!(timeout(self.patience, chunks.send(write)).await, Ok(Ok(())))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.chunks.is_some() {
            self.spool.state.send_replace(State::Failed);
            let spools = &mut self.spools.0.spools.lock().spools;
            let nar = self.spool.info.nar_hash;
            if spools.get(&nar).is_some_and(|spool| Arc::ptr_eq(spool, &self.spool)) {
                // Whoever writes holds it as well, and lets it go.
                spools.remove(&nar);
            }
        }
    }
}

/// Writes what comes to the file, off the reactor.
async fn write(spool: Arc<Spool>, place: Place, disk: Weak<()>, mut queue: mpsc::Receiver<Write>) {
    // Held while the disk is asked for something; memory is never stuck.
    let asks = || if spool.in_memory { None } else { disk.upgrade() };
    let (made, asked) = (Arc::clone(&spool), asks());
    let making = spawn_blocking(move || {
        let _asked = asked;
        let file = make_file(&made, &place)?;
        // Nobody else makes one.
        let _ = made.file.set(file);
        Ok(())
    });
    if let Err(error) = making.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped))) {
        return failed(spool, &error);
    }
    let mut written = 0;
    let mut batch = Vec::new();
    while queue.recv_many(&mut batch, QUEUE).await > 0 {
        let (mut chunks, mut is_proved) = (Vec::new(), false);
        for write in batch.drain(..) {
            match write {
                Write::Chunk(chunk) => chunks.push(chunk),
                Write::Proved => is_proved = true,
            }
        }
        let (file, from, asked) = (Arc::clone(&spool), written, asks());
        let size = spool.info.nar_size;
        let done = spawn_blocking(move || {
            let _asked = asked;
            let mut at = from;
            for chunk in chunks {
                file.file()?.write_all_at(&chunk, at)?;
                at += chunk.len() as u64;
            }
            if is_proved && at == size {
                file.unname();
            }
            Ok(at)
        });
        match done.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped))) {
            Ok(at) => written = at,
            Err(error) => return failed(spool, &error),
        }
        let is_whole = is_proved && written == spool.info.nar_size;
        spool.state.send_if_modified(|state| {
            let is_open = *state != State::Failed;
            if is_open {
                *state = if is_whole { State::Proved } else { State::Growing(written) };
            }
            is_open
        });
    }
    if *spool.state.borrow() != State::Proved {
        spool.state.send_replace(State::Failed);
    }
    let_go(vec![spool]);
}

/// It gives no more.
fn failed(spool: Arc<Spool>, error: &io::Error) {
    log::debug!(path:% = spool.info.path, reason:% = error; "what comes is not streamed on: {error}");
    spool.state.send_replace(State::Failed);
    spawn_blocking(move || spool.unname());
}

/// One stream more, until this is dropped.
struct Sending(Arc<AtomicU16>);

impl Sending {
    fn begin(sends: &Arc<AtomicU16>) -> Self {
        sends.fetch_add(1, Relaxed);
        Self(Arc::clone(sends))
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Reads a spool for whoever streams it, as far as it may be and as it comes.
async fn send(
    spool: Arc<Spool>,
    mut state: watch::Receiver<State>,
    mut at: u64,
    blocks: mpsc::Sender<Result<Bytes, SpoolError>>,
    _sending: Sending,
) {
    while at < spool.info.nar_size {
        state.mark_unchanged();
        let Some(end) = spool.open_to() else {
            let _ = blocks.send(Err(SpoolError::Ended)).await;
            return;
        };
        if at >= end {
            tokio::select! {
                // The spool is held: its sender lives.
                _ = state.changed() => continue,
                () = blocks.closed() => return,
                () = sleep(QUIET) => { // pace
                    let _ = blocks.send(Err(SpoolError::Ended)).await;
                    return;
                }
            }
        }
        let (file, length) = (Arc::clone(&spool), (end - at).min(BLOCK));
        let block = spawn_blocking(move || {
            // Lossless: at most a block.
            let mut block = vec![0; usize::try_from(length).unwrap_or_default()];
            file.file()?.read_exact_at(&mut block, at)?;
            Ok(Bytes::from(block))
        });
        let block = block.await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
        let is_over = block.is_err();
        at += length;
        if blocks.send(block.map_err(|error| SpoolError::Read(Arc::new(error)))).await.is_err() || is_over {
            return;
        }
    }
    *spool.used.lock() = Instant::now();
}

/// The bytes of a NAR as they come. An error is the end of it: nobody takes a part for the whole.
pub struct SpoolBody {
    blocks: mpsc::Receiver<Result<Bytes, SpoolError>>,
    left: u64,
}

impl Body for SpoolBody {
    type Data = Bytes;
    type Error = SpoolError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, SpoolError>>> {
        self.blocks.poll_recv(context).map(|block| {
            let block = match block {
                None if self.left > 0 => Err(SpoolError::Ended),
                None => return None,
                Some(block) => block,
            };
            self.left -= block.as_ref().map_or(self.left, |block| block.len() as u64);
            Some(block.map(Frame::data))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
#[path = "spool_tests.rs"]
mod tests;
