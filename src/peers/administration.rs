//! What an administrator does with peers: add, forget, block, unblock, ping, look again, and find one by what people call it.

use super::decisions::{ADDED_MAX, BLOCKED_MAX};
use super::discovery::FixedPeer;
use super::discovery::fixed::Search;
use super::error::{LinkError, PeersError};
use super::handle::Peers;
use super::hello::TEXT_MAX;
use super::identity::NodeId;
use super::peer::{Peer, shortened};
use super::persistence;
use super::record::{Block, unix};
use super::state::PeerEvent;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

/// How long a [`Peers::ping`] may take, connection included.
pub const PING_LIMIT: Duration = Duration::from_secs(3);
/// The shortest beginning of an identity that [`Peers::resolve`] takes, in characters.
pub const PREFIX_MIN: usize = 4;
/// How many candidates are named when a text means several peers.
const AMBIGUOUS_MAX: usize = 8;

/// A fixed address at which nobody has answered yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unseen {
    /// As [`Peers::forget_address`] takes it.
    pub address: String,
    /// Whether it was added at run time, and is not the configuration's.
    pub added: bool,
}

/// What became of [`Peers::add`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// It is looked for from now on.
    New,
    /// It was configured or added before; nothing changed.
    AlreadyThere,
}

impl Peers {
    /// Adds a peer at `uri` (`HOST:PORT` or `NODEID@HOST:PORT`) as if it were in the configuration, also after a restart.
    /// Without a node id, whoever answers there is taken by its key; with one, it replaces what was added for that address
    /// without it or with another.
    ///
    /// Who is blocked can be added, and stays blocked.
    ///
    /// # Errors
    /// `uri` is no address, or this machine's own, or of a node that is not a member of the fleet, or the configuration
    /// expects anybody else at that address; there are too many; the decision cannot be written down.
    pub async fn add(&self, uri: &str) -> Result<Added, PeersError> {
        let peer: FixedPeer = uri.parse()?;
        match peer.id {
            Some(id) if id == self.0.id => return Err(PeersError::Ourselves),
            Some(id) if !self.0.admission.admits(id) => return Err(LinkError::NotAdmitted(id).into()),
            _ => {}
        }
        let edit = self.0.decisions.edit().await;
        let says_as_much = |other: &FixedPeer| peer.id.is_none() || other.id == peer.id;
        for other in self.0.searches().iter().filter(|search| search.peer.is_same_address(&peer)) {
            if says_as_much(&other.peer) {
                return Ok(Added::AlreadyThere);
            }
            if !other.added {
                return Err(PeersError::Configured(other.peer.to_string()));
            }
        }
        let new = edit.change(|content| {
            if content.added.iter().any(|other| other.is_same_address(&peer) && says_as_much(other)) {
                return Ok(false);
            }
            content.added.retain(|other| !other.is_same_address(&peer));
            if content.added.len() >= ADDED_MAX {
                return Err(PeersError::TooMany { what: "peers can be added", limit: ADDED_MAX });
            }
            content.added.push(peer.clone());
            Ok(true)
        });
        if !new.await? {
            return Ok(Added::AlreadyThere);
        }
        self.0.end_searches(|other| other.peer.is_same_address(&peer));
        log::info!(address:% = peer; "peer added");
        let _ = self.0.notices.events.send(PeerEvent::Added { address: peer.to_string() });
        self.0.begin_search(peer, true);
        Ok(Added::New)
    }

    /// Drops all that is known about a peer, and what was added for it. False if there was nothing. A ban that runs is
    /// dropped with it; a block is not, and keeps the peer in the list.
    ///
    /// A peer that the configuration names, that is announced by mDNS or that greets us comes back by itself, as a new one.
    ///
    /// # Errors
    /// The decision cannot be written down.
    pub async fn forget(&self, id: NodeId) -> Result<bool, PeersError> {
        let dropped = self.drop_added(|search| search.is_for(id), |peer| peer.id == Some(id)).await?;
        let known = self.0.forget(id);
        if known || dropped {
            log::info!(peer:% = id; "peer forgotten at the administrator's word");
            self.0.notices.worth_saving.notify_one();
        }
        let _edit = self.0.decisions.edit().await;
        if let Some(block) = self.0.decisions.block_of(id) {
            self.0.show_blocked(id, &block);
        }
        Ok(known || dropped)
    }

