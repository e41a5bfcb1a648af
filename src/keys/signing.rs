//! This machine's signing keys, while the service runs: asked at any time, changed by the administrator or by time.

use super::clock::Clock;
use super::error::{KeysError, check_comment};
use super::fingerprint::fingerprint;
use super::limits::NAME_MAX;
use super::ring::{Key, Ring};
use super::stored::{self, DIRECTORY, FILE};
use super::view::{KeyState, KeyView, Managed};
use crate::nix::{PathInfo, SecretKey, StoreDir, TrustedKeys};
use crate::resilience::Versioned;
use parking_lot::{Mutex, RwLock};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// How often the machine's clock is looked at while a key is in grace: timers stand still while a machine sleeps.
const LOOK: Duration = Duration::from_secs(3600);

/// Where the key that signs comes from.
pub enum KeySource {
    /// The state directory: made here, rotated here.
    State,
    /// The text of the credential `signing-key`.
    Credential(Zeroizing<String>),
}

/// What [`SigningKeys::open`] is told.
pub struct SigningOptions {
    /// The state directory; `keys/` in it is ours.
    pub state_dir: PathBuf,
    /// `[keys] signing`.
    pub source: KeySource,
    /// `[keys] name`; empty: made of `host`.
    pub name: String,
    /// The host's name.
    pub host: String,
    /// `[keys] grace`.
    pub grace: Duration,
}

/// What a rotation did.
#[derive(Debug, Clone)]
pub struct Rotated {
    /// The key that signed so far; `None` if there was none.
    pub old: Option<KeyView>,
    /// The key that signs from now on.
    pub new: KeyView,
}

/// What the keys are for, at one time.
#[derive(Debug, Clone, Default)]
pub struct Signing {
    /// The keys that sign what was built here: the active one and those in grace, the newest first.
    pub keys: Arc<[Arc<SecretKey>]>,
    /// The public halves of all keys whose signatures mean "built here": all but those that were revoked.
    pub own: TrustedKeys,
}

impl Signing {
    /// A credential signs alone; else what the ring says.
    fn new(credential: Option<&Arc<SecretKey>>, ring: &Ring) -> Self {
        let keys = match credential {
            Some(credential) => [Arc::clone(credential)].into(),
            None => ring.secrets().cloned().collect(),
        };
        let ours = ring.0.iter().filter(|key| key.state() != KeyState::Revoked).map(|key| key.public.clone());
        Self { keys, own: ours.chain(credential.iter().map(|key| key.public())).collect() }
    }

    /// The keys that sign and have not signed this yet, as a path of `store_dir`. A signature under the name of one of them may be
    /// by another key, so it is verified: 50 µs each.
    pub fn missing<'a>(
        &'a self,
        info: &'a PathInfo,
        store_dir: &'a StoreDir,
    ) -> impl Iterator<Item = &'a Arc<SecretKey>> {
        let signed = move |key: &SecretKey| {
            let named = info.signatures.iter().any(|signature| signature.key_name() == key.name());
            named && TrustedKeys::from_iter([key.public()]).voucher(info, store_dir).is_some()
        };
        self.keys.iter().filter(move |key| !signed(key))
    }
}

/// This machine's signing keys. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct SigningKeys(Arc<Inner>);

struct Inner {
    file: PathBuf,
    host: Mutex<String>,
    clock: Clock,
    defaults: Mutex<Defaults>,
    current: RwLock<Current>,
    /// Held by whoever changes something, from reading what is to writing what will be.
    changing: tokio::sync::Mutex<()>,
    signing: Versioned<Signing>,
}

/// What the configuration says of keys to come.
struct Defaults {
    name: String,
    grace: Duration,
}

/// The keys as they are.
struct Current {
    /// The key that the administrator hands over, which signs alone.
    credential: Option<Arc<SecretKey>>,
    ring: Ring,
    /// The file is behind.
    unsaved: bool,
}

impl SigningKeys {
    /// Reads the keys. None is made: see [`Self::ensure`].
    ///
    /// # Errors
    /// A credential that is no key, or a file that cannot be read, that others may read, or that is damaged.
    pub async fn open(options: SigningOptions) -> Result<Self, KeysError> {
        Self::open_with(options, Clock::system()).await
    }

    pub(super) async fn open_with(options: SigningOptions, clock: Clock) -> Result<Self, KeysError> {
        let SigningOptions { state_dir, source, name, host, grace } = options;
        let credential = match source {
            KeySource::State => None,
            KeySource::Credential(text) => Some(credential(&text)?),
        };
        let file = state_dir.join(DIRECTORY).join(FILE);
        let (path, now) = (file.clone(), clock.now());
        let ring = blocking(move || stored::load(&path, now)).await?;
        let signing = Versioned::new(Signing::new(credential.as_ref(), &ring));
        let keys = Self(Arc::new(Inner {
            file,
            host: Mutex::new(host),
            clock,
            defaults: Mutex::new(Defaults { name, grace }),
            current: RwLock::new(Current { credential, ring, unsaved: false }),
            changing: tokio::sync::Mutex::default(),
            signing,
        }));
        keys.retire_due().await;
        Ok(keys)
    }

