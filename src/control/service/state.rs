//! What the service is doing, and how it is told to read its configuration again.

use crate::control::types::{Finding, Reload, ServiceState};
use crate::control::{ControlError, ErrorKind, Outcome};
use parking_lot::{Mutex, MutexGuard};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{mpsc, oneshot};

/// How many reloads may wait for one another.
const RELOADS_WAITING: usize = 8;

/// What is said of the service as a whole and does not change while it runs.
#[derive(Debug, Clone)]
pub struct ServiceInfo {
    /// The identity of this machine.
    pub node_id: String,
    /// The name of this machine.
    pub host_name: String,
    /// When the service started.
    pub started: SystemTime,
    /// Where it listens.
    pub listen: crate::control::types::Listen,
    /// How far it has locked itself in, in words.
    pub sandbox: String,
    /// Where it writes.
    pub directories: Vec<PathBuf>,
}

/// What the service is doing, for those who tell it and those who are told. Clones are the same.
#[derive(Debug, Clone)]
pub struct StateCell(Arc<Mutex<Said>>);

#[derive(Debug)]
struct Said {
    state: ServiceState,
    draining: bool,
    stopping: bool,
    last_reload: Option<Reload>,
    share_policy: String,
    configuration: Option<String>,
    left_out: Vec<String>,
    trust_unknown: Option<String>,
    doubtful: Vec<String>,
    renamed: Option<String>,
    uploads_paused: Option<String>,
}

impl StateCell {
    /// The service starts, with this configuration.
    #[must_use]
    pub fn new(configuration: Option<String>, share_policy: &str) -> Self {
        Self(Arc::new(Mutex::new(Said {
            state: ServiceState::Starting,
            draining: false,
            stopping: false,
            last_reload: None,
            share_policy: share_policy.to_owned(),
            configuration,
            left_out: Vec::new(),
            trust_unknown: None,
            doubtful: Vec::new(),
            renamed: None,
            uploads_paused: None,
        })))
    }

    /// What it is doing.
    #[must_use]
    pub fn get(&self) -> ServiceState {
        self.said().state
    }

    /// It does its work, unless it drains or stops.
    pub fn working(&self) {
        self.said().settle();
    }

    /// It reads its configuration.
    pub fn reloading(&self) {
        self.said().state = ServiceState::Reloading;
    }

    /// It read its configuration; `share_policy` is in force now.
    pub fn reloaded(&self, reload: Reload, share_policy: Option<&str>) {
        let mut said = self.said();
        said.last_reload = Some(reload);
        if let Some(policy) = share_policy {
            policy.clone_into(&mut said.share_policy);
        }
        said.settle();
    }

    /// It takes no new work, or takes it again.
    pub fn draining(&self, draining: bool) {
        let mut said = self.said();
        said.draining = draining;
        said.settle();
    }

    /// It is about to end.
    pub fn stopping(&self) {
        let mut said = self.said();
        said.stopping = true;
        said.settle();
    }

    /// Why upstreams of the configuration are not asked, for each that is not.
    pub fn upstreams_left_out(&self, why: Vec<String>) {
        self.said().left_out = why;
    }

    /// The machine has another name than when the service started.
    pub fn renamed(&self, name: String) {
        self.said().renamed = Some(name);
    }

    /// Its name, if it changed since the service started.
    pub(super) fn new_host_name(&self) -> Option<String> {
        self.said().renamed.clone()
    }

    /// Why nothing is sent to other machines, if so.
    pub fn uploads_paused(&self, why: Option<String>) {
        self.said().uploads_paused = why;
    }

    /// The same, for those who ask.
    #[must_use]
    pub fn why_uploads_pause(&self) -> Option<String> {
        self.said().uploads_paused.clone()
    }

    /// Why it is not known whom Nix trusts, if so.
    pub fn trust_unknown(&self, why: Option<String>) {
        self.said().trust_unknown = why;
    }

    /// What of nix.conf does not count as it is written.
    pub fn nix_conf_doubtful(&self, notices: Vec<String>) {
        self.said().doubtful = notices;
    }

    /// What of the configuration is not in force, and why, for each.
    pub(super) fn not_in_force(&self) -> Vec<(Finding, String)> {
        let said = self.said();
        let unknown = said.trust_unknown.iter().map(|why| (Finding::TrustUnknown, format!("{why}.")));
        let doubtful = said.doubtful.iter().map(|why| (Finding::NixConfDoubtful, format!("{why}.")));
        let left_out =
            said.left_out.iter().map(|why| (Finding::UpstreamLeftOut, format!("Of the configuration, {why}.")));
        unknown.chain(doubtful).chain(left_out).collect()
    }

    /// The last time that the configuration was read again.
    #[must_use]
    pub fn last_reload(&self) -> Option<Reload> {
        self.said().last_reload.clone()
    }

    /// What is shared, in the word of the configuration.
    #[must_use]
    pub fn share_policy(&self) -> String {
        self.said().share_policy.clone()
    }

    /// The configuration file in force.
    #[must_use]
    pub fn configuration(&self) -> Option<String> {
        self.said().configuration.clone()
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.0.lock()
    }
}

impl Said {
    /// What it is doing, when it is not reading its configuration.
    fn settle(&mut self) {
        self.state = match (self.stopping, self.draining) {
            (true, _) => ServiceState::Stopping,
            (_, true) => ServiceState::Draining,
            _ => ServiceState::Running,
        };
    }
}

/// Asks whoever reads the configuration to do so. Clones are the same.
#[derive(Debug, Clone)]
pub struct Reloader(mpsc::Sender<oneshot::Sender<Reload>>);

impl Reloader {
    /// The one who asks, and what the one who reads is asked by.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<oneshot::Sender<Reload>>) {
        let (sender, receiver) = mpsc::channel(RELOADS_WAITING);
        (Self(sender), receiver)
    }

    /// Has the configuration read again.
    pub(super) async fn reload(&self) -> Outcome<Reload> {
        let stopping = || ControlError::new(ErrorKind::Draining, "the service is stopping");
        let (answer, answered) = oneshot::channel();
        match self.0.try_send(answer) {
            Ok(()) => answered.await.map_err(|_| stopping()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(ControlError::new(ErrorKind::Busy, "the configuration is being read already"))
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(stopping()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_more_than_running_stays() {
        let state = StateCell::new(None, "signed");
        assert_eq!(state.get(), ServiceState::Starting);
        state.working();
        state.draining(true);
        state.reloading();
        let reload = Reload { timestamp: 1, success: true, error: None, restart_needed: vec![] };
        state.reloaded(reload, Some("off"));
        assert_eq!((state.get(), state.share_policy().as_str()), (ServiceState::Draining, "off"));
        state.stopping();
        state.draining(false);
        assert_eq!(state.get(), ServiceState::Stopping);
    }

    #[tokio::test]
    async fn a_reload_is_answered_or_refused() {
        let (reloader, mut asked) = Reloader::new();
        let reading = tokio::spawn(async move {
            let answer = asked.recv().await.unwrap();
            answer.send(Reload { timestamp: 1, success: true, error: None, restart_needed: vec![] }).unwrap();
        });
        assert!(reloader.reload().await.unwrap().success);
        reading.await.unwrap();
        assert_eq!(reloader.reload().await.unwrap_err().kind, ErrorKind::Draining);
    }
}
