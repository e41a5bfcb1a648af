//! Who is given one NAR at the moment, of those who can stream it from each other.
//!
//! When it is one or several, by its size, the next one hears "busy", once: it asks the directory of the NAR, which may know of one that streams it. If not, it comes
//! back, and is let in like anybody.

use crate::nix::NarHash;
use crate::peers::NodeId;
use moka::policy::EvictionPolicy;
use moka::sync::Cache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// For how long it is remembered who was sent away or had a part of it, and of how many: they are let in.
const KNOWN: Duration = Duration::from_secs(60);
const KNOWN_MAX: u64 = 4 * 1024;
/// For how long one counts that ended a stream: it may be about to go on with the rest, in another form.
const PAUSES: Duration = Duration::from_millis(250);

/// What is given to whom, in how many streams.
type Streams = HashMap<NarHash, HashMap<NodeId, usize>>;

/// What is given to whom. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct GivenNow {
    streams: Arc<Mutex<Streams>>,
    known: Cache<(NodeId, NarHash), ()>,
    /// Who was given it last.
    last: Cache<NarHash, NodeId>,
}

impl Default for GivenNow {
    fn default() -> Self {
        let known = Cache::builder().max_capacity(KNOWN_MAX).time_to_live(KNOWN);
        // The newest are the ones that come back: by default a full cache would take in nobody.
        let known = known.eviction_policy(EvictionPolicy::lru()).build();
        let last = Cache::builder().max_capacity(KNOWN_MAX).time_to_live(PAUSES).build();
        Self { streams: Arc::default(), known, last }
    }
}

/// One who is given a NAR, until this is dropped.
#[derive(Debug)]
pub(super) struct Given {
    streams: Arc<Mutex<Streams>>,
    last: Cache<NarHash, NodeId>,
    nar: NarHash,
    node: NodeId,
}

impl GivenNow {
    /// `node` is given `nar`; `None`: it should look among those who are, as they are `most` already.
    pub(super) fn begin(&self, node: NodeId, nar: NarHash, most: usize) -> Option<Given> {
        let mut streams = self.streams.lock();
        let nodes = streams.get(&nar);
        let is_known = nodes.is_some_and(|nodes| nodes.contains_key(&node)) || self.known.contains_key(&(node, nar));
        let pauses = || usize::from(self.last.get(&nar).is_some_and(|last| last != node));
        if !is_known && nodes.map_or_else(pauses, HashMap::len) >= most {
            self.known.insert((node, nar), ());
            return None;
        }
        *streams.entry(nar).or_default().entry(node).or_default() += 1;
        // Whoever has a part comes back for the others.
        self.known.insert((node, nar), ());
        Some(Given { streams: Arc::clone(&self.streams), last: self.last.clone(), nar, node })
    }
}

impl Drop for Given {
    fn drop(&mut self) {
        let mut streams = self.streams.lock();
        let Some(nodes) = streams.get_mut(&self.nar) else { return };
        if let Some(count) = nodes.get_mut(&self.node) {
            *count -= 1;
            if *count == 0 {
                nodes.remove(&self.node);
                self.last.insert(self.nar, self.node);
            }
        }
        if nodes.is_empty() {
            streams.remove(&self.nar);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::NodeKey;

    /// How many one NAR is given.
    const MOST: usize = 4;

    fn node(number: u8) -> NodeId {
        NodeKey::from_seed([number; 32]).id()
    }

    #[test]
    fn four_machines_are_given_one_nar_and_the_fifth_is_known_once() {
        let now = GivenNow::default();
        let [one, other] = [1, 2].map(|number| NarHash::new([number; 32]));
        let mut given: Vec<Given> = (0..4).filter_map(|number| now.begin(node(number), one, MOST)).collect();
        assert_eq!(given.len(), MOST);
        given.extend(now.begin(node(0), one, MOST));
        assert_eq!(given.len(), 5, "a machine counts once, however many streams it has");
        assert!(now.begin(node(4), one, MOST).is_none() && now.begin(node(4), other, 1).is_some());
        given.extend(now.begin(node(4), one, MOST));
        assert_eq!(given.len(), 6, "nobody streamed it, and it is back");
        assert!(now.begin(node(5), one, MOST).is_none());
        assert!(now.begin(node(0), one, MOST).is_some(), "it comes back for another part");
        given.truncate(3);
        assert!(now.begin(node(6), one, MOST).is_some(), "there is room");
        drop(given);
        assert!(now.streams.lock().is_empty(), "nothing is left of it");
    }

    #[test]
    fn one_who_ends_a_stream_may_go_on_with_the_rest() {
        let (now, nar) = (GivenNow::default(), NarHash::new([1; 32]));
        drop(now.begin(node(0), nar, 1));
        assert!(now.begin(node(1), nar, 1).is_none(), "it looks among the others, once");
        assert!(now.streams.lock().is_empty(), "nothing is left of it");
        let goes_on = now.begin(node(0), nar, 1);
        assert!(goes_on.is_some() && now.begin(node(2), nar, 1).is_none());
        assert!(now.begin(node(1), nar, 1).is_some(), "it is back");
    }
}
