//! What can be wrong with the configuration, said so that it can be put right.

use std::fmt;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// A configuration that cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file could not be read.
    #[error("{}: cannot be read: {source}; check that it exists and that this user may read it", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file that was in force is not there any more.
    #[error("{}: is gone, and was in force: put it back, or restart the service to go on without it", .0.display())]
    Gone(PathBuf),
    /// The file that was in force belongs to somebody else now.
    #[error("{0}: belongs to the user id {owner} now, who could write anything into it: `chown root {0}`, or restart the service", file.display())]
    Owner {
        /// The file.
        file: PathBuf,
        /// Whose it is.
        owner: u32,
    },
    /// The file changed for as long as it was looked at.
    #[error("{}: somebody is still writing it: reload again when it is complete", .0.display())]
    Unsettled(PathBuf),
    /// The file is larger than any honest one.
    #[error("{}: larger than {limit} bytes; this is not a configuration of Peernix", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file was read and something in it is wrong.
    #[error("{}", Listed(.0))]
    Invalid(Vec<Problem>),
}

/// One thing that is wrong, where it stands and what to do about it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Problem {
    /// The file, if the value came from one.
    pub file: Option<PathBuf>,
    /// The line, counted from 1, if it is known.
    pub line: Option<usize>,
    /// The section, if the problem is inside one.
    pub section: String,
    /// The key, if the problem is with one.
    pub key: String,
    /// The value as it was written, shortened; empty if there is none.
    pub value: String,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    /// A problem with a key, for the checks that do not know where the key stands.
    pub(super) fn of(section: &str, key: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            section: section.to_owned(),
            key: key.to_owned(),
            what: what.into(),
            remedy: remedy.into(),
            ..Self::default()
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
            if let Some(line) = self.line {
                write!(f, "{line}:")?;
            }
            f.write_str(" ")?;
        }
        if !self.section.is_empty() {
            write!(f, "[{}] ", self.section)?;
        }
        match (self.key.as_str(), self.value.as_str()) {
            ("", _) => {}
            (key, "") => write!(f, "{key}: ")?,
            (key, value) => write!(f, "{key} = {value}: ")?,
        }
        f.write_str(&self.what)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

/// Problems, one a line.
struct Listed<'a>(&'a [Problem]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fmt::Display::fmt(problem, f)?;
        }
        Ok(())
    }
}
