//! Which sections and keys there are: asked of the structs themselves, so that messages and documents cannot fall behind.

use super::nats::Nats;
use super::sections::{Cache, Discovery, Fleet, Gateway, Keys, Limits, Log, Replicate, Share, Store, Swarm, Trust};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use std::fmt;

/// The sections, in the order in which they are documented.
pub const SECTIONS: [&str; 13] = [
    "gateway",
    "share",
    "store",
    "trust",
    "keys",
    "discovery",
    "fleet",
    "swarm",
    "nats",
    "replicate",
    "cache",
    "limits",
    "log",
];

/// The keys of a section; `None` if there is no such section.
#[must_use]
pub fn keys_of(section: &str) -> Option<&'static [&'static str]> {
    match section {
        "gateway" => Some(names::<Gateway>()),
        "share" => Some(names::<Share>()),
        "store" => Some(names::<Store>()),
        "trust" => Some(names::<Trust>()),
        "keys" => Some(names::<Keys>()),
        "discovery" => Some(names::<Discovery>()),
        "fleet" => Some(names::<Fleet>()),
        "swarm" => Some(names::<Swarm>()),
        "nats" => Some(names::<Nats>()),
        "replicate" => Some(names::<Replicate>()),
        "cache" => Some(names::<Cache>()),
        "limits" => Some(names::<Limits>()),
        "log" => Some(names::<Log>()),
        _ => None,
    }
}

/// The names of a struct's fields, as its `Deserialize` asks for them.
pub(super) fn names<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    match T::deserialize(Asker) {
        Err(Names(names)) => names,
        Ok(_) => &[],
    }
}

/// A deserializer that gives nothing and notes which fields it was asked for.
struct Asker;

impl<'de> Deserializer<'de> for Asker {
    type Error = Names;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Names> {
        Err(Names(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Names> {
        Err(Names(fields))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The fields, in the only place where a deserializer can put them when there is no value.
#[derive(Debug)]
struct Names(&'static [&'static str]);

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no value")
    }
}

impl std::error::Error for Names {}

impl de::Error for Names {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}
