//! What the user wants to be told: `$XDG_CONFIG_HOME/peernix/notifier.toml`.
//!
//! `docs/notifier.example.toml` says the same to users; a test keeps the two in step.

use serde::Deserialize;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use thiserror::Error;

/// Every key with its meaning and its default.
pub(super) const EXAMPLE: &str = include_str!("../../docs/notifier.example.toml");

/// The largest file read, in bytes.
const FILE_MAX: u64 = 64 * 1024;
/// The longest time that can be set.
const TIME_MAX: Duration = Duration::from_secs(3600);

/// A file that cannot be used.
#[derive(Debug, Error)]
pub(super) enum SettingsError {
    /// It is not there, or may not be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    /// It says something that makes no sense.
    #[error("{}: {what}", path.display())]
    Invalid { path: PathBuf, what: String },
}

/// The switches. The defaults are those of an empty file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    /// Machines that come and go.
    pub(super) peers: bool,
    /// Another key signs what is built here.
    pub(super) keys: bool,
    /// The configuration could not be reloaded.
    pub(super) reload: bool,
    /// A machine sent what was not what was signed.
    pub(super) trust: bool,
    /// Nothing about peers for so long after login, after a start of the service, and after the machine slept.
    #[serde(deserialize_with = "time")]
    pub(super) quiet_start: Duration,
    /// Peers that come or go within so long of each other are told of together.
    #[serde(deserialize_with = "time")]
    pub(super) merge: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            peers: true,
            keys: true,
            reload: true,
            trust: true,
            quiet_start: Duration::from_secs(30),
            merge: Duration::from_millis(1500),
        }
    }
}

fn time<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time = humantime::parse_duration(&text).map_err(serde::de::Error::custom)?;
    if time > TIME_MAX {
        return Err(serde::de::Error::custom(format!("'{text}' is more than an hour")));
    }
    Ok(time)
}

impl Settings {
    /// Reads the file that was named, else the user's if there is one.
    pub(super) fn load(named: Option<&Path>) -> Result<Self, SettingsError> {
        let Some(path) = named.map(Path::to_owned).or_else(usual_file) else { return Ok(Self::default()) };
        let file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(source) => return Err(SettingsError::Unreadable { path, source }),
        };
        let mut text = String::new();
        match file.take(FILE_MAX + 1).read_to_string(&mut text) {
            Err(source) => return Err(SettingsError::Unreadable { path, source }),
            Ok(length) if length as u64 > FILE_MAX => {
                return Err(SettingsError::Invalid { path, what: format!("larger than {FILE_MAX} bytes") });
            }
            Ok(_) => {}
        }
        let what = |error: toml::de::Error| error.to_string().trim_end().to_owned();
        toml::from_str(&text).map_err(|error| SettingsError::Invalid { what: what(error), path })
    }
}

fn usual_file() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let config = absolute("XDG_CONFIG_HOME").or_else(|| Some(absolute("HOME")?.join(".config")))?;
    Some(config.join("peernix/notifier.toml"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Settings::load(Some(file.path())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_example_is_the_default() {
        let keys = |text: &str| -> Vec<String> {
            let lines = text.lines().filter(|line| line.starts_with('#') && !line.starts_with("# "));
            lines.map(|line| line[1..].to_owned()).collect()
        };
        let keys = keys(EXAMPLE);
        assert_eq!(keys.len(), 6, "{keys:?}");
        assert_eq!(read(&keys.join("\n")), Ok(Settings::default()));
        assert_eq!(read(EXAMPLE), Ok(Settings::default()));
        assert_eq!(read(""), Ok(Settings::default()));
    }

    #[test]
    fn mistakes_are_named() {
        let error = read("peer = false\n").unwrap_err();
        assert!(error.contains("unknown field `peer`") && error.contains("line 1"), "{error}");
        assert!(read("merge = \"5 hours\"").unwrap_err().contains("more than an hour"));
        assert!(Settings::load(Some("/nonexistent".as_ref())).is_err());
        assert!(!read("peers = false").unwrap().peers);
    }
}
