//! What the gateway of a site tells of its index, and when: a decision without any input or output.
//!
//! Everything is told once, in parts; from then on what changed, until that is much. A site that has nothing to tell says every now and then
//! that it is still there.

use super::message::{CHANGES_KEPT, Kind, Meta, PART_MAX, PARTS_MAX, Slot, change, digest};
use crate::index::{Entry, Log, Salt};
use crate::peers::IndexState;
use bytes::Bytes;
use std::time::Duration;
use tokio::time::Instant;

/// After so many changes everything is told anew, so that none is gone that somebody needs.
const CHANGES_MAX: u64 = CHANGES_KEPT * 3 / 4;
/// And after so long, if anything changed: who comes late has less to read.
const SNAPSHOT: Duration = Duration::from_secs(3600);

/// What a site tells.
pub(super) struct Gathering {
    log: Log,
    /// `None`: nothing was told yet.
    told: Option<Told>,
}

#[derive(Clone)]
struct Told {
    state: IndexState,
    snapshot: IndexState,
    when: Instant,
    slot: Slot,
    parts: usize,
    digest: String,
}

/// What is to be put under which key, in this order; the last one makes what is before it count.
pub(super) type Puts = Vec<(Kind, Bytes)>;

impl Gathering {
    /// Of a site of which nothing was told; `epoch` is at random.
    pub(super) const fn new(epoch: u64) -> Self {
        Self { log: Log::new(epoch, Salt::OPEN), told: None }
    }

    /// What to tell now that the machines of the site have these `entries`, which are in order; `None`: what they had before. Takes as long
    /// as they are many.
    pub(super) fn tell(&mut self, entries: Option<Vec<Entry>>, name: &str, machines: u64, now: Instant) -> Puts {
        if let Some(entries) = entries {
            self.log.set(entries);
        }
        let state = self.log.state();
        let mut puts = Vec::new();
        let told = match self.told.take() {
            Some(told) if told.state == state => told,
            Some(told) if !is_due(&told, state, now) => {
                let update = self.log.answer(Some(told.state));
                puts.push((Kind::Change(state.seq % CHANGES_KEPT), change(told.state, &update).into()));
                Told { state, ..told }
            }
            told => {
                let slot = told.map_or_else(Slot::default, |told| told.slot.other());
                let all = self.log.answer(None);
                let parts: Vec<Bytes> = all.chunks(PART_MAX).take(PARTS_MAX).map(Bytes::copy_from_slice).collect();
                let digest = digest(&all);
                let count = parts.len();
                puts.extend(parts.into_iter().enumerate().map(|(number, part)| (Kind::Part(slot, number), part)));
                Told { state, snapshot: state, when: now, slot, parts: count, digest }
            }
        };
        let meta = Meta {
            name: name.to_owned(),
            state: told.state.to_string(),
            snapshot: told.snapshot.to_string(),
            slot: told.slot,
            parts: told.parts,
            digest: told.digest.clone(),
            machines,
        };
        self.told = Some(told);
        puts.push((Kind::Meta, meta.to_bytes().into()));
        puts
    }
}

/// Whether everything is to be told and not what changed.
fn is_due(told: &Told, state: IndexState, now: Instant) -> bool {
    state.seq - told.snapshot.seq >= CHANGES_MAX || now.duration_since(told.when) >= SNAPSHOT
}