    /// Takes over `[keys] name` and `grace` of a configuration that was read again. They count for the next rotation.
    pub fn configure(&self, name: String, grace: Duration) {
        *self.0.defaults.lock() = Defaults { name, grace };
    }

    /// Takes over the text of the credential `signing-key`, which was read again: it signs from now on, and what the one before signed is no
    /// longer this machine's own, as after a restart. Where keys are managed here it says nothing. Whether it is another key.
    ///
    /// # Errors
    /// It is no key; then nothing has changed.
    pub async fn replace_credential(&self, text: &str) -> Result<bool, KeysError> {
        let new = credential(text)?;
        let _changing = self.0.changing.lock().await;
        let Some(old) = self.credential().filter(|old| old.public() != new.public()) else { return Ok(false) };
        let signing = {
            let mut current = self.0.current.write();
            current.credential = Some(Arc::clone(&new));
            Signing::new(current.credential.as_ref(), &current.ring)
        };
        self.0.signing.set(signing);
        log::info!(key:% = new.name(); "signing with {} from now on, the credential; before: {}", new.public(), old.name());
        Ok(true)
    }

    /// The host has another name from now on. It counts for the next rotation.
    pub fn rename_host(&self, host: String) {
        *self.0.host.lock() = host;
    }

    /// Makes the first key if there is none that signs; for when the policy is `signed+own`. True if it did.
    ///
    /// # Errors
    /// The key cannot be made or written.
    pub async fn ensure(&self) -> Result<bool, KeysError> {
        let _changing = self.0.changing.lock().await;
        if self.credential().is_some() || self.ring().active().is_some() {
            return Ok(false);
        }
        self.make_next(Duration::ZERO).await.map(|_| true)
    }

    /// Replaces the key that signs: a new one signs from now on, and the old one beside it for `grace` (or as long as the
    /// configuration says).
    ///
    /// # Errors
    /// The key is a credential, there are too many keys, or the new one cannot be written; then nothing has changed.
    pub async fn rotate(&self, grace: Option<Duration>) -> Result<Rotated, KeysError> {
        if let Some(credential) = self.credential() {
            return Err(KeysError::ManagedExternally(credential.name().to_owned()));
        }
        let grace = grace.unwrap_or_else(|| self.defaults(|defaults| defaults.grace));
        let _changing = self.0.changing.lock().await;
        let rotated = self.make_next(grace).await?;
        let old = rotated.old.as_ref().map_or("none", |old| &old.name);
        log::debug!(key:% = rotated.new.name; "signing with {} from now on; before: {old}", rotated.new.public_key);
        Ok(rotated)
    }

    /// To be called by the one who is `changing`.
    async fn make_next(&self, grace: Duration) -> Result<Rotated, KeysError> {
        let name = self.defaults(|defaults| key_name(&defaults.name, &self.0.host.lock()));
        let mut ring = self.ring();
        let (old, new) = ring.rotate(&name, grace, self.0.clock.now())?;
        let rotated = Rotated { old: old.map(|old| ring.0[old].view()), new: ring.0[new].view() };
        // First the file: a key that signed and was lost could never be announced.
        self.save(&ring).await?;
        self.publish(ring, false);
        Ok(rotated)
    }

    /// Has a key sign and vouch for nothing any more, at once. `which` is its fingerprint or its name. Gives the key
    /// as it is now; `None` if it was revoked before.
    ///
    /// # Errors
    /// No such key; one that is in use and can be replaced, which has to be done first; a credential. With [`KeysError::NotSaved`] it is
    /// revoked all the same, but only until the next start.
    pub async fn revoke(&self, which: &str, reason: &str) -> Result<Option<KeyView>, KeysError> {
        check_comment(reason)?;
        let credential = self.credential();
        if let Some(key) = &credential
            && (fingerprint(&key.public()) == which || key.name() == which)
        {
            return Err(KeysError::ManagedExternally(key.name().to_owned()));
        }
        let _changing = self.0.changing.lock().await;
        let mut ring = self.ring();
        // Beside a credential no key of the state directory signs.
        let in_use = credential.is_none();
        let revoked = match ring.revoke(which, reason, in_use, self.0.clock.now()) {
            // It should be replaced first, but nothing can be written, so that it cannot be: then nothing is signed. That a key
            // somebody stole signs no more is worth that.
            Err(KeysError::KeyInUse(_)) if self.save(&ring).await.is_err() => {
                ring.revoke(which, reason, false, self.0.clock.now())?
            }
            other => other?,
        };
        let unsaved = self.0.current.read().unsaved;
        if revoked.is_none() && !unsaved {
            return Ok(None);
        }
        // First in memory: a full disk must not keep a key alive that somebody stole.
        self.publish(ring.clone(), true);
        if let Some(key) = &revoked {
            log::debug!(key:% = key.name, reason:% = reason; "a signing key was revoked");
        }
        self.save(&ring).await.map_err(|error| KeysError::NotSaved(Box::new(error)))?;
        self.saved();
        Ok(revoked)
    }