    /// Drops what was added at `address` (`HOST:PORT`, with or without a node id in front), and all that is known about who
    /// was found there: the way to get rid of one that never answered and so has no identity. False if nothing was added
    /// there.
    ///
    /// # Errors
    /// `address` is none; the decision cannot be written down.
    pub async fn forget_address(&self, address: &str) -> Result<bool, PeersError> {
        let meant: FixedPeer = address.parse()?;
        let is_it = |peer: &FixedPeer| peer.is_same_address(&meant) && (meant.id.is_none() || meant.id == peer.id);
        let found: Vec<NodeId> = {
            let searches = self.0.searches();
            let added = searches.iter().filter(|search| search.added && is_it(&search.peer));
            added.filter_map(|search| search.peer.id.or_else(|| search.found())).collect()
        };
        let dropped = self.drop_added(|search| is_it(&search.peer), is_it).await?;
        if dropped {
            log::info!(address:% = meant; "an added peer is not looked for any more");
            for id in found {
                self.forget(id).await?;
            }
        }
        Ok(dropped)
    }

    /// Who is looked for at a fixed address and is not among the peers, because nobody answered there yet.
    #[must_use]
    pub fn unseen(&self) -> Vec<Unseen> {
        let searches = self.0.searches();
        let is_seen = |search: &Search| {
            let id = search.found().or(search.peer.id);
            id.is_some_and(|id| self.0.table.get(id).is_some())
        };
        let unseen = searches.iter().filter(|search| !is_seen(search));
        unseen.map(|search| Unseen { address: search.peer.to_string(), added: search.added }).collect()
    }

    /// Ends the search for what was added, by who looks for it and by what is written down. False if nothing was.
    async fn drop_added(
        &self,
        is_meant: impl Fn(&Search) -> bool,
        is_it: impl Fn(&FixedPeer) -> bool,
    ) -> Result<bool, PeersError> {
        let edit = self.0.decisions.edit().await;
        let ended = self.0.end_searches(|search| search.added && is_meant(search));
        let dropped = edit.change(|content| {
            let before = content.added.len();
            content.added.retain(|one| !is_it(one) && !ended.iter().any(|search| search.peer.is_same_address(one)));
            Ok(content.added.len() < before)
        });
        let outcome = dropped.await;
        if outcome.is_err() {
            // Nothing was decided, so everything goes on.
            for search in ended {
                self.0.begin_search(search.peer.clone(), true);
            }
        }
        outcome
    }

    /// Has nothing to do with a peer any more, in either direction, until [`Peers::unblock`]. The peer need not be known.
    /// False if it is blocked already (then the reason stays).
    ///
    /// # Errors
    /// There are too many blocks; with [`PeersError::NotSaved`], the decision cannot be written down, and is in force all the same.
    pub async fn block(&self, id: NodeId, reason: &str) -> Result<bool, PeersError> {
        if id == self.0.id {
            return Err(PeersError::Ourselves);
        }
        let since = unix(SystemTime::now()).unwrap_or_default();
        let block = Block { reason: shortened(reason), since };
        let edit = self.0.decisions.edit().await;
        let mut is_new = false;
        let blocked = edit.enforce(|content| {
            if content.blocked.contains_key(&id) {
                return Ok(false);
            }
            if content.blocked.len() >= BLOCKED_MAX {
                return Err(PeersError::TooMany { what: "peers can be blocked", limit: BLOCKED_MAX });
            }
            content.blocked.insert(id, block.clone());
            is_new = true;
            Ok(true)
        });
        let outcome = blocked.await;
        if !is_new {
            return outcome;
        }
        let name = self.0.show_blocked(id, &block);
        log::info!(peer:% = id, name:% = name, reason:% = block.reason; "peer blocked by the administrator");
        let _ = self.0.notices.events.send(PeerEvent::Blocked { id, name, reason: block.reason });
        outcome
    }

    /// Lifts the block on a peer, and a ban. False if there was neither.
    ///
    /// # Errors
    /// The decision cannot be written down.
    pub async fn unblock(&self, id: NodeId) -> Result<bool, PeersError> {
        let edit = self.0.decisions.edit().await;
        let block = edit.change(|content| Ok(content.blocked.remove(&id).is_some())).await?;
        let peer = self.0.table.get(id);
        let lifted = peer.as_ref().is_some_and(|peer| peer.unblock());
        if block || lifted {
            let name = peer.map(|peer| peer.name()).unwrap_or_default();
            log::info!(peer:% = id, name:% = name; "peer unblocked by the administrator");
            let _ = self.0.notices.events.send(PeerEvent::Unblocked { id, name });
        }
        Ok(block || lifted)
    }

