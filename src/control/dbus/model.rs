//! What the objects on the bus show: one snapshot of the service, taken when something happened or somebody looks.

use super::dict::{text, texts};
use super::paths::{job_path, key_path, none};
use crate::control::{Control, Job, Key, Outcome, Peer, PeerFilter, ServiceState, Statistics, Status};
use parking_lot::RwLock;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Mutex, Notify};
use zbus::{OwnedObjectPath, Variant};

/// Peers with an object, as many as the table of peers may have.
const PEERS_MAX: usize = 4096;
/// Keys with an object.
const KEYS_MAX: usize = 256;
/// Jobs with an object.
const JOBS_MAX: usize = 64;
/// How old the figures may be that somebody reads.
const FRESH: Duration = Duration::from_secs(1);

/// The service at one moment.
pub(super) struct View {
    taken: Instant,
    pub(super) status: Status,
    pub(super) statistics: Statistics,
    pub(super) peers: BTreeMap<String, Peer>,
    pub(super) keys: BTreeMap<String, Key>,
    pub(super) jobs: BTreeMap<u64, Job>,
}

/// The newest snapshot, and how the next one is taken.
pub(super) struct Model {
    pub(super) control: Arc<dyn Control>,
    view: RwLock<Arc<View>>,
    /// One snapshot at a time, however many look. Nothing but the service itself is asked meanwhile, never the bus.
    turn: Mutex<()>,
    /// Something changed that no event tells of.
    pub(super) hint: Notify,
}

impl Model {
    /// Takes the first snapshot.
    pub(super) async fn new(control: Arc<dyn Control>) -> Outcome<Self> {
        let view = RwLock::new(Arc::new(take(&*control).await?));
        Ok(Self { control, view, turn: Mutex::new(()), hint: Notify::new() })
    }

    /// The newest snapshot.
    pub(super) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read())
    }

    /// A snapshot that is not older than a second: for figures that change all the time.
    pub(super) async fn fresh(&self) -> Arc<View> {
        self.younger(FRESH).await
    }

    /// A new snapshot.
    pub(super) async fn renew(&self) -> Arc<View> {
        self.younger(Duration::ZERO).await
    }

    async fn younger(&self, limit: Duration) -> Arc<View> {
        let view = self.view();
        if view.taken.elapsed() < limit {
            return view;
        }
        let _turn = self.turn.lock().await;
        let view = self.view();
        if view.taken.elapsed() < limit {
            return view;
        }
        match take(&*self.control).await {
            Ok(view) => {
                let view = Arc::new(view);
                *self.view.write() = Arc::clone(&view);
                view
            }
            Err(error) => {
                log::debug!("the objects on the bus show what was before: {error}");
                view
            }
        }
    }
}

async fn take(control: &dyn Control) -> Outcome<View> {
    let taken = Instant::now();
    let peers = control.peers(PeerFilter::default()).await?;
    let keys = control.keys().await?;
    let jobs = control.jobs().await?;
    Ok(View {
        taken,
        status: control.status().await?,
        statistics: control.statistics().await?,
        peers: peers.into_iter().take(PEERS_MAX).map(|peer| (peer.id.clone(), peer)).collect(),
        keys: keys.into_iter().take(KEYS_MAX).map(|key| (key.fingerprint.clone(), key)).collect(),
        jobs: jobs.into_iter().rev().take(JOBS_MAX).map(|job| (job.id, job)).collect(),
    })
}

/// Properties by name, as `PropertiesChanged` tells them.
pub(super) type Properties = Vec<(&'static str, Variant<'static>)>;

/// What an object shows that changes, and that others are told of. Figures that change all the time are not among it.
pub(super) trait Shown {
    /// The values now.
    fn shown(&self) -> Properties;
}

impl Shown for View {
    fn shown(&self) -> Properties {
        let status = &self.status;
        vec![
            ("State", status.state.as_str().into()),
            ("Draining", (status.state == ServiceState::Draining).into()),
            ("Problems", texts(&status.problems).into()),
            ("Listen", self.listen().into()),
            ("PeersKnown", status.peers_known.into()),
            ("PeersOnline", status.peers_online.into()),
            ("SharePolicy", text(&status.share_policy).into()),
            ("ActiveKey", self.active_key().into_inner().into()),
            ("LastReloadTimestamp", self.last_reload().0.into()),
            ("LastReloadResult", self.last_reload().1.into()),
            ("LogLevel", status.log_level.as_str().into()),
            ("Jobs", Variant::from(self.job_paths())),
        ]
    }
}

impl View {
    /// Where the service listens, by face.
    pub(super) fn listen(&self) -> Vec<String> {
        let listen = &self.status.listen;
        let faces = [("gateway", &listen.gateway), ("share", &listen.share), ("plain", &listen.plain)];
        faces.iter().filter_map(|(face, address)| address.as_ref().map(|address| format!("{face} {address}"))).collect()
    }

    /// The object of the key that signs, `/` if there is none.
    pub(super) fn active_key(&self) -> OwnedObjectPath {
        self.status.active_key.as_deref().map_or_else(none, key_path)
    }

    /// When the configuration was read again, and what came of it: `none`, `success`, or what is wrong with it.
    pub(super) fn last_reload(&self) -> (u64, String) {
        match &self.status.last_reload {
            None => (0, "none".to_owned()),
            Some(reload) if reload.success => (reload.timestamp, "success".to_owned()),
            Some(reload) => (reload.timestamp, text(reload.error.as_deref().unwrap_or("failed"))),
        }
    }

    /// The objects of the jobs.
    pub(super) fn job_paths(&self) -> Vec<OwnedObjectPath> {
        self.jobs.keys().map(|id| job_path(*id)).collect()
    }
}
