//! The keys whose signatures let a path in: those of the configuration or of nix.conf, more or less what the administrator
//! decided since.
//!
//! This is what the gateway hands on to Nix. Nix itself then checks every path against its own `trusted-public-keys`: a key
//! added here makes the gateway offer more, and Nix takes it once nix.conf names the key as well. A key that is distrusted
//! here is refused by the gateway whatever nix.conf says.

use super::clock::Clock;
use super::error::{KeysError, check_comment};
use super::fingerprint::fingerprint;
use super::signing::blocking;
use super::trust_file::{self, Added, Decisions, FILE, KEYS_MAX};
use super::view::{Origin, TrustedView};
use crate::nix::{PublicKey, TrustedKeys};
use crate::resilience::Versioned;
use parking_lot::RwLock;
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The trust list. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct TrustList(Arc<Inner>);

struct Inner {
    file: PathBuf,
    clock: Clock,
    current: RwLock<Arc<Current>>,
    /// What comes of it.
    trusted: Versioned<TrustedKeys>,
    /// Held by whoever changes something, from reading what is to writing what will be.
    changing: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Current {
    base: Vec<PublicKey>,
    origin: Origin,
    decisions: Decisions,
    /// The file is behind.
    unsaved: bool,
}

impl Current {
    const fn new(base: Vec<PublicKey>, origin: Origin, decisions: Decisions) -> Self {
        Self { base, origin, decisions, unsaved: false }
    }

    /// What comes of all that.
    fn trusted(&self) -> TrustedKeys {
        let mut names = HashSet::new();
        // Of two keys with one name the first one counts: what a file says.
        self.counting().filter(|key| names.insert(key.name())).cloned().collect()
    }

    /// The keys that count.
    fn counting(&self) -> impl Iterator<Item = &PublicKey> {
        let all = self.base.iter().chain(self.decisions.added.iter().map(|added| &added.key));
        all.filter(|key| !self.decisions.distrusted.contains(key))
    }

    /// Tells of what an administrator may have forgotten.
    fn warn(&self) {
        for key in self.base.iter().filter(|key| self.decisions.distrusted.contains(key)) {
            log::warn!(key:% = key.name(); "{key} is in the configuration and was distrusted since: paths that only it signed are refused (`peernixctl trust add` trusts it again)");
        }
        for added in &self.decisions.added {
            let other = |key: &&PublicKey| key.name() == added.key.name() && **key != added.key;
            if self.counting().any(|key| key == &added.key) && self.base.iter().find(other).is_some() {
                log::warn!(key:% = added.key.name(); "the key {} that was added does not count: the configuration has another one of that name", added.key);
            }
        }
    }
}

/// The keys of a file that Nix goes by: of several with one name the first. The others would let in what Nix then refuses,
/// and they count no more when the first is distrusted here: Nix does not know of that.
fn first_of_each_name(keys: Vec<PublicKey>) -> Vec<PublicKey> {
    let mut first: Vec<PublicKey> = Vec::with_capacity(keys.len());
    for key in keys {
        match first.iter().find(|known| known.name() == key.name()) {
            None => first.push(key),
            Some(known) if *known == key => {}
            Some(known) => {
                log::warn!(key:% = key.name(); "two trusted keys are called '{}'; Nix goes by the first, {known}, and so do we: {key} does not count", key.name());
            }
        }
    }
    first
}

impl TrustList {
    /// Reads the decisions in `state_dir`, on top of the keys `base` from `origin`.
    ///
    /// # Errors
    /// A file that cannot be read, that others may write, or that is damaged.
    pub async fn open(state_dir: &Path, base: Vec<PublicKey>, origin: Origin) -> Result<Self, KeysError> {
        Self::open_with(state_dir, base, origin, Clock::system()).await
    }

    pub(super) async fn open_with(
        state_dir: &Path,
        base: Vec<PublicKey>,
        origin: Origin,
        clock: Clock,
    ) -> Result<Self, KeysError> {
        let file = state_dir.join(FILE);
        let path = file.clone();
        let base = first_of_each_name(base);
        let current = Current::new(base, origin, blocking(move || trust_file::load(&path)).await?);
        current.warn();
        Ok(Self(Arc::new(Inner {
            file,
            clock,
            trusted: Versioned::new(current.trusted()),
            current: RwLock::new(Arc::new(current)),
            changing: tokio::sync::Mutex::default(),
        })))
    }

    /// The keys that count, as they change: another generation whenever they or [`Self::list`] change.
    #[must_use]
    pub fn trusted(&self) -> Versioned<TrustedKeys> {
        self.0.trusted.clone()
    }

    /// All keys, the configured ones first, those included that were distrusted.
    #[must_use]
    pub fn list(&self) -> Vec<TrustedView> {
        let now = self.now();
        let view = |key: &PublicKey, origin| TrustedView {
            public_key: key.to_string(),
            fingerprint: fingerprint(key),
            name: key.name().to_owned(),
            origin,
            comment: String::new(),
            peer: None,
            added: None,
            distrusted: now.decisions.distrusted.contains(key),
        };
        let base = now.base.iter().map(|key| view(key, now.origin));
        let added = now.decisions.added.iter().map(|added| TrustedView {
            comment: added.comment.clone(),
            peer: added.peer.clone(),
            added: Some(added.at),
            ..view(&added.key, Origin::Added)
        });
        base.chain(added).collect()
    }

