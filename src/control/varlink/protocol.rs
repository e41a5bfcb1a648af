//! The messages: how they are cut out of a stream, what a call is, and what is answered.
//!
//! Source: <https://varlink.org/Method-Call>. A message is one JSON object and a NUL byte. Nothing here reads or writes.

use crate::control::{ControlError, ErrorKind, Outcome};
use serde::de::{DeserializeOwned, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt;
use std::marker::PhantomData;
use thiserror::Error;

/// The standard interface, whose errors every interface uses.
pub(super) const STANDARD: &str = "org.varlink.service";

/// What cannot be a message. There is no way back into the stream after it.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum ProtocolError {
    /// It does not end.
    #[error("a message is longer than {0} bytes")]
    TooLong(usize),
    /// It is not what it has to be.
    #[error("a message is not a JSON object of Varlink: {0}")]
    Malformed(String),
}

/// Cuts messages out of what arrives.
#[derive(Debug)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Where the next message begins.
    start: usize,
    /// Up to where no end of it was found.
    searched: usize,
    /// The longest message, in bytes.
    most: usize,
}

impl Decoder {
    /// A decoder of messages of at most `most` bytes.
    #[must_use]
    pub const fn new(most: usize) -> Self {
        Self { buffer: Vec::new(), start: 0, searched: 0, most }
    }

    /// How many bytes may be added at the moment. None: a message has to be taken out first.
    #[must_use]
    pub fn room(&self) -> usize {
        (self.most + 1).saturating_sub(self.buffer.len() - self.start)
    }

    /// Adds what arrived; at most [`Self::room`].
    pub fn add(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message, without its NUL.
    ///
    /// # Errors
    /// [`ProtocolError::TooLong`].
    pub fn take(&mut self) -> Result<Option<Vec<u8>>, ProtocolError> {
        let Some(length) = self.buffer[self.searched..].iter().position(|byte| *byte == 0) else {
            self.searched = self.buffer.len();
            return if self.searched - self.start > self.most {
                Err(ProtocolError::TooLong(self.most))
            } else {
                Ok(None)
            };
        };
        let end = self.searched + length;
        if end - self.start > self.most {
            return Err(ProtocolError::TooLong(self.most));
        }
        let message = self.buffer[self.start..end].to_vec();
        self.start = end + 1;
        self.searched = self.start;
        if self.start == self.buffer.len() {
            // What one long message needed is not held on to.
            *self = Self::new(self.most);
        }
        Ok(Some(message))
    }
}

/// A call. Its parameters stay text until somebody who knows their types reads them: a tree of any JSON would take many
/// times the memory of its text.
#[derive(Debug)]
pub struct Call {
    /// The interface: what is before the last dot of the method.
    pub interface: String,
    /// The method: what is after it.
    pub method: String,
    /// Nobody wants an answer.
    pub oneway: bool,
    /// Several answers may be given.
    pub more: bool,
    /// The connection is to become another protocol's.
    pub upgrade: bool,
    message: Vec<u8>,
}

#[derive(Deserialize)]
struct Head {
    method: String,
    #[serde(default)]
    oneway: Option<bool>,
    #[serde(default)]
    more: Option<bool>,
    #[serde(default)]
    upgrade: Option<bool>,
}

impl Call {
    /// Reads a message.
    ///
    /// # Errors
    /// [`ProtocolError::Malformed`].
    pub fn parse(message: Vec<u8>) -> Result<Self, ProtocolError> {
        let head: Head =
            serde_json::from_slice(&message).map_err(|error| ProtocolError::Malformed(error.to_string()))?;
        let (interface, method) = head.method.rsplit_once('.').unwrap_or(("", &head.method));
        Ok(Self {
            interface: interface.to_owned(),
            method: method.to_owned(),
            oneway: head.oneway.unwrap_or(false),
            more: head.more.unwrap_or(false),
            upgrade: head.upgrade.unwrap_or(false),
            message,
        })
    }

    /// The parameters, which may be only these: who misspells `dryRun` must not find out by what is gone.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] with the name of another one, or `parameters` if they are no object.
    pub fn parameters(&self, names: &[&'static str]) -> Result<Parameters<'_>, Refusal> {
        let parameters = Parameters(&self.message);
        let mut unknown = None;
        parameters.visit(Find::<IgnoredAny> { name: None, known: names, unknown: &mut unknown, of: PhantomData })?;
        unknown.map_or(Ok(parameters), |name| Err(Refusal::Parameter(name, "there is no such parameter".to_owned())))
    }
}

/// The parameters of a call.
#[derive(Debug)]
pub struct Parameters<'a>(&'a [u8]);

impl Parameters<'_> {
    /// A parameter that may be left out or null.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] if it is of another type.
    pub fn optional<T: DeserializeOwned>(&self, name: &'static str) -> Result<Option<T>, Refusal> {
        self.visit(Find { name: Some(name), known: &[], unknown: &mut None, of: PhantomData })
    }