    /// All keys that this machine has or had, oldest first, the credential last.
    #[must_use]
    pub fn list(&self) -> Vec<KeyView> {
        let mut views: Vec<KeyView> = self.ring().0.iter().map(Key::view).collect();
        let Some(credential) = self.credential() else { return views };
        for view in &mut views {
            // Beside a credential they do not sign.
            if matches!(view.state, KeyState::Active | KeyState::Grace) {
                (view.state, view.expires) = (KeyState::Retired, None);
            }
        }
        let public = credential.public();
        views.push(KeyView {
            fingerprint: fingerprint(&public),
            name: public.name().to_owned(),
            public_key: public.to_string(),
            state: KeyState::Active,
            created: 0,
            expires: None,
            managed: Managed::Credential,
            reason: None,
        });
        views
    }

    /// What signs now, and what counts as built here. A change is in force before the call that made it returns; with each
    /// one [`Self::list`] has changed as well.
    #[must_use]
    pub fn versioned(&self) -> &Versioned<Signing> {
        &self.0.signing
    }

    /// Retires keys when their grace ends, for ever; a task of the service.
    pub async fn tend(self) {
        let mut changes = self.0.signing.subscribe();
        loop {
            changes.borrow_and_update();
            self.retire_due().await;
            // A rotation may bring another end nearer.
            tokio::select! {
                () = self.until_next_change() => {}
                _ = changes.changed() => {}
            }
        }
    }

    /// Waits until time may have changed something: the end of a grace, or an occasion to look at the clock. For ever if
    /// time changes nothing.
    pub async fn until_next_change(&self) {
        let (deadline, unsaved) = {
            let current = self.0.current.read();
            (current.ring.next_deadline(), current.unsaved)
        };
        let look = Instant::now() + LOOK;
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline.min(look)).await,
            None if unsaved => tokio::time::sleep_until(look).await,
            None => std::future::pending().await,
        }
    }

    /// Retires what is due, and writes what could not be written before.
    async fn retire_due(&self) {
        let _changing = self.0.changing.lock().await;
        let mut ring = self.ring();
        let retired = ring.retire_due(self.0.clock.now());
        let was_unsaved = self.0.current.read().unsaved;
        if retired.is_empty() && !was_unsaved {
            return;
        }
        if !retired.is_empty() {
            log::info!(key:% = retired.join(" "); "the grace of a signing key is over: it signs no more");
            self.publish(ring.clone(), true);
        }
        match self.save(&ring).await {
            Ok(()) => self.saved(),
            Err(error) => {
                let hours = LOOK.as_secs() / 3600;
                log::warn!("the signing keys are not written down as they are, next try in {hours} h: {error}");
            }
        }
    }

    fn defaults<T>(&self, read: impl FnOnce(&Defaults) -> T) -> T {
        read(&self.0.defaults.lock())
    }

    fn credential(&self) -> Option<Arc<SecretKey>> {
        self.0.current.read().credential.clone()
    }

    fn ring(&self) -> Ring {
        self.0.current.read().ring.clone()
    }

    async fn save(&self, ring: &Ring) -> Result<(), KeysError> {
        let (file, ring) = (self.0.file.clone(), ring.clone());
        blocking(move || stored::save(&file, &ring)).await
    }

    fn publish(&self, ring: Ring, unsaved: bool) {
        let signing = {
            let mut current = self.0.current.write();
            (current.ring, current.unsaved) = (ring, unsaved);
            Signing::new(current.credential.as_ref(), &current.ring)
        };
        self.0.signing.set(signing);
    }

    fn saved(&self) {
        self.0.current.write().unsaved = false;
    }
}

/// The key that is a credential.
fn credential(text: &str) -> Result<Arc<SecretKey>, KeysError> {
    text.parse().map(Arc::new).map_err(KeysError::Credential)
}

/// The name of the first key: the configured one, else the host's name as far as a key's name can have it, and 1.
fn key_name(configured: &str, host: &str) -> String {
    if !configured.is_empty() {
        return configured.to_owned();
    }
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let host: String = host.chars().filter(fits).take(NAME_MAX).collect();
    if host.is_empty() { "peernix-1".to_owned() } else { format!("{host}-1") }
}

/// Runs what waits for the disk on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, KeysError> + Send + 'static,
) -> Result<T, KeysError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(KeysError::Stopping))
}
