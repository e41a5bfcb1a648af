//! Reading the configuration again: what can change while the service runs does, the rest is named.

use super::options;
use super::uploads::UploadRules;
use super::upstreams::{self, Upstreams};
use crate::config::{Config, Discovery, Gateway, OnMetered, Policy, Share, Signing, Trust, TrustedBy};
use crate::control::{self, Event, EventKind, EventLog, ServiceState, StateCell, timestamp};
use crate::fetch::Fetcher;
use crate::keys::{SigningKeys, TrustList};
use crate::peers::{Peers, State};
use crate::resilience::Versioned;
use crate::store::SharePolicy;
use crate::system::host_name::HostName;
use crate::system::journal;
use crate::system::message_ids as ids;
use crate::system::sockets::Addresses;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use zeroize::Zeroizing;

/// The configuration in force, and the rooms that follow it.
pub(super) struct Current {
    pub(super) config: Config,
    /// What the service started with: some of it stays until it ends.
    pub(super) started: Config,
    /// The keys that it, or Nix, trusts.
    pub(super) trusted: TrustedBy,
    pub(super) fetcher: Fetcher,
    /// The cache directory.
    pub(super) cache: PathBuf,
    pub(super) peers: Peers,
    /// What may be shared.
    pub(super) policy: Versioned<SharePolicy>,
    pub(super) keys: SigningKeys,
    pub(super) trust: TrustList,
    pub(super) state: StateCell,
    pub(super) events: EventLog,
    pub(super) upload_rules: watch::Sender<UploadRules>,
}

/// What was read to be put in force.
struct Read {
    config: Config,
    trusted: TrustedBy,
    upstreams: Upstreams,
    /// The credential that signs, if one does.
    signing_key: Option<Zeroizing<String>>,
}

impl Current {
    /// Reads the configuration and puts in force what changed in it. A bad one changes nothing.
    pub(super) async fn reload(&mut self) -> control::Reload {
        let (in_force, trusted_before) = (self.config.clone(), self.trusted.clone());
        let signs_by_credential = self.started.keys.signing == Signing::Credential;
        // A configuration may lie on a file system that is slow to answer.
        let read = tokio::task::spawn_blocking(move || {
            let config = in_force.load_again().map_err(|problem| problem.to_string())?;
            let trusted = config.trusted_keys();
            if let Some(why) = trusted.unknown {
                return Err(why);
            }
            if let Some(file) = trusted.gone_since(&trusted_before) {
                return Err(format!(
                    "{}: is gone, and said which keys Nix trusts: put it back, or restart the service to go on without it",
                    file.display()
                ));
            }
            let signing_key = signs_by_credential.then(options::signing_key).transpose();
            let signing_key = signing_key.map_err(|problem| format!("{problem:#}"))?;
            let upstreams = upstreams::read(&config);
            match upstreams.left_out.first() {
                None => Ok::<_, String>(Read { config, trusted, upstreams, signing_key }),
                Some(why) => Err(why.clone()),
            }
        });
        let read = read.await.unwrap_or_else(|_| Err("the reading of the configuration was cut off".to_owned()));
        let outcome = match read {
            Ok(read) => self.apply(read).await,
            Err(problem) => Err(problem),
        };
        let timestamp = timestamp(SystemTime::now());
        match outcome {
            Ok(restart_needed) => {
                if restart_needed.is_empty() {
                    log::info!(message_id = ids::RELOADED; "configuration reloaded");
                } else {
                    log::warn!(message_id = ids::RELOADED, sections = restart_needed.join(" ").as_str(); "configuration reloaded; changes in [{}] take effect at the next start", restart_needed.join("], ["));
                }
                self.events.tell(Event::new(EventKind::Reloaded));
                control::Reload { timestamp, success: true, error: None, restart_needed }
            }
            Err(problem) => {
                log::error!(message_id = ids::RELOAD_FAILED, reason = problem.as_str(); "the configuration was not reloaded and stays as it was: {problem}");
                self.events.tell(Event { message: Some(problem.clone()), ..Event::new(EventKind::ReloadFailed) });
                control::Reload { timestamp, success: false, error: Some(problem), restart_needed: Vec::new() }
            }
        }
    }

    /// Puts a configuration in force; gives the sections with changes that have to wait. Does all of it or nothing.
    async fn apply(&mut self, read: Read) -> Result<Vec<String>, String> {
        let Read { config: new, trusted, upstreams, signing_key } = read;
        // What can fail comes first.
        let policy = options::share_policy(&new).map_err(|error| error.to_string())?;
        self.keys.configure(new.keys.name.clone(), new.keys.grace);
        if new.share.policy == Policy::SignedAndOwn
            && let Err(error) = self.keys.ensure().await
        {
            self.keys.configure(self.config.keys.name.clone(), self.config.keys.grace);
            return Err(error.to_string());
        }
        if let Some(text) = signing_key
            && let Err(error) = self.keys.replace_credential(&text).await
        {
            self.keys.configure(self.config.keys.name.clone(), self.config.keys.grace);
            return Err(error.to_string());
        }
        self.policy.set(policy);
        self.upload_rules.send_replace(UploadRules::of(&new));
        journal::set_level(new.log.level);
        let origin = options::origin(&new);
        self.trust.set_base(trusted.keys.clone(), origin).await;
        if new.gateway.proxy != self.config.gateway.proxy {
            self.fetcher.set_proxies(options::proxies(&new));
        }
        upstreams.tell(&self.trust);
        self.fetcher.set_upstreams(&upstreams.options);
        self.state.upstreams_left_out(Vec::new());
        self.state.trust_unknown(None);
        self.state.nix_conf_doubtful(trusted.notices.clone());
        self.fetcher.set_budget(Duration::from_millis(new.gateway.budget_ms));
        self.fetcher.set_read_ahead(new.gateway.read_ahead);
        self.fetcher.set_download_limit(options::download(&new));
        self.fetcher.set_spools(options::spools(&new, &self.cache));
        self.peers.set_fixed(&new.discovery.peers);
        let waiting = waiting(&self.started, &new);
        (self.config, self.trusted) = (new, trusted);
        Ok(waiting)
    }

