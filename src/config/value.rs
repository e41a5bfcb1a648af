//! The kinds of values in the configuration that have a form of their own, and how they are read.

use crate::fetch::is_proxy;
use crate::nix::StoreDir;
use crate::peers::NodeId;
use serde::de::{Deserialize, Deserializer, Error as _, Visitor};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

/// The most elements a list in the configuration may have; more are a mistake, and each costs work.
const LIST_MAX: usize = 4096;

/// The longest name of a credential, in bytes: systemd makes a file of it.
const CREDENTIAL_NAME_MAX: usize = 255;

/// Whether this can be the name of a systemd credential.
pub(super) fn is_credential_name(name: &str) -> bool {
    !matches!(name, "" | "." | "..")
        && name.len() <= CREDENTIAL_NAME_MAX
        && name.bytes().all(|c| c.is_ascii_graphic() && !matches!(c, b'/' | b':'))
}

/// Addresses to listen on: one text or a list; the empty text is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Addresses(pub Vec<SocketAddr>);

impl Addresses {
    /// Whether there is nothing to listen on.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the text of a default. A text that is none gives no address; the tests see to it that there is no such.
    pub(super) fn from_default(text: &str) -> Self {
        Self(text.parse().into_iter().collect())
    }
}

/// One of them.
struct Address(SocketAddr);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("'{text}' is not a numeric address with a port, such as 127.0.0.1:7649 or [::]:7650"))
    }
}

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = Addresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address with a port, or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Addresses, E> {
                if text.is_empty() {
                    return Ok(Addresses::default());
                }
                let Address(address) = text.parse().map_err(E::custom)?;
                Ok(Addresses(vec![address]))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut list: A) -> Result<Addresses, A::Error> {
                let mut addresses = Vec::new();
                while let Some(Parsed(Address(address))) = list.next_element()? {
                    if addresses.len() == LIST_MAX {
                        return Err(A::Error::custom(format_args!("more than {LIST_MAX} addresses")));
                    }
                    addresses.push(address);
                }
                Ok(Addresses(addresses))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

/// The URL of a proxy, without a password; the empty text is none at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proxy(pub String);

impl<'de> Deserialize<'de> for Proxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Not shown: what is wrong may be a password.
        if text.contains('@') {
            return Err(D::Error::custom(
                "a proxy's user and password do not belong in this file, which everybody may be able to read; \
                 set https_proxy and http_proxy in the environment of the service instead",
            ));
        }
        if !text.is_empty() && !is_proxy(&text) {
            return Err(D::Error::custom(format_args!(
                "'{text}' is not the URL of a proxy, such as http://proxy.example.org:3128 or socks5://127.0.0.1:1080"
            )));
        }
        Ok(Self(text))
    }
}

/// The identity of a machine on the network, with a message for people who paste the wrong thing.
struct NodeText(NodeId);

impl FromStr for NodeText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("'{text}' is not a node id: 52 characters, as `peernixd --print-node-id` prints them"))
    }
}

/// Reads node ids.
pub(super) fn nodes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<NodeId>, D::Error> {
    Ok(list(deserializer)?.into_iter().map(|NodeText(id)| id).collect())
}

/// A text that is parsed where it stands, so that the error has its place in the file.
struct Parsed<T>(T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

/// Reads a list of texts.
pub(super) fn list<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let values = Vec::<Parsed<T>>::deserialize(deserializer)?;
    if values.len() > LIST_MAX {
        return Err(D::Error::custom(format_args!("more than {LIST_MAX} values")));
    }
    Ok(values.into_iter().map(|value| value.0).collect())
}

/// Reads a list of texts that may be missing altogether.
pub(super) fn optional_list<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    list(deserializer).map(Some)
}

/// A time of the day by the clock of the machine, to the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// What time it is.
    #[must_use]
    pub fn now() -> Self {
        let now = jiff::ZonedDateTime::now();
        Self(u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs()))
    }
}

impl FromStr for TimeOfDay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let two = |digits: &str| {
            let both = digits.len() == 2 && digits.bytes().all(|c| c.is_ascii_digit());
            both.then(|| digits.parse::<u16>().ok()).flatten()
        };
        let time = text.split_once(':').and_then(|(hours, minutes)| Some((two(hours)?, two(minutes)?)));
        match time {
            Some((hours, minutes)) if hours < 24 && minutes < 60 => Ok(Self(hours * 60 + minutes)),
            _ => Err(format!("'{text}' is not a time of the day such as 08:00")),
        }
    }
}

/// Reads a text that is parsed.
pub(super) fn parsed<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    Parsed::deserialize(deserializer).map(|value| value.0)
}

/// Reads a text that may be missing; the empty one is missing, too.
pub(super) fn optional<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(D::Error::custom) }
}

/// Reads a length of time, such as `5s` or `2min 30s`.
pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        D::Error::custom(format_args!("'{text}' is not a length of time such as 5s or 2min ({error})"))
    })
}

/// Reads a number of bytes: `64MiB`, `1.5 GB`, or a whole number of bytes.
pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    struct Size;
    impl Visitor<'_> for Size {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size such as \"64MiB\", or a number of bytes")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<u64, E> {
            let size: bytesize::ByteSize =
                text.parse().map_err(|_| E::custom(format_args!("'{text}' is not a size such as 64MiB or 2GB")))?;
            Ok(size.as_u64())
        }

        fn visit_i64<E: serde::de::Error>(self, bytes: i64) -> Result<u64, E> {
            u64::try_from(bytes).map_err(|_| E::custom("a size cannot be negative"))
        }
    }
    deserializer.deserialize_any(Size)
}

/// Reads a store directory.
pub(super) fn store_dir<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StoreDir, D::Error> {
    StoreDir::new(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// Reads a log level.
pub(super) fn level<'de, D: Deserializer<'de>>(deserializer: D) -> Result<log::LevelFilter, D::Error> {
    let text = String::deserialize(deserializer)?;
    // The word of the interfaces and of syslog, and the one of the library.
    let word = if text == "warning" { "warn" } else { &text };
    word.parse().map_err(|_| {
        D::Error::custom(format_args!("'{text}' is not a level (off, error, warning, info, debug or trace)"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies() {
        let read =
            |text: &str| toml::Value::String(text.to_owned()).try_into::<Proxy>().map_err(|error| error.to_string());
        for text in
            ["", "http://proxy.example.org:3128", "https://p", "socks5://127.0.0.1:1080", "socks5h://[::1]", "p:3128"]
        {
            assert_eq!(read(text), Ok(Proxy(text.to_owned())));
        }
        for text in ["ftp://p", "socks4://p", "http://", "a b"] {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(!read("http://user:secret@p:1").unwrap_err().contains("secret"));
    }
}
