//! The `a{sv} options` at the end of methods: read by name and type, and what nobody knows is refused.
//!
//! So a client that asks for what this version cannot do learns of it, rather than getting something else.

use super::dict::Dict;
use super::errors::CallError;
use crate::control::{ErrorKind, Outcome};
use std::time::Duration;
use zbus::Variant;

/// The longest text that somebody may hand in, in bytes.
pub(super) const TEXT_MAX: usize = 4096;

/// Options that were not read yet.
pub(super) struct Options(Dict);

impl Options {
    pub(super) const fn new(options: Dict) -> Self {
        Self(options)
    }

    /// No option is known.
    pub(super) fn none(options: Dict) -> Result<(), CallError> {
        Self(options).end()
    }

    pub(super) fn flag(&mut self, key: &str) -> Result<bool, CallError> {
        match self.0.remove(key).as_deref() {
            None => Ok(false),
            Some(Variant::Bool(value)) => Ok(*value),
            Some(_) => Err(wrong(key, "b")),
        }
    }

    pub(super) fn number(&mut self, key: &str) -> Result<Option<u64>, CallError> {
        match self.0.remove(key).as_deref() {
            None => Ok(None),
            Some(Variant::U64(value)) => Ok(Some(*value)),
            // What people type into busctl.
            Some(Variant::U32(value)) => Ok(Some(u64::from(*value))),
            Some(_) => Err(wrong(key, "t")),
        }
    }

    /// A duration in microseconds.
    pub(super) fn duration(&mut self, key: &str) -> Result<Option<Duration>, CallError> {
        Ok(self.number(key)?.map(Duration::from_micros))
    }

    pub(super) fn word(&mut self, key: &str) -> Result<Option<String>, CallError> {
        match self.0.remove(key).as_deref() {
            None => Ok(None),
            Some(Variant::Str(value)) => Ok(Some(text(value.as_str())?.to_owned())),
            Some(_) => Err(wrong(key, "s")),
        }
    }

    pub(super) fn words(&mut self, key: &str) -> Result<Vec<String>, CallError> {
        let Some(value) = self.0.remove(key) else { return Ok(Vec::new()) };
        Vec::<String>::try_from(value).map_err(|_| wrong(key, "as"))
    }

    /// Refuses what was not read.
    pub(super) fn end(self) -> Result<(), CallError> {
        let mut unknown: Vec<&String> = self.0.keys().collect();
        unknown.sort_unstable();
        match unknown.first() {
            None => Ok(()),
            Some(key) => {
                let key = key.escape_default().take(100).collect::<String>();
                Err(CallError::new(ErrorKind::InvalidArgument, format!("there is no option '{key}' here")))
            }
        }
    }
}

/// A text that somebody handed in, if it is not too long.
pub(super) fn text(text: &str) -> Outcome<&str> {
    if text.len() > TEXT_MAX {
        let message = format!("a text of {} bytes is too long: {TEXT_MAX} are allowed", text.len());
        return Err(crate::control::ControlError::new(ErrorKind::InvalidArgument, message));
    }
    Ok(text)
}

fn wrong(key: &str, signature: &str) -> CallError {
    CallError::new(ErrorKind::InvalidArgument, format!("the option '{key}' has the type {signature}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::OwnedVariant;

    fn options(list: Vec<(&str, Variant<'static>)>) -> Options {
        let owned = |(key, value): (&str, Variant<'static>)| (key.to_owned(), OwnedVariant::try_from(value).unwrap());
        Options::new(list.into_iter().map(owned).collect())
    }

    #[test]
    fn options_are_read_by_type_and_unknown_ones_named() {
        let mut some = options(vec![("A", true.into()), ("B", 5_u64.into()), ("C", "x".into()), ("D", 7_u32.into())]);
        assert!(some.flag("A").unwrap() && !some.flag("Z").unwrap());
        assert_eq!(some.duration("B").unwrap(), Some(Duration::from_micros(5)));
        assert_eq!(some.word("C").unwrap().as_deref(), Some("x"));
        let error = some.end().unwrap_err().0;
        assert_eq!((error.kind, error.message.contains("'D'")), (ErrorKind::InvalidArgument, true));
        assert!(options(vec![("A", "x".into())]).flag("A").is_err());
        assert!(options(vec![("A", "x".into())]).number("A").is_err());
        assert!(options(vec![("A", "x".repeat(TEXT_MAX + 1).into())]).word("A").is_err());
        assert_eq!(options(vec![("A", vec!["x"].into())]).words("A").unwrap(), ["x"]);
    }
}