    /// A parameter that must be there.
    ///
    /// # Errors
    /// [`Refusal::Parameter`] if it is not, or is of another type.
    pub fn required<T: DeserializeOwned>(&self, name: &'static str) -> Result<T, Refusal> {
        self.optional(name)?.ok_or_else(|| Refusal::Parameter(name.to_owned(), "it is missing".to_owned()))
    }

    fn visit<T: DeserializeOwned>(&self, find: Find<'_, T>) -> Result<Option<T>, Refusal> {
        let name = find.name.unwrap_or("parameters");
        let wrong = |error: serde_json::Error| Refusal::Parameter(name.to_owned(), error.to_string());
        let mut reader = serde_json::Deserializer::from_slice(self.0);
        let found = reader.deserialize_map(Outer(find)).map_err(wrong)?;
        Ok(found)
    }
}

/// Looks for `parameters` in a call and goes on in there.
struct Outer<'n, T>(Find<'n, T>);

impl<'de, T: DeserializeOwned> Visitor<'de> for Outer<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a call")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut find = Some(self.0);
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            match find.take_if(|_| key == "parameters") {
                Some(find) => found = map.next_value_seed(find)?,
                None if key == "parameters" => return Err(A::Error::custom("parameters are given twice")),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Looks for one parameter, and for any that is not known.
struct Find<'n, T> {
    name: Option<&'static str>,
    known: &'n [&'static str],
    unknown: &'n mut Option<String>,
    of: PhantomData<T>,
}

impl<'de, T: DeserializeOwned> DeserializeSeed<'de> for Find<'_, T> {
    type Value = Option<T>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, T: DeserializeOwned> Visitor<'de> for Find<'_, T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of parameters")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            if self.name == Some(key.as_str()) {
                if found.is_some() {
                    return Err(A::Error::custom("it is given twice"));
                }
                found = map.next_value::<Option<T>>()?;
            } else {
                map.next_value::<IgnoredAny>()?;
                if self.name.is_none() && !self.known.contains(&key.as_str()) {
                    self.unknown.get_or_insert(key);
                }
            }
        }
        Ok(found)
    }
}

/// Why a call is not answered.
#[derive(Debug)]
pub enum Refusal {
    /// A parameter is missing, unknown, or makes no sense; its name, and why.
    Parameter(String, String),
    /// The method has several answers and the call did not say that it takes them.
    ExpectedMore,
    /// The caller came to the socket that is only for asking.
    PermissionDenied,
    /// There is no such interface.
    InterfaceNotFound(String),
    /// The interface has no such method.
    MethodNotFound,
    /// Nothing here becomes another protocol.
    Upgrade,
    /// The service says no.
    Control(ControlError),
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        Self::Control(error)
    }
}

/// Says which parameter it was that made no sense to the service.
pub(super) trait About<T> {
    /// The same outcome, with the name of the parameter that [`ErrorKind::InvalidArgument`] is about.
    fn about(self, parameter: &str) -> Result<T, Refusal>;
}

impl<T> About<T> for Outcome<T> {
    fn about(self, parameter: &str) -> Result<T, Refusal> {
        self.map_err(|error| match error.kind {
            ErrorKind::InvalidArgument => Refusal::Parameter(parameter.to_owned(), error.to_string()),
            _ => Refusal::Control(error),
        })
    }
}

impl Refusal {
    /// The name of the error and its parameters, as an answer to `call`. `declared`: the errors that its interface has,
    /// with the name of the interface that they are in.
    pub(super) fn render(self, call: &Call, declared: (&str, &[ErrorKind])) -> (String, Value) {
        let standard = |name: &str| format!("{STANDARD}.{name}");
        let method = || format!("{}.{}", call.interface, call.method);
        match self {
            // The message is ours; the standard knows only the name.
            Self::Parameter(name, message) => {
                (standard("InvalidParameter"), json!({ "parameter": name, "message": message }))
            }
            Self::ExpectedMore => (standard("ExpectedMore"), json!({})),
            Self::PermissionDenied => (standard("PermissionDenied"), json!({})),
            Self::InterfaceNotFound(name) => (standard("InterfaceNotFound"), json!({ "interface": name })),
            Self::MethodNotFound => (standard("MethodNotFound"), json!({ "method": method() })),
            Self::Upgrade => (standard("MethodNotImplemented"), json!({ "method": method() })),
            Self::Control(error) => match error.kind {
                ErrorKind::AccessDenied => (standard("PermissionDenied"), json!({})),
                kind => {
                    let (interface, kinds) = declared;
                    let name = if kinds.contains(&kind) { kind } else { ErrorKind::Failed }.name();
                    (format!("{interface}.{name}"), json!({ "message": error.to_string() }))
                }
            },
        }
    }
}

/// An answer as it is sent.
#[derive(Debug, Serialize)]
pub(super) struct Reply<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a str>,
    pub(super) parameters: &'a Value,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) continues: bool,
}

impl Reply<'_> {
    /// The bytes on the socket.
    pub(super) fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut bytes = serde_json::to_vec(self)?;
        bytes.push(0);
        Ok(bytes)
    }
}
