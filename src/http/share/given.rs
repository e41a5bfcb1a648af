//! Who is given one NAR at the moment, of those who can stream it from each other.
//!
//! When it is several, the next one hears "busy", once: it asks the directory of the NAR, which may know of one that streams it. If not, it comes
//! back, and is let in like anybody.

use crate::fetch::claims::CHILDREN_MAX;
use crate::nix::NarHash;
use crate::peers::NodeId;
use moka::sync::Cache;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// For how long it is remembered who was sent away or had a part of it, and of how many: they are let in.
const KNOWN: Duration = Duration::from_secs(60);
const KNOWN_MAX: u64 = 4 * 1024;

/// What is given to whom, in how many streams.
type Streams = HashMap<NarHash, HashMap<NodeId, usize>>;

/// What is given to whom. Clones are the same.
#[derive(Debug, Clone)]
pub(super) struct GivenNow {
    streams: Arc<Mutex<Streams>>,
    known: Cache<(NodeId, NarHash), ()>,
}

impl Default for GivenNow {
    fn default() -> Self {
        let known = Cache::builder().max_capacity(KNOWN_MAX).time_to_live(KNOWN).build();
        Self { streams: Arc::default(), known }
    }
}

/// One who is given a NAR, until this is dropped.
#[derive(Debug)]
pub(super) struct Given {
    streams: Arc<Mutex<Streams>>,
    nar: NarHash,
    node: NodeId,
}

impl GivenNow {
    /// `node` is given `nar`; `None`: it should look among those who are.
    pub(super) fn begin(&self, node: NodeId, nar: NarHash) -> Option<Given> {
        let mut streams = self.streams.lock();
        let nodes = streams.entry(nar).or_default();
        let is_known = nodes.contains_key(&node) || self.known.contains_key(&(node, nar));
        if nodes.len() >= CHILDREN_MAX && !is_known {
            self.known.insert((node, nar), ());
            return None;
        }
        *nodes.entry(node).or_default() += 1;
        // Whoever has a part comes back for the others.
        self.known.insert((node, nar), ());
        Some(Given { streams: Arc::clone(&self.streams), nar, node })
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

    fn node(number: u8) -> NodeId {
        NodeKey::from_seed([number; 32]).id()
    }

    #[test]
    fn four_machines_are_given_one_nar_and_the_fifth_is_known_once() {
        let now = GivenNow::default();
        let [one, other] = [1, 2].map(|number| NarHash::new([number; 32]));
        let mut given: Vec<Given> = (0..4).filter_map(|number| now.begin(node(number), one)).collect();
        assert_eq!(given.len(), CHILDREN_MAX);
        given.extend(now.begin(node(0), one));
        assert_eq!(given.len(), 5, "a machine counts once, however many streams it has");
        assert!(now.begin(node(4), one).is_none() && now.begin(node(4), other).is_some());
        given.extend(now.begin(node(4), one));
        assert_eq!(given.len(), 6, "nobody streamed it, and it is back");
        assert!(now.begin(node(5), one).is_none());
        assert!(now.begin(node(0), one).is_some(), "it comes back for another part");
        given.truncate(3);
        assert!(now.begin(node(6), one).is_some(), "there is room");
        drop(given);
        assert!(now.streams.lock().is_empty(), "nothing is left of it");
    }
}
