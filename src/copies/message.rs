//! What members tell each other of copies: `POST /peernix/v1/copies`, both ways as JSON.
//!
//! ```json
//! {"hold":[{"path":"HASH-NAME","size":4096}],"release":["HASH-NAME"]}
//! {"free":107374182400,"held":["HASH-NAME"],"coming":[],"refused":[{"path":"HASH-NAME","reason":"…"}]}
//! ```

use crate::nix::StorePath;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeSet;
use thiserror::Error;

/// The request target.
pub const TARGET: &str = "/peernix/v1/copies";
/// The most paths of each kind in one message.
pub const PATHS_MAX: usize = 32;
/// The longest message, in bytes: that many paths of each kind with the longest names, and reasons.
pub const MESSAGE_MAX: usize = 48 * 1024;
/// The longest reason, in characters.
pub const REASON_MAX: usize = 200;

/// A path as it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Named(pub StorePath);

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

/// A path that somebody is asked to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// Which.
    pub path: Named,
    /// The size of its NAR, in bytes.
    pub size: u64,
}

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Request {
    /// Hold these, if they are not held yet.
    pub hold: Vec<Wanted>,
    /// Whoever asks needs these held no more.
    pub release: Vec<Named>,
}

/// A path that is not held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// Which.
    pub path: Named,
    /// Why, for people.
    pub reason: String,
}

/// What came of it, for each path that should be held.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// How many bytes are free where the store is.
    pub free: u64,
    /// These are.
    pub held: Vec<Named>,
    /// These are being fetched: ask again.
    pub coming: Vec<Named>,
    /// These are not, and will not be soon.
    pub refused: Vec<Refused>,
}

/// A message that is none.
#[derive(Debug, Error)]
pub enum MessageError {
    /// It is too long.
    #[error("longer than {MESSAGE_MAX} bytes")]
    Long,
    /// It is not JSON of this form.
    #[error(transparent)]
    Form(#[from] serde_json::Error),
    /// Too many paths.
    #[error("more than {PATHS_MAX} paths")]
    Count,
    /// A path twice.
    #[error("a path twice")]
    Twice,
}

impl Request {
    /// Reads one.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(body: &[u8]) -> Result<Self, MessageError> {
        let request: Self = read(body)?;
        let hold = request.hold.iter().map(|wanted| &wanted.path);
        different(hold.chain(&request.release), request.hold.len().max(request.release.len()))?;
        Ok(request)
    }

    /// Writes it.
    #[must_use]
    pub fn to_body(&self) -> Bytes {
        write(self)
    }
}

impl Answer {
    /// Reads one. Reasons are cut, and have no control characters.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(body: &[u8]) -> Result<Self, MessageError> {
        let mut answer: Self = read(body)?;
        let refused = answer.refused.iter().map(|refused| &refused.path);
        let paths = answer.held.iter().chain(&answer.coming).chain(refused);
        different(paths, answer.held.len().max(answer.coming.len()).max(answer.refused.len()))?;
        for refused in &mut answer.refused {
            refused.reason = refused.reason.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect();
        }
        Ok(answer)
    }

    /// Writes it.
    #[must_use]
    pub fn to_body(&self) -> Bytes {
        write(self)
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, MessageError> {
    if body.len() > MESSAGE_MAX {
        return Err(MessageError::Long);
    }
    Ok(serde_json::from_slice(body)?)
}

fn write(message: &impl Serialize) -> Bytes {
    // Texts and numbers: there is nothing that JSON could not hold.
    serde_json::to_vec(message).unwrap_or_default().into()
}

fn different<'a>(paths: impl Iterator<Item = &'a Named>, longest: usize) -> Result<(), MessageError> {
    if longest > PATHS_MAX {
        return Err(MessageError::Count);
    }
    let mut seen = BTreeSet::new();
    for path in paths {
        if !seen.insert(path) {
            return Err(MessageError::Twice);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::StoreHash;
    use crate::nix::store_path::NAME_MAX;

    fn path(number: usize) -> Named {
        let mut hash = [0; 20];
        hash[..8].copy_from_slice(&number.to_le_bytes());
        Named(StorePath::new(StoreHash::new(hash), &"n".repeat(NAME_MAX)).unwrap())
    }

    #[test]
    fn messages_are_read_as_they_were_written_and_the_longest_fit() {
        let hold = (0..PATHS_MAX).map(|number| Wanted { path: path(number), size: u64::MAX }).collect();
        let request = Request { hold, release: (PATHS_MAX..2 * PATHS_MAX).map(path).collect() };
        assert_eq!(Request::parse(&request.to_body()).unwrap(), request);
        let refused = |number| Refused { path: path(number), reason: "ä".repeat(REASON_MAX) };
        let answer = Answer {
            free: u64::MAX,
            held: (0..PATHS_MAX).map(path).collect(),
            coming: (100..100 + PATHS_MAX).map(path).collect(),
            refused: (200..200 + PATHS_MAX).map(refused).collect(),
        };
        assert!(answer.to_body().len() <= MESSAGE_MAX);
        assert_eq!(Answer::parse(&answer.to_body()).unwrap(), answer);
        assert_eq!(Request::parse(b"{}").unwrap(), Request::default());
    }

    #[test]
    fn what_is_too_much_or_makes_no_sense_is_refused() {
        let many = Request { release: (0..=PATHS_MAX).map(path).collect(), ..Request::default() };
        assert!(matches!(Request::parse(&many.to_body()), Err(MessageError::Count)));
        let twice = Answer { held: vec![path(1)], coming: vec![path(1)], ..Answer::default() };
        assert!(matches!(Answer::parse(&twice.to_body()), Err(MessageError::Twice)));
        for text in ["", "7", "{\"hold\":[{\"path\":\"../../etc\",\"size\":1}]}", "{\"release\":[7]}"] {
            assert!(matches!(Request::parse(text.as_bytes()), Err(MessageError::Form(_))), "{text}");
        }
        assert!(matches!(Request::parse(&vec![b' '; MESSAGE_MAX + 1]), Err(MessageError::Long)));
        let loud = Refused { path: path(1), reason: "a\u{1b}[2J\n".repeat(200) };
        let answer = Answer { refused: vec![loud], ..Answer::default() };
        let read = Answer::parse(&answer.to_body()).unwrap();
        assert!(read.refused[0].reason.chars().all(|c| !c.is_control()));
        assert!(read.refused[0].reason.chars().count() <= REASON_MAX);
    }
}
