//! What this machine shares, and with whom.
//!
//! Knowing a path's hash must not be enough to get it: a store holds configuration files and unpublished work. So only what
//! somebody publishes anyway, which a signature by one of `[share] public_keys` shows, goes to everybody.

use super::pattern::Patterns;
use super::{StoreError, ValidPath};
use crate::nix::{PathInfo, PublicKey, Signature, StoreDir, TrustedKeys};
use std::fmt;
use std::hash::{BuildHasher, RandomState};

/// How many verdicts on signatures are remembered: some 3 MiB.
const STANDINGS_MAX: u64 = 16 * 1024;

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Anyone on the network: open admission, or the plain share.
    Anyone,
    /// A machine that the administrator enrolled: its node key is listed, or its fleet's key vouches for it.
    Enrolled,
}

/// `[share] policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SharePolicyMode {
    /// Nothing is shared.
    Off,
    /// Paths that carry a valid signature by one of `[share] public_keys`.
    #[default]
    Signed,
    /// These, and to enrolled peers also what was built here.
    SignedAndOwn,
}

/// What the administrator decided.
#[derive(Debug, Default)]
pub struct PolicyOptions {
    /// `[share] policy`.
    pub mode: SharePolicyMode,
    /// `[share] public_keys`.
    pub public_keys: TrustedKeys,
    /// The public halves of this machine's own signing keys; what they signed counts as built here.
    pub own_keys: TrustedKeys,
    /// `[share] deny`: patterns of names, `*` for any text and `?` for any character.
    pub deny: Vec<String>,
}

/// The rules by which paths are shared.
#[derive(Debug)]
pub struct SharePolicy {
    mode: SharePolicyMode,
    public_keys: TrustedKeys,
    own_keys: TrustedKeys,
    deny: Patterns,
    dir: StoreDir,
    /// What the signatures of a path are worth. Verifying one takes some 30 µs, as much as all the rest of an answer.
    standings: moka::sync::Cache<(u64, u64), Standing>,
    /// The keys to the cache are hashes that nobody can foresee, of all that was verified.
    hashers: (RandomState, RandomState),
}

/// What the signatures of a path are worth.
#[derive(Debug, Clone, Copy)]
struct Standing {
    is_public: bool,
    is_own: bool,
}

/// Whether a path may be shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It may.
    Serve,
    /// It may not.
    Refuse(Reason),
}

impl Decision {
    /// Whether the path may be shared.
    #[must_use]
    pub const fn is_serve(&self) -> bool {
        matches!(self, Self::Serve)
    }
}

/// Why a path is not shared. For the administrator's eyes: who asks is told only that there is nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// Sharing is off.
    Off,
    /// The name matches a pattern.
    Denied(String),
    /// There is no signature at all, and the path was not built here.
    Unsigned,
    /// No signature is a valid one by a key that counts.
    NoCountingSignature,
    /// The path was built here, and such paths are not shared.
    Own,
    /// The path was built here, and who asks is not enrolled.
    OwnForEnrolledOnly,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("sharing is off ([share] policy)"),
            Self::Denied(pattern) => write!(f, "its name matches '{pattern}' ([share] deny)"),
            Self::Unsigned => f.write_str("it carries no signature"),
            Self::NoCountingSignature => f.write_str("no signature of it is valid and by a key of [share] public_keys"),
            Self::Own => f.write_str("it was built here, and [share] policy is not \"signed+own\""),
            Self::OwnForEnrolledOnly => f.write_str("it was built here, and who asks is not enrolled"),
        }
    }
}

impl SharePolicy {
    /// Takes the administrator's decisions for a store with paths in `dir`.
    ///
    /// # Errors
    /// A pattern that is too long or can never match, or too many of them.
    pub fn new(options: PolicyOptions, dir: StoreDir) -> Result<Self, StoreError> {
        Ok(Self {
            mode: options.mode,
            public_keys: options.public_keys,
            own_keys: options.own_keys,
            deny: Patterns::new(options.deny)
                .map_err(|error| StoreError::Configuration { key: "[share] deny", what: error.to_string() })?,
            dir,
            standings: moka::sync::Cache::new(STANDINGS_MAX),
            hashers: (RandomState::new(), RandomState::new()),
        })
    }