    /// Greets a peer on a new connection; the time from the request to its answer. Takes [`PING_LIMIT`] at most.
    ///
    /// # Errors
    /// The peer is not known, is blocked, or does not answer.
    pub async fn ping(&self, id: NodeId) -> Result<Duration, PeersError> {
        let peer = self.0.table.get(id).ok_or_else(|| PeersError::NoSuchPeer(id.to_string()))?;
        let blocked = peer.record().refusal().map(str::to_owned);
        if let Some(reason) = blocked {
            return Err(LinkError::Blocked(reason).into());
        }
        let greeting = async { peer.greet(&mut peer.dial().await?, PING_LIMIT).await };
        let answer = tokio::time::timeout(PING_LIMIT, Box::pin(greeting)).await;
        let answer = answer.unwrap_or(Err(LinkError::Time { step: "a ping", limit: PING_LIMIT }));
        // Either way something was learnt that its own task should know.
        peer.look.notify_one();
        Ok(answer?.1)
    }

    /// Looks at every peer now, resolves the fixed ones again, and asks on the network who is there.
    pub fn refresh(&self) {
        self.0.look_at_all();
        self.0.refresh.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Takes over another list of configured peers (`[discovery] peers`): begins to look for new ones, and stops looking for
    /// those that are gone, which are then peers like others. Those that were added at run time stay.
    pub fn set_fixed(&self, configured: &[FixedPeer]) {
        self.0.end_searches(|search| !search.added && !configured.contains(&search.peer));
        for peer in configured {
            if !self.0.searches().iter().any(|search| search.peer == *peer) {
                self.0.begin_search(peer.clone(), false);
            }
        }
    }

    /// Counts the bytes from and to each peer anew.
    pub fn reset_bytes(&self) {
        self.0.table.all().iter().for_each(|peer| peer.reset_bytes());
    }

    /// Who is meant by `text`: a whole identity, a beginning of at least [`PREFIX_MIN`] characters that is one peer's only,
    /// or a name that is one peer's only. Names prove nothing: any peer can take any name, but not without making it ambiguous.
    ///
    /// # Errors
    /// Nobody is meant, or several.
    pub fn resolve(&self, text: &str) -> Result<NodeId, PeersError> {
        if let Ok(id) = text.parse::<NodeId>() {
            let is_sought = || self.0.searches().iter().any(|one| one.added && one.is_for(id));
            let known = self.0.table.get(id).is_some() || self.0.decisions.is_blocked(id) || is_sought();
            return if known { Ok(id) } else { Err(PeersError::NoSuchPeer(text.to_owned())) };
        }
        let is_meant = |peer: &Peer| {
            let begins = text.len() >= PREFIX_MIN && peer.id().to_string().starts_with(text);
            begins || (!text.is_empty() && peer.name() == text)
        };
        let meant: BTreeSet<NodeId> =
            self.0.table.all().iter().filter(|peer| is_meant(peer)).map(|peer| peer.id()).collect();
        let mut ids = meant.iter();
        match (ids.next(), ids.next()) {
            (Some(id), None) => Ok(*id),
            (None, _) => {
                Err(PeersError::NoSuchPeer(text.chars().take(TEXT_MAX).flat_map(char::escape_debug).collect()))
            }
            (Some(_), Some(_)) => {
                let several: Vec<String> = meant.iter().take(AMBIGUOUS_MAX).map(NodeId::to_string).collect();
                Err(PeersError::Ambiguous { text: text.to_owned(), ids: several.join(", ") })
            }
        }
    }

    /// Every block by the administrator, with when it began and why, in the order of the identities.
    #[must_use]
    pub fn blocked(&self) -> Vec<(NodeId, Block)> {
        self.0.decisions.content().blocked.into_iter().collect()
    }

    /// What is known about the peers, for a program that is about to take over: what `peers.json` holds and what was
    /// measured. JSON with a version, at most as large as that file may be.
    #[must_use]
    pub fn export(&self) -> Vec<u8> {
        persistence::export(&self.0)
    }
}
