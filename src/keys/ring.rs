//! The keys of this machine and what may become of each: no files, no tasks, the time as an argument.

use super::clock::Moment;
use super::error::KeysError;
use super::fingerprint::fingerprint;
use super::limits::{GRACE_MAX, NAME_MAX};
use super::view::{KeyState, KeyView, Managed};
use crate::nix::{PublicKey, SecretKey};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use zeroize::Zeroizing;

/// How many keys sign at once: each costs 25 µs and a line of text for each path, and readers take 64 signatures.
pub(super) const SIGNING_MAX: usize = 8;
/// How many keys are kept in all, those included that sign no more.
pub(super) const KEYS_MAX: usize = 256;

/// The keys, oldest first. A copy shares its secrets; they are wiped with the last copy.
#[derive(Clone, Default)]
pub(super) struct Ring(pub(super) Vec<Key>);

/// One key.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) public: PublicKey,
    /// Seconds since 1970.
    pub(super) created: u64,
    pub(super) stage: Stage,
}

/// Where it stands. Only what may sign has its secret.
#[derive(Clone)]
pub(super) enum Stage {
    Active(Arc<SecretKey>),
    Grace(Arc<SecretKey>, Grace),
    Retired,
    /// Since when, in seconds since 1970, and why.
    Revoked(u64, String),
}

/// The time in which a replaced key still signs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grace {
    /// Seconds since 1970.
    pub(super) since: u64,
    /// In seconds.
    pub(super) length: u64,
    /// When it ends by the clock that nobody sets.
    deadline: Instant,
}

impl Grace {
    /// A grace that began at `since`. A clock that was set back meanwhile prolongs it by its own length at most.
    pub(super) fn resume(since: u64, length: u64, now: Moment) -> Self {
        let length = length.min(GRACE_MAX.as_secs());
        let left = since.saturating_add(length).saturating_sub(now.unix).min(length);
        Self { since, length, deadline: now.instant + Duration::from_secs(left) }
    }

    const fn expires(self) -> u64 {
        self.since.saturating_add(self.length)
    }

    /// By either clock: the one of the machine also counts the time that it slept.
    fn is_over(self, now: Moment) -> bool {
        now.instant >= self.deadline || now.unix >= self.expires()
    }
}

impl Key {
    pub(super) const fn state(&self) -> KeyState {
        match &self.stage {
            Stage::Active(_) => KeyState::Active,
            Stage::Grace(..) => KeyState::Grace,
            Stage::Retired => KeyState::Retired,
            Stage::Revoked(..) => KeyState::Revoked,
        }
    }

    pub(super) const fn secret(&self) -> Option<&Arc<SecretKey>> {
        match &self.stage {
            Stage::Active(secret) | Stage::Grace(secret, _) => Some(secret),
            Stage::Retired | Stage::Revoked(..) => None,
        }
    }

    pub(super) fn view(&self) -> KeyView {
        KeyView {
            fingerprint: fingerprint(&self.public),
            name: self.public.name().to_owned(),
            public_key: self.public.to_string(),
            state: self.state(),
            created: self.created,
            expires: match &self.stage {
                Stage::Grace(_, grace) => Some(grace.expires()),
                _ => None,
            },
            managed: Managed::State,
            reason: match &self.stage {
                Stage::Revoked(_, reason) => Some(reason.clone()),
                _ => None,
            },
        }
    }
}

impl Ring {
    pub(super) fn active(&self) -> Option<&Key> {
        self.0.iter().find(|key| key.state() == KeyState::Active)
    }

    /// The secrets that sign, the newest first: readers that stop early find the one that lasts longest.
    pub(super) fn secrets(&self) -> impl Iterator<Item = &Arc<SecretKey>> {
        self.0.iter().rev().filter_map(Key::secret)
    }

