//! Responders for tests that say what they are told, in virtual time.

use super::resolution::Holder;
use super::responder::{Network, Responder, Responders};
use super::verify::Trust;
use crate::fetch::error::{SourceError, Violation};
use crate::fetch::source::scripted::Scripted;
use crate::fetch::source::{Remote, Source};
use crate::nix::{Compression, PathInfo, StoreHash};
use crate::peers::PeerEvent;
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
        Arc::new(Self { says, after, source: Arc::new(source), info, document: None, asked: Mutex::default() })
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

    async fn narinfo(&self, hash: StoreHash, _: &Arc<Trust>) -> Result<Option<Holder>, SourceError> {
        *self.asked.lock() += 1;
        sleep(self.after).await; // pace
        assert_eq!(hash, self.info.path.hash());
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
    peers: Vec<Arc<Voice>>,
    upstreams: Vec<Arc<Voice>>,
    events: broadcast::Sender<PeerEvent>,
}

fn responders(voices: &[Arc<Voice>]) -> Vec<Arc<dyn Responder>> {
    voices.iter().map(|voice| Arc::clone(voice) as _).collect()
}

impl Everybody {
    pub(crate) fn new(peers: &[Arc<Voice>], upstreams: &[Arc<Voice>]) -> Arc<Self> {
        let (peers, upstreams, events) = (peers.to_vec(), upstreams.to_vec(), broadcast::channel(8).0);
        Arc::new(Self { peers, upstreams, events })
    }
}

impl Network for Everybody {
    fn responders(&self) -> Responders {
        Responders { peers: responders(&self.peers), upstreams: responders(&self.upstreams), is_partial: false }
    }

    fn upstreams(&self) -> Vec<Arc<dyn Responder>> {
        responders(&self.upstreams)
    }

    fn subscribe(&self) -> broadcast::Receiver<PeerEvent> {
        self.events.subscribe()
    }
}
