//! What is asked of one peer at the same time goes together: Nix looks up 25 paths at once, and a closure is asked for whole.
//!
//! The first question goes at once and alone. What is asked while something is on its way is gathered for a moment and goes in one
//! request, so that whoever asks one after another never waits for company.

use crate::fetch::error::SourceError;
use crate::fetch::source::peer::PeerSource;
use crate::nix::StoreHash;
use crate::peers::NodeId;
use crate::peers::narinfo_batch::HASHES_MAX;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// How long questions are gathered.
const GATHER: Duration = Duration::from_millis(1);

/// What is asked of a peer about paths, of many at a time.
#[async_trait]
pub(crate) trait Exchange: Send + Sync + 'static {
    /// What is answered about one path.
    type Said: Clone + Send + 'static;

    /// Whether this peer is asked about several at once.
    fn takes_many(peer: &PeerSource) -> bool;

    /// Asks about one path.
    ///
    /// # Errors
    /// The peer could not be asked, or lied.
    async fn about_one(peer: &PeerSource, hash: StoreHash) -> Result<Self::Said, SourceError>;

    /// Asks about several, up to [`HASHES_MAX`]. What is missing in what this gives was not answered.
    ///
    /// # Errors
    /// As [`Self::about_one`].
    async fn about_many(peer: &PeerSource, hashes: &[StoreHash])
    -> Result<HashMap<StoreHash, Self::Said>, SourceError>;
}

/// What somebody waits for.
type Said<E> = Result<<E as Exchange>::Said, SourceError>;

/// What is asked of whom at the moment.
pub(crate) struct Batches<E: Exchange>(Mutex<HashMap<NodeId, Asked<E>>>);

impl<E: Exchange> Default for Batches<E> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

/// What is asked of one peer.
struct Asked<E: Exchange> {
    /// How many requests are on their way.
    under_way: usize,
    /// What goes with the next one, and who waits for it.
    gathered: HashMap<StoreHash, Vec<oneshot::Sender<Said<E>>>>,
}

impl<E: Exchange> Default for Asked<E> {
    fn default() -> Self {
        Self { under_way: 0, gathered: HashMap::new() }
    }
}

/// What to do with a question.
enum Turn {
    /// It goes at once.
    Alone,
    /// It goes with others; whoever is the first sees to it.
    Gathered { is_first: bool },
}

impl<E: Exchange> Batches<E> {
    /// Asks `peer` about a path.
    ///
    /// # Errors
    /// It could not be asked, or lied.
    pub(crate) async fn ask(self: &Arc<Self>, peer: &Arc<PeerSource>, hash: StoreHash) -> Said<E> {
        if !E::takes_many(peer) {
            return E::about_one(peer, hash).await;
        }
        let (sender, receiver) = oneshot::channel();
        match self.turn(peer.0.id(), hash, sender) {
            Turn::Alone => {
                let _under_way = UnderWay(Arc::clone(self), peer.0.id());
                return E::about_one(peer, hash).await;
            }
            Turn::Gathered { is_first: true } => {
                // In a task of its own: others wait for it as well, should this one be given up.
                let (batches, peer) = (Arc::clone(self), Arc::clone(peer));
                tokio::spawn(async move {
                    sleep(GATHER).await; // pace
                    batches.send(&peer).await;
                });
            }
            Turn::Gathered { is_first: false } => {}
        }
        receiver.await.unwrap_or_else(|_| Err(SourceError::Unavailable("the request was given up".to_owned())))
    }

    /// Takes in a question: what becomes of it.
    fn turn(&self, id: NodeId, hash: StoreHash, sender: oneshot::Sender<Said<E>>) -> Turn {
        let mut all = self.0.lock();
        let asked = all.entry(id).or_default();
        let is_full = asked.gathered.len() >= HASHES_MAX && !asked.gathered.contains_key(&hash);
        if asked.under_way == 0 || is_full {
            asked.under_way += 1;
            return Turn::Alone;
        }
        let is_first = asked.gathered.is_empty();
        asked.gathered.entry(hash).or_default().push(sender);
        Turn::Gathered { is_first }
    }

    /// Sends what was gathered, and tells everybody what came.
    async fn send(self: Arc<Self>, peer: &Arc<PeerSource>) {
        let id = peer.0.id();
        let gathered = {
            let mut all = self.0.lock();
            let asked = all.entry(id).or_default();
            asked.under_way += 1;
            std::mem::take(&mut asked.gathered)
        };
        let _under_way = UnderWay(Arc::clone(&self), id);
        let hashes: Vec<StoreHash> = gathered.keys().copied().collect();
        let mut said = match &hashes[..] {
            [] => return,
            [one] => E::about_one(peer, *one).await.map(|said| HashMap::from([(*one, said)])),
            _ => E::about_many(peer, &hashes).await,
        };
        let mut unsaid = Vec::new();
        for (hash, waiting) in gathered {
            match &mut said {
                Ok(said) => match said.remove(&hash) {
                    Some(said) => tell::<E>(&Ok(said), waiting),
                    None => unsaid.push((hash, waiting)),
                },
                Err(error) => tell::<E>(&Err(error.again()), waiting),
            }
        }
        // Of these nothing was said: they did not fit, or could not be read at the moment.
        for (hash, waiting) in unsaid {
            let peer = Arc::clone(peer);
            tokio::spawn(async move { tell::<E>(&E::about_one(&peer, hash).await, waiting) });
        }
    }
}

/// Tells everybody who waits for it.
fn tell<E: Exchange>(answer: &Said<E>, waiting: Vec<oneshot::Sender<Said<E>>>) {
    for waiting in waiting {
        // Nobody may be waiting any more.
        let _ = waiting.send(answer.as_ref().map_err(SourceError::again).cloned());
    }
}

/// Counts a request until it is over, however that is.
struct UnderWay<E: Exchange>(Arc<Batches<E>>, NodeId);

impl<E: Exchange> Drop for UnderWay<E> {
    fn drop(&mut self) {
        let mut all = self.0.0.lock();
        let Some(asked) = all.get_mut(&self.1) else { return };
        asked.under_way -= 1;
        if asked.under_way == 0 && asked.gathered.is_empty() {
            all.remove(&self.1);
        }
    }
}