    /// Makes a key that signs from now on; the one that did is in grace. Gives their indices, old and new.
    pub(super) fn rotate(
        &mut self,
        wanted_name: &str,
        grace: Duration,
        now: Moment,
    ) -> Result<(Option<usize>, usize), KeysError> {
        if grace > GRACE_MAX {
            return Err(KeysError::Grace);
        }
        if self.0.len() >= KEYS_MAX {
            let remedy = "move the file keys/keys.json away and restart the service to begin anew";
            return Err(KeysError::TooMany { count: self.0.len(), what: "signing keys", remedy });
        }
        let signing = self.secrets().count();
        if !grace.is_zero() && signing >= SIGNING_MAX {
            let remedy = "revoke one that is in grace, or rotate with a grace of 0";
            return Err(KeysError::TooMany { count: signing, what: "keys that sign", remedy });
        }
        let secret = generate(&self.next_name(wanted_name)?)?;
        let old = self.0.iter().position(|key| key.state() == KeyState::Active);
        if let Some(old) = old {
            let stage = &mut self.0[old].stage;
            *stage = match std::mem::replace(stage, Stage::Retired) {
                Stage::Active(secret) if !grace.is_zero() => {
                    Stage::Grace(secret, Grace::resume(now.unix, grace.as_secs().max(1), now))
                }
                _ => Stage::Retired,
            };
        }
        let key = Key { public: secret.public(), created: now.unix, stage: Stage::Active(Arc::new(secret)) };
        self.0.push(key);
        Ok((old, self.0.len() - 1))
    }

    /// Ends what a key may do, unless it is the active one and `in_use`. `None` if that was so already.
    pub(super) fn revoke(
        &mut self,
        which: &str,
        reason: &str,
        in_use: bool,
        now: Moment,
    ) -> Result<Option<KeyView>, KeysError> {
        let is_it = |key: &&mut Key| fingerprint(&key.public) == which || key.public.name() == which;
        let key = self.0.iter_mut().find(is_it).ok_or_else(|| KeysError::NoSuchKey(crate::nix::quote(which)))?;
        match key.state() {
            KeyState::Active if in_use => Err(KeysError::KeyInUse(key.public.name().to_owned())),
            KeyState::Revoked => Ok(None),
            KeyState::Active | KeyState::Grace | KeyState::Retired => {
                key.stage = Stage::Revoked(now.unix, reason.to_owned());
                Ok(Some(key.view()))
            }
        }
    }

    /// Retires the keys whose grace is over; gives their names.
    pub(super) fn retire_due(&mut self, now: Moment) -> Vec<String> {
        let mut retired = Vec::new();
        for key in &mut self.0 {
            if matches!(&key.stage, Stage::Grace(_, grace) if grace.is_over(now)) {
                key.stage = Stage::Retired;
                retired.push(key.public.name().to_owned());
            }
        }
        retired
    }

    /// When the next grace ends.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = self.0.iter().filter_map(|key| match &key.stage {
            Stage::Grace(_, grace) => Some(grace.deadline),
            _ => None,
        });
        deadlines.min()
    }

    /// The name of the next key: `wanted` for the first one, then counted on, never one that was used before.
    fn next_name(&self, wanted: &str) -> Result<String, KeysError> {
        let (stem, first) = split_name(wanted);
        let numbers = self.0.iter().map(|key| split_name(key.public.name())).filter(|(other, _)| *other == stem);
        let name = match numbers.map(|(_, number)| number.unwrap_or(1)).max() {
            None => wanted.to_owned(),
            Some(used) => format!("{stem}-{}", used.saturating_add(1).max(first.unwrap_or(1))),
        };
        let is_used = self.0.iter().any(|key| key.public.name() == name);
        if name.len() > NAME_MAX + 20 || is_used { Err(KeysError::Name(name)) } else { Ok(name) }
    }
}

/// `tower-7` is `tower` and 7. Without a number at its end a name is all stem.
fn split_name(name: &str) -> (&str, Option<u64>) {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    match name.rsplit_once('-') {
        Some((stem, number)) if digits(number) && !stem.is_empty() => match number.parse() {
            Ok(number) => (stem, Some(number)),
            Err(_) => (name, None),
        },
        _ => (name, None),
    }
}

fn generate(name: &str) -> Result<SecretKey, KeysError> {
    let mut seed = Zeroizing::new([0; 32]);
    getrandom::fill(seed.as_mut_slice()).map_err(|error| KeysError::Random(error.to_string()))?;
    SecretKey::from_seed(name, *seed).map_err(|_| KeysError::Name(crate::nix::quote(name)))
}
