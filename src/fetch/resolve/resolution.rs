//! A path that somebody has, with all who are known to have it.

use crate::fetch::source::{Source, SourceId};
use crate::nix::{Compression, PathInfo};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::{Arc, OnceLock};
use tokio::sync::watch;

/// One who has a path, and what it says of it.
#[derive(Clone)]
pub(crate) struct Holder {
    /// What is proved of the path.
    pub(crate) info: PathInfo,
    /// Where its NAR can be had.
    pub(crate) source: Arc<dyn Source>,
    /// How the NAR is sent from there.
    pub(crate) compression: Compression,
    /// The length of what is sent in bytes, if told. Nobody signs it.
    pub(crate) file_size: Option<u64>,
}

/// A path that somebody has.
pub struct Resolution {
    /// What is proved of it.
    pub info: PathInfo,
    /// Who has it, in the order of their answers. Empty once all of them broke their promise.
    sources: Mutex<Vec<Arc<dyn Source>>>,
    /// How many they are.
    count: watch::Sender<usize>,
    /// What Nix is told of it, which stays the same.
    narinfo: OnceLock<Bytes>,
}

impl Resolution {
    pub(crate) fn new(holder: Holder) -> Arc<Self> {
        let Holder { info, source, .. } = holder;
        let (sources, count) = (Mutex::new(vec![source]), watch::Sender::new(1));
        Arc::new(Self { info, sources, count, narinfo: OnceLock::new() })
    }

    /// What Nix is told of it; `render` makes that when it is asked for first.
    pub fn narinfo(&self, render: impl FnOnce(&PathInfo) -> Bytes) -> Bytes {
        self.narinfo.get_or_init(|| render(&self.info)).clone()
    }

    /// Who has it, as far as known by now.
    pub(crate) fn sources(&self) -> Vec<Arc<dyn Source>> {
        self.sources.lock().clone()
    }

    /// Tells when more are known.
    pub(crate) fn subscribe(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Whether the first to answer was a peer.
    pub(crate) fn is_from_peer(&self) -> bool {
        self.sources.lock().first().is_some_and(|source| source.remote().id().is_peer())
    }

    /// Takes out one who broke its promise.
    pub(crate) fn remove(&self, id: &SourceId) {
        self.sources.lock().retain(|source| source.remote().id() != *id);
    }

    /// Whether it promises anything: one whose sources all broke their promise, went away or send nothing at the moment does not.
    pub(crate) fn is_good(&self) -> bool {
        self.sources.lock().iter().any(|source| source.standing().usable)
    }

    /// Whether all who had it broke their promise.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.sources.lock().is_empty()
    }

    /// What it takes of the memory of answers, in bytes.
    pub(crate) fn weight(&self) -> u32 {
        // With the text that Nix is told, made or not.
        let info = 160 * self.info.references.len() + 280 * self.info.signatures.len();
        u32::try_from(1024 + 256 * self.sources.lock().len() + info).unwrap_or(u32::MAX)
    }

    /// Adds one more who has it. Two caches may have signed different builds of one path; their NARs cannot be mixed, so who has
    /// another one is left out. Tells whether this one is in.
    pub(crate) fn add(&self, holder: Holder) -> bool {
        let Holder { info, source, .. } = holder;
        if (info.nar_hash, info.nar_size) != (self.info.nar_hash, self.info.nar_size) {
            return false;
        }
        self.add_source(source);
        true
    }

    /// Adds somebody who is said to have the same NAR. One that has another one under this name says so when it is asked.
    pub(crate) fn add_source(&self, source: Arc<dyn Source>) {
        let mut sources = self.sources.lock();
        if sources.iter().all(|known| known.remote().id() != source.remote().id()) {
            sources.push(source);
            self.count.send_replace(sources.len());
        }
    }
}