    /// The same rules for a machine whose own signing keys are these.
    #[must_use]
    pub fn with_own_keys(&self, own_keys: TrustedKeys) -> Self {
        Self {
            mode: self.mode,
            public_keys: self.public_keys.clone(),
            own_keys,
            deny: self.deny.clone(),
            dir: self.dir.clone(),
            // What was remembered of signatures is in the light of the old keys.
            standings: moka::sync::Cache::new(STANDINGS_MAX),
            hashers: (RandomState::new(), RandomState::new()),
        }
    }

    /// The keys of which one signed whatever is shared with anyone.
    pub fn public_keys(&self) -> impl Iterator<Item = &PublicKey> {
        self.public_keys.all()
    }

    /// Whether `path` may be shared with `audience`. Costs up to 100 µs the first time, then next to nothing.
    #[must_use]
    pub fn decide(&self, path: &ValidPath, audience: Audience) -> Decision {
        if self.mode == SharePolicyMode::Off {
            return Decision::Refuse(Reason::Off);
        }
        if let Some(reason) = self.denied(path.info.path.name()) {
            return Decision::Refuse(reason);
        }
        let standing = self.standing(&path.info);
        if standing.is_public {
            return Decision::Serve;
        }
        let reason = match (path.ultimate || standing.is_own, self.mode, audience) {
            (true, SharePolicyMode::SignedAndOwn, Audience::Enrolled) => return Decision::Serve,
            (true, SharePolicyMode::SignedAndOwn, Audience::Anyone) => Reason::OwnForEnrolledOnly,
            (true, _, _) => Reason::Own,
            (false, _, _) if path.info.signatures.is_empty() => Reason::Unsigned,
            (false, _, _) => Reason::NoCountingSignature,
        };
        Decision::Refuse(reason)
    }

    /// Whether a path that is on its way into the store may be given to anyone: then it was not built here.
    #[must_use]
    pub fn may_pass_on(&self, info: &PathInfo) -> bool {
        self.mode != SharePolicyMode::Off && self.denied(info.path.name()).is_none() && self.standing(info).is_public
    }

    /// Whether a path with this name, signatures by keys of these names, and perhaps built here, may turn out to be one for
    /// `audience`. Verifies nothing; what this refuses, [`Self::decide`] refuses.
    #[must_use]
    pub fn might_serve<'a>(
        &self,
        name: &str,
        mut keys: impl Iterator<Item = &'a str>,
        ultimate: bool,
        audience: Audience,
    ) -> bool {
        let shares_own = self.mode == SharePolicyMode::SignedAndOwn && audience == Audience::Enrolled;
        let counts = |key: &str| self.public_keys.has(key) || shares_own && self.own_keys.has(key);
        self.mode != SharePolicyMode::Off && self.denied(name).is_none() && (shares_own && ultimate || keys.any(counts))
    }

    /// The signatures of `path` that are valid and by a key that counts here, each with its key. Verifies them.
    #[must_use]
    pub fn signers<'a, 'b>(&'a self, path: &'b ValidPath) -> Vec<(&'a PublicKey, &'b Signature)> {
        let mut signers = self.public_keys.signers(&path.info, &self.dir);
        signers.extend(self.own_keys.signers(&path.info, &self.dir));
        signers
    }

    /// The same of what is not a path and has this fingerprint.
    #[must_use]
    pub fn signers_of<'a, 'b>(
        &'a self,
        signatures: &'b [Signature],
        fingerprint: &str,
    ) -> Vec<(&'a PublicKey, &'b Signature)> {
        let mut signers = self.public_keys.signers_of(signatures, fingerprint);
        signers.extend(self.own_keys.signers_of(signatures, fingerprint));
        signers
    }

    /// Why nothing with this name may be shared, whoever signed it, if so.
    pub(super) fn denied(&self, name: &str) -> Option<Reason> {
        self.deny.matching(name).map(|pattern| Reason::Denied(pattern.to_owned()))
    }

    fn standing(&self, info: &PathInfo) -> Standing {
        const NOTHING: Standing = Standing { is_public: false, is_own: false };
        if info.signatures.is_empty() {
            return NOTHING;
        }
        let key = (digest(info, &self.hashers.0), digest(info, &self.hashers.1));
        self.standings.get_with(key, || Standing {
            is_public: self.public_keys.voucher(info, &self.dir).is_some(),
            is_own: self.own_keys.voucher(info, &self.dir).is_some(),
        })
    }
}

/// A hash over everything that a signature covers, and the signatures.
fn digest(info: &PathInfo, state: &RandomState) -> u64 {
    state.hash_one((&info.path, info.nar_hash, info.nar_size, &info.references, &info.signatures))
}

#[cfg(test)]
mod tests;