    /// Trusts a key from now on, for ever; one that was distrusted counts again. False if it counts already.
    ///
    /// # Errors
    /// A text that is no public key, another key of the same name that counts, a comment that is too long, too many keys,
    /// or a file that cannot be written; nothing has changed then.
    pub async fn add(&self, key: &str, comment: &str, peer: Option<&str>) -> Result<bool, KeysError> {
        let key: PublicKey = key.trim().parse().map_err(KeysError::InvalidPublicKey)?;
        check_comment(comment)?;
        check_comment(peer.unwrap_or_default())?;
        let _changing = self.0.changing.lock().await;
        let now = self.now();
        if now.counting().any(|known| *known == key) {
            return Ok(false);
        }
        if now.counting().any(|known| known.name() == key.name()) {
            return Err(KeysError::NameTaken(key.name().to_owned()));
        }
        let mut decisions = now.decisions.clone();
        decisions.distrusted.retain(|distrusted| *distrusted != key);
        if !now.base.contains(&key) {
            full(decisions.added.len(), "keys that were added")?;
            let (comment, peer) = (comment.to_owned(), peer.map(str::to_owned));
            decisions.added.push(Added { key: key.clone(), comment, peer, at: self.0.clock.now().unix });
        }
        // First the file: what was let in must not be forgotten.
        self.save(&decisions).await?;
        self.publish(|now| Current::new(now.base.clone(), now.origin, decisions));
        log::debug!(key:% = key.name(); "trusting {key} from now on");
        Ok(true)
    }

    /// Trusts a key no more, at once: `which` is its text or its name. One that a file names is distrusted until it is
    /// added again. False if it is distrusted already.
    ///
    /// # Errors
    /// A text with a colon that is no public key, a key or name that is not in the list, or too many distrusted ones. With [`KeysError::NotSaved`] it does not
    /// count all the same, but only until the next start.
    pub async fn remove(&self, which: &str) -> Result<bool, KeysError> {
        let which = which.trim();
        let wanted = if which.contains(':') { Some(which.parse().map_err(KeysError::InvalidPublicKey)?) } else { None };
        let is_it = |key: &PublicKey| wanted.as_ref().map_or(key.name() == which, |wanted| key == wanted);
        let _changing = self.0.changing.lock().await;
        let now = self.now();
        let counted = now.counting().any(is_it);
        // Until everything is written down, one that was removed may be missing here and still be in the file.
        if !counted && !now.unsaved {
            let is_distrusted = now.decisions.distrusted.iter().any(is_it);
            let is_overruled = || now.decisions.added.iter().any(|added| is_it(&added.key));
            let unknown = || Err(KeysError::NoSuchTrusted(crate::nix::quote(which)));
            return if is_distrusted || is_overruled() { Ok(false) } else { unknown() };
        }
        let mut decisions = now.decisions.clone();
        decisions.added.retain(|added| !is_it(&added.key));
        for key in now.base.iter().filter(|key| is_it(key)) {
            if !decisions.distrusted.contains(key) {
                full(decisions.distrusted.len(), "distrusted keys")?;
                decisions.distrusted.push(key.clone());
            }
        }
        // First in memory: a full disk must not keep a key alive that somebody stole.
        self.publish(|now| Current { unsaved: true, ..Current::new(now.base.clone(), now.origin, decisions.clone()) });
        if counted {
            log::debug!(key:% = which; "a key is not trusted any more");
        }
        self.save(&decisions).await.map_err(|error| KeysError::NotSaved(Box::new(error)))?;
        let mut current = self.0.current.write();
        Arc::make_mut(&mut current).unsaved = false;
        Ok(counted)
    }

    /// Takes over the keys of a configuration that was read again. What was decided since stays on top of them.
    pub async fn set_base(&self, base: Vec<PublicKey>, origin: Origin) {
        let base = first_of_each_name(base);
        let _changing = self.0.changing.lock().await;
        let now = self.now();
        if (&now.base, now.origin) == (&base, origin) {
            return;
        }
        self.publish(|now| Current { unsaved: now.unsaved, ..Current::new(base, origin, now.decisions.clone()) });
        self.now().warn();
    }

    fn now(&self) -> Arc<Current> {
        Arc::clone(&self.0.current.read())
    }

    async fn save(&self, decisions: &Decisions) -> Result<(), KeysError> {
        let (file, decisions) = (self.0.file.clone(), decisions.clone());
        blocking(move || trust_file::save(&file, &decisions)).await
    }

    fn publish(&self, change: impl FnOnce(&Current) -> Current) {
        let mut current = self.0.current.write();
        *current = Arc::new(change(&current));
        self.0.trusted.set(current.trusted());
    }
}

fn full(count: usize, what: &'static str) -> Result<(), KeysError> {
    if count < KEYS_MAX {
        return Ok(());
    }
    Err(KeysError::TooMany {
        count,
        what,
        remedy: "remove some (`peernixctl trust list`), or put them into [trust] public_keys",
    })
}
