//! Responders for tests that say what they are told, in virtual time.

use super::resolution::Holder;
use super::responder::{Network, Responder, Responders};
use super::verify::Trust;
use crate::fetch::error::{SourceError, Violation};
use crate::fetch::source::scripted::Scripted;
use crate::fetch::source::{Remote, Source, SourceId};
use crate::nix::{Compression, PathInfo, StoreHash};
use crate::peers::{PeerEvent, State};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::sleep;

/// What a responder says.
#[derive(Clone, Copy)]
pub(crate) enum Says {
    Yes,
    No,
    Nothing,
    /// Fails.
    Breaks,
    /// Says yes, with a signature that does not verify.
    Lies,
}

/// Somebody who says something after so long, and counts how often it was asked.
pub(crate) struct Voice {
    says: Says,
    after: Duration,
    pub(crate) source: Arc<Scripted>,
    info: PathInfo,
    works: bool,
    tier: u8,
    /// What it has for whoever asks for a document.
    document: Option<Bytes>,
    asked: Mutex<u32>,
}

impl Voice {
    pub(crate) fn peer(number: u8, says: Says, after_ms: u64) -> Arc<Self> {
        Self::new(Scripted::peer(number, &Bytes::new(), []), PathInfo::example(), says, after_ms)
    }

    pub(crate) fn upstream(number: u8, says: Says, after_ms: u64) -> Arc<Self> {
        Self::new(Scripted::upstream(number, &Bytes::new(), []), PathInfo::example(), says, after_ms)
    }

    /// One that has the NAR of `info` at `source`.
    pub(crate) fn new(source: Scripted, info: PathInfo, says: Says, after_ms: u64) -> Arc<Self> {
        let after = Duration::from_millis(after_ms);
        Arc::new(Self {
            says,
            after,
            source: Arc::new(source),
            info,
            works: true,
            tier: 1,
            document: None,
            asked: Mutex::default(),
        })
    }

    /// An upstream that did not answer of late.
    pub(crate) fn doubtful(number: u8, says: Says, after_ms: u64) -> Arc<Self> {
        let voice = Self::new(Scripted::upstream(number, &Bytes::new(), []), PathInfo::example(), says, after_ms);
        Arc::new(Self { works: false, ..Arc::into_inner(voice).unwrap() })
    }

    /// An upstream of this tier.
    pub(crate) fn of_tier(tier: u8, number: u8, says: Says, after_ms: u64) -> Arc<Self> {
        Arc::new(Self { tier, ..Arc::into_inner(Self::upstream(number, says, after_ms)).unwrap() })
    }

    /// The same, with a document.
    pub(crate) fn with_document(self: Arc<Self>, document: &str) -> Arc<Self> {
        let mut voice = Arc::into_inner(self).expect("nobody else has it yet");
        voice.document = Some(Bytes::copy_from_slice(document.as_bytes()));
        Arc::new(voice)
    }

    pub(crate) fn asked(&self) -> u32 {
        *self.asked.lock()
    }
}

#[async_trait]
impl Responder for Voice {
    fn remote(&self) -> &dyn Remote {
        self.source.as_ref()
    }

    fn works(&self) -> bool {
        self.works
    }

    fn tier(&self) -> u8 {
        self.tier
    }

    async fn narinfo(&self, hash: StoreHash, _: &Arc<Trust>) -> Result<Option<Holder>, SourceError> {
        *self.asked.lock() += 1;
        sleep(self.after).await; // pace
        if hash != self.info.path.hash() {
            return Ok(None);
        }
        let source = Arc::clone(&self.source) as Arc<dyn Source>;
        let holder = Holder { info: self.info.clone(), source, compression: Compression::None, file_size: None };
        match self.says {
            Says::Yes => Ok(Some(holder)),
            Says::No => Ok(None),
            Says::Nothing => std::future::pending().await,
            Says::Breaks => Err(SourceError::Connection("broken".into())),
            Says::Lies => Err(Violation::Forged("a-1".into()).into()),
        }
    }

    async fn document(&self, _: &str, _: usize) -> Result<Option<Bytes>, SourceError> {
        *self.asked.lock() += 1;
        sleep(self.after).await; // pace
        Ok(self.document.clone())
    }
}

/// Everybody there is.
pub(crate) struct Everybody {
    peers: Mutex<Vec<Arc<Voice>>>,
    upstreams: Vec<Arc<Voice>>,
    /// There are peers besides, which are not asked.
    others: bool,
    /// The peers are said to have what is asked for.
    hold: bool,
    events: broadcast::Sender<PeerEvent>,
}

fn responders(voices: &[Arc<Voice>]) -> Vec<Arc<dyn Responder>> {
    voices.iter().map(|voice| Arc::clone(voice) as _).collect()
}

impl Everybody {
    pub(crate) fn new(peers: &[Arc<Voice>], upstreams: &[Arc<Voice>]) -> Arc<Self> {
        Self::with_others(peers, upstreams, false)
    }

    pub(crate) fn with_others(peers: &[Arc<Voice>], upstreams: &[Arc<Voice>], others: bool) -> Arc<Self> {
        let (peers, upstreams, events) = (Mutex::new(peers.to_vec()), upstreams.to_vec(), broadcast::channel(8).0);
        Arc::new(Self { peers, upstreams, others, hold: false, events })
    }

    /// These are said to have it, and there is nobody else.
    pub(crate) fn holding(peers: &[Arc<Voice>]) -> Arc<Self> {
        let (peers, events) = (Mutex::new(peers.to_vec()), broadcast::channel(8).0);
        Arc::new(Self { peers, upstreams: Vec::new(), others: false, hold: true, events })
    }

    /// One more peer comes online.
    pub(crate) fn comes(&self, peer: &Arc<Voice>) {
        let SourceId::Peer(id) = peer.source.id() else { panic!("an upstream does not come") };
        self.peers.lock().push(Arc::clone(peer));
        let _ = self.events.send(PeerEvent::Changed { id, name: String::new(), from: None, to: State::Online });
    }
}

impl Network for Everybody {
    fn responders(&self) -> Responders {
        let (peers, upstreams) = (responders(&self.peers.lock()), responders(&self.upstreams));
        let holders = if self.hold { peers.len() } else { 0 };
        Responders { peers, holders, upstreams, is_partial: self.others }
    }

    fn upstreams(&self) -> Vec<Arc<dyn Responder>> {
        responders(&self.upstreams)
    }

    fn subscribe(&self) -> broadcast::Receiver<PeerEvent> {
        self.events.subscribe()
    }
}
