//! What the administrator wrote: one TOML file, one documented struct a section, unknown keys refused.
//!
//! Reading has no side effects, so that a configuration can be tried before it is used. All that is wrong is said at once,
//! each problem with file, line, key, value and remedy.
#![forbid(unsafe_code)]

mod check;
mod error;
mod file;
mod keys;
mod nats;
mod nix_conf;
mod profile;
mod sections;
mod upstream;
mod value;

pub use error::{ConfigError, Problem};
pub use file::EXAMPLE;
pub use keys::{SECTIONS, keys_of};
pub use nix_conf::{NixConf, TrustedBy};
pub use sections::*;
pub use upstream::{Credential, UPSTREAM_TIER, Upstream, UpstreamUrl};
pub use value::{Addresses, Proxy, TimeOfDay};

use crate::files;
use nix::unistd::geteuid;
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

/// The largest configuration file read, in bytes.
pub const FILE_MAX: u64 = 1024 * 1024;

/// A file that is read again must not have changed for so long: it may be written at this very moment.
const SETTLED: Duration = Duration::from_millis(200);
/// How long that is waited for, and how often it is looked at.
const SETTLED_LIMIT: Duration = Duration::from_secs(2);
const SETTLED_LOOK: Duration = Duration::from_millis(50);

/// The configuration of the whole machine.
pub const SYSTEM_FILE: &str = "/etc/peernix/config.toml";

impl Config {
    /// Reads and checks the configuration: `file`, or the file at the usual place if there is one, or the defaults.
    ///
    /// # Errors
    /// A named file that cannot be read, or everything that is wrong in it; see [`ConfigError`].
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        match file {
            Some(file) => Self::read(file),
            None => Self::usual_file().map_or_else(|| Ok(Self::default()), |file| Self::read(&file)),
        }
    }

    /// Reads again the file that this one came from: that one and no other, as a place further down the list may be more generous.
    /// Where there was none, the usual places are looked at. Blocks, for up to two seconds while somebody writes the file.
    ///
    /// # Errors
    /// As for [`Self::load`]; and a file that is gone, belongs to somebody else, or goes on changing. What was in force should
    /// stay then.
    pub fn load_again(&self) -> Result<Self, ConfigError> {
        let Some(file) = &self.origin else { return Self::load(None) };
        let new = Self::read_settled(file).map_err(|error| match error {
            ConfigError::Unreadable { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ConfigError::Gone(file.clone())
            }
            other => other,
        })?;
        let may_own = |owner: &u32| *owner == 0 || *owner == geteuid().as_raw() || Some(*owner) == self.owner;
        match new.owner.filter(|owner| !may_own(owner)) {
            Some(owner) => Err(ConfigError::Owner { file: file.clone(), owner }),
            None => Ok(new),
        }
    }

    /// Reads a file once nobody writes it any more.
    fn read_settled(file: &Path) -> Result<Self, ConfigError> {
        // What tells one state of a file from another.
        let state = |of: Metadata| (of.ino(), of.len(), of.mtime(), of.mtime_nsec());
        let look = || fs::metadata(file).ok();
        let begun = Instant::now();
        loop {
            let before = look();
            let age = before.as_ref().and_then(|before| before.modified().ok());
            // A time in the future says nothing.
            let is_old = age.is_none_or(|age| SystemTime::now().duration_since(age).map_or(true, |age| age >= SETTLED));
            let read = Self::read(file);
            if is_old && before.map(state) == look().map(state) {
                return read;
            }
            if begun.elapsed() >= SETTLED_LIMIT {
                return Err(ConfigError::Unsettled(file.to_owned()));
            }
            std::thread::sleep(SETTLED_LOOK); // poll
        }
    }

    /// The file at the usual place: the machine's, else the user's, whichever is there first.
    #[must_use]
    pub fn usual_file() -> Option<PathBuf> {
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".config"));
        let user = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|dir| dir.is_absolute()).or_else(home);
        let user = user.map(|dir| dir.join("peernix/config.toml"));
        // A file that this user may not look at is taken too, so that reading it says so: its absence would be another
        // configuration, and perhaps a more generous one.
        [Some(PathBuf::from(SYSTEM_FILE)), user].into_iter().flatten().find(|file| file.try_exists().unwrap_or(true))
    }

    /// Reads a file that must be there.
    fn read(file: &Path) -> Result<Self, ConfigError> {
        let unreadable = |source| ConfigError::Unreadable { file: file.to_owned(), source };
        let open = File::open(file).map_err(unreadable)?;
        let owner = open.metadata().map_err(unreadable)?.uid();
        let text = files::text_of(open, FILE_MAX).map_err(unreadable)?;
        let text = text.ok_or_else(|| ConfigError::TooLarge { file: file.to_owned(), limit: FILE_MAX })?;
        Ok(Self { owner: Some(owner), ..Self::from_text(&text, Some(file))? })
    }

    /// Reads the text of a configuration; `file` is for the messages.
    ///
    /// # Errors
    /// Everything that is wrong with it, as far as it can be found in one go.
    pub fn from_text(text: &str, file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut config = file::read(text, file).map_err(ConfigError::Invalid)?;
        config.origin = file.map(Path::to_owned);
        Ok(config)
    }

    /// Everything that is wrong although each value has the right form. Touches nothing.
    #[must_use]
    pub fn check(&self) -> Vec<Problem> {
        check::check(self)
    }

    /// The keys of `[trust]`, or those that the local Nix trusts, or the one that Nix has built in.
    ///
    /// Reads nix.conf when the configuration says nothing.
    #[must_use]
    pub fn trusted_keys(&self) -> TrustedBy {
        match &self.trust.public_keys {
            Some(keys) => TrustedBy::configured(keys.clone()),
            None => NixConf::read().trusted_keys(),
        }
    }
}

#[cfg(test)]
mod again_tests;
#[cfg(test)]
mod tests;