    /// Takes over the name of the machine, if it has another one than when it was last looked.
    pub(super) async fn renamed(&self, mut host_name: HostName) -> HostName {
        let look = tokio::task::spawn_blocking(move || (host_name.changed(), host_name));
        // It fails only when the program is being stopped.
        let Ok((changed, host_name)) = look.await else { return HostName::now() };
        if let Some(name) = changed {
            log::info!(name = name.as_str(); "this machine is called {name} now");
            self.peers.rename(&name);
            self.keys.rename_host(name.clone());
            self.state.renamed(name);
        }
        host_name
    }

    /// What `systemctl status` shows.
    pub(super) fn status_line(&self, addresses: &Addresses) -> String {
        let peers = self.peers.snapshot();
        let online = peers.iter().filter(|peer| peer.state == State::Online).count();
        let gateway = addresses.gateway.map_or_else(|| "no gateway".to_owned(), |gateway| format!("http://{gateway}"));
        let draining = if self.state.get() == ServiceState::Draining { "Draining · " } else { "" };
        let transfers = match self.fetcher.transfers_running() {
            0 => String::new(),
            count => format!(" · {count} transfer(s)"),
        };
        let uploads =
            self.state.why_uploads_pause().map_or_else(String::new, |why| format!(" · uploads paused: {why}"));
        format!("{draining}Serving Nix on {gateway} · {online}/{} peers online{transfers}{uploads}", peers.len())
    }

    /// What is shared, in the word of the configuration.
    pub(super) fn share_policy(&self) -> &'static str {
        policy_name(self.config.share.policy)
    }
}

/// A policy, in the word of the configuration.
pub(super) fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::Off => "off",
        Policy::Signed => "signed",
        Policy::SignedAndOwn => "signed+own",
    }
}

/// The sections in which something differs that does not change while the service runs.
fn waiting(old: &Config, new: &Config) -> Vec<String> {
    let gateway = |config: &Config| Gateway {
        upstreams: Vec::new(),
        budget_ms: 0,
        read_ahead: true,
        download_limit: 0,
        download_limit_per_peer: 0,
        proxy: None,
        ..config.gateway.clone()
    };
    let share = |config: &Config| Share {
        policy: Policy::Off,
        public_keys: Vec::new(),
        deny: Vec::new(),
        upload_limit: 0,
        upload_limit_per_peer: 0,
        upload_schedule: Vec::new(),
        on_metered: OnMetered::default(),
        battery_min: 0,
        ..config.share.clone()
    };
    let discovery = |config: &Config| Discovery { peers: Vec::new(), ..config.discovery.clone() };
    let differs = [
        ("gateway", gateway(old) != gateway(new)),
        ("share", share(old) != share(new)),
        ("store", old.store != new.store),
        ("discovery", discovery(old) != discovery(new)),
        ("fleet", old.fleet != new.fleet),
        ("keys", old.keys.signing != new.keys.signing),
        ("swarm", old.swarm != new.swarm),
        ("nats", old.nats != new.nats),
        ("replicate", old.replicate != new.replicate),
        ("limits", old.limits != new.limits),
    ];
    // Every section is named here, so that a new one is not forgotten.
    let Config {
        gateway: _,
        share: _,
        store: _,
        trust: Trust { .. },
        discovery: _,
        fleet: _,
        keys: _,
        swarm: _,
        nats: _,
        replicate: _,
        cache: _,
        limits: _,
        log: _,
        origin: _,
        owner: _,
    } = new;
    differs.into_iter().filter(|(_, differs)| *differs).map(|(section, _)| section.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_change_has_to_wait() {
        let config = |text: &str| Config::from_text(text, None).unwrap();
        let old = config("");
        assert!(
            waiting(&old, &config("[log]\nlevel = \"debug\"\n[gateway]\nbudget_ms = 200\nproxy = \"\"\n")).is_empty()
        );
        assert!(waiting(&old, &config("[share]\npolicy = \"off\"\n[discovery]\npeers = [\"a:1\"]\n")).is_empty());
        let new = config("[share]\nmax_connections = 7\n[discovery]\nmdns = false\n[limits]\nper_address = 9\n");
        assert_eq!(waiting(&old, &new), ["share", "discovery", "limits"]);
    }
}
