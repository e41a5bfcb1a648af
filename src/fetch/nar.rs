//! A NAR that somebody has: found once, and then read from any offset.

use super::read_ahead::ReadAhead;
use super::resolve::resolution::Resolution;
use super::resolve::resolver::Resolver;
use super::transfer::fanout::{NarBody, Progress};
use super::transfer::registry::Registry;
use std::sync::Arc;

/// A NAR that somebody has.
pub struct Nar {
    pub(crate) registry: Registry,
    pub(crate) read_ahead: ReadAhead,
    pub(crate) resolver: Arc<Resolver>,
    pub(crate) resolution: Arc<Resolution>,
    /// The generation of trusted keys under which it was found, or an older one.
    pub(crate) generation: u64,
}

impl Nar {
    /// How long it is, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.resolution.info.nar_size
    }

    /// Its bytes from byte `from` on; `None` if no source could even begin. Small NARs are verified before the first byte comes out
    /// of this, large ones before the last.
    pub async fn read(&self, from: u64) -> Option<NarBody> {
        let ahead = if from == 0 { self.read_ahead.take(self.resolution.info.nar_hash, self.generation) } else { None };
        let body = match ahead {
            Some(ahead) => ahead,
            None => self.registry.reader(&self.resolution, self.generation, from).await?,
        };
        self.read_ahead.go_on();
        let mut progress = body.progress();
        // The sender is in the body, which is alive.
        let state = progress.wait_for(|progress| *progress != Progress::Pending).await.ok()?.clone();
        match state {
            Progress::Failed(error) => {
                let path = &self.resolution.info.path;
                log::debug!(path:% = path, reason:% = error; "no NAR: {error}");
                self.resolver.forget(path.hash()).await;
                None
            }
            Progress::Pending | Progress::Flowing => Some(body),
        }
    }
}
