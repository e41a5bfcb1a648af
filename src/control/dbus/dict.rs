//! Dictionaries (`a{sv}`): the JSON of the plain types, with keys in PascalCase as D-Bus has them.
//!
//! Whole numbers travel as `t`, fractions as `d`, lists of words as `as`, lists of objects as `aa{sv}`. What JSON leaves out is left
//! out here too, for D-Bus has no null.

use crate::control::{ControlError, ErrorKind, Outcome};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Number, Value};
use std::collections::HashMap;
use zbus::{OwnedVariant, Variant};

/// `a{sv}`.
pub(super) type Dict = HashMap<String, OwnedVariant>;

/// The lists of objects, by their JSON names: an empty one must not look like a list of words.
const OBJECT_LISTS: &[&str] = &["sharing", "faces", "sources", "holders"];

/// How deep values may be nested on their way in.
const DEPTH_MAX: usize = 8;

/// The dictionary of a type.
pub(super) fn to_dict<T: Serialize>(value: &T) -> Outcome<Dict> {
    match serde_json::to_value(value).map_err(unusable)? {
        Value::Object(object) => dict_of(object),
        other => Err(unusable(format!("{other} is not an object"))),
    }
}

/// The dictionaries of a list.
pub(super) fn to_dicts<T: Serialize>(values: &[T]) -> Outcome<Vec<Dict>> {
    values.iter().map(to_dict).collect()
}

/// The type that a dictionary describes.
pub(super) fn from_dict<T: DeserializeOwned>(dict: &Dict) -> Outcome<T> {
    let mut object = Map::new();
    for (key, value) in dict {
        object.insert(camel(key), json(value, 0)?);
    }
    serde_json::from_value(Value::Object(object)).map_err(unusable)
}

/// The types that dictionaries describe.
pub(super) fn from_dicts<T: DeserializeOwned>(dicts: &[Dict]) -> Outcome<Vec<T>> {
    dicts.iter().map(from_dict).collect()
}

/// A text as D-Bus can carry it: names come from others, and a NUL in one of them would make a whole answer impossible.
pub(super) fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// Texts as D-Bus can carry them.
pub(super) fn texts(texts: &[String]) -> Vec<String> {
    texts.iter().map(|one| text(one)).collect()
}

fn dict_of(object: Map<String, Value>) -> Outcome<Dict> {
    let mut dict = Dict::with_capacity(object.len());
    for (key, value) in object {
        if let Some(value) = variant(&key, value)? {
            dict.insert(pascal(&key), value);
        }
    }
    Ok(dict)
}

fn variant(key: &str, value: Value) -> Outcome<Option<OwnedVariant>> {
    let value = match value {
        Value::Null => return Ok(None),
        Value::Bool(value) => Variant::from(value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Variant::from(number),
            (None, Some(number)) => Variant::from(number),
            (None, None) => Variant::from(number.as_f64().unwrap_or_default()),
        },
        Value::String(value) => Variant::from(text(&value)),
        Value::Object(object) => Variant::from(dict_of(object)?),
        Value::Array(list) => {
            let objects = OBJECT_LISTS.contains(&key) || list.first().is_some_and(Value::is_object);
            if objects {
                let mut dicts = Vec::with_capacity(list.len());
                for item in list {
                    let Value::Object(object) = item else {
                        return Err(unusable(format!("{key} mixes objects with others")));
                    };
                    dicts.push(dict_of(object)?);
                }
                Variant::from(dicts)
            } else {
                let words: Option<Vec<String>> = list.iter().map(|word| word.as_str().map(text)).collect();
                Variant::from(words.ok_or_else(|| unusable(format!("{key} is neither of words nor of objects")))?)
            }
        }
    };
    OwnedVariant::try_from(value).map(Some).map_err(unusable)
}

fn json(value: &Variant<'_>, depth: usize) -> Outcome<Value> {
    if depth > DEPTH_MAX {
        return Err(unusable("it is nested too deeply"));
    }
    Ok(match value {
        Variant::Bool(value) => Value::from(*value),
        Variant::U8(value) => Value::from(*value),
        Variant::U16(value) => Value::from(*value),
        Variant::U32(value) => Value::from(*value),
        Variant::U64(value) => Value::from(*value),
        Variant::I16(value) => Value::from(*value),
        Variant::I32(value) => Value::from(*value),
        Variant::I64(value) => Value::from(*value),
        Variant::F64(value) => Number::from_f64(*value).map_or(Value::Null, Value::Number),
        Variant::Str(value) => Value::from(value.as_str()),
        Variant::ObjectPath(value) => Value::from(value.as_str()),
        Variant::Variant(value) => json(value, depth + 1)?,
        Variant::Array(list) => {
            Value::Array(list.iter().map(|item| json(item, depth + 1)).collect::<Outcome<Vec<Value>>>()?)
        }
        Variant::Dict(dict) => {
            let mut object = Map::new();
            for (key, value) in dict.iter() {
                let Variant::Str(key) = key else { return Err(unusable("a key is not a text")) };
                object.insert(camel(key.as_str()), json(value, depth + 1)?);
            }
            Value::Object(object)
        }
        other => return Err(unusable(format!("nothing has the type {}", other.value_signature()))),
    })
}

fn pascal(key: &str) -> String {
    first(key, |c| c.to_ascii_uppercase())
}

fn camel(key: &str) -> String {
    first(key, |c| c.to_ascii_lowercase())
}

fn first(key: &str, change: impl Fn(char) -> char) -> String {
    let mut chars = key.chars();
    chars.next().map(change).into_iter().chain(chars).collect()
}

fn unusable(error: impl std::fmt::Display) -> ControlError {
    ControlError::new(ErrorKind::Failed, format!("a D-Bus dictionary is not what it should be: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Event, EventKind, GarbageOptions, PathReport, Peer, Sharing};

    fn peer() -> Peer {
        Peer {
            id: "i".into(),
            name: "n\0ame".into(),
            version: String::new(),
            addresses: vec![],
            source: "mdns".into(),
            state: "online".into(),
            audience: "anyone".into(),
            added: true,
            blocked: Some(crate::control::Blocked { reason: "lies".into(), until_timestamp: Some(u64::MAX) }),
            refused: None,
            first_seen_timestamp: None,
            last_seen_timestamp: Some(1),
            latency_usec: Some(300),
            throughput: None,
            bytes_in: 7,
            bytes_out: 0,
            failures: 2,
            score: 1.0,
            index_entries: None,
            index_timestamp: None,
            index_wrong_claims: 0,
        }
    }

    #[test]
    fn types_come_back_as_they_went() {
        let dict = to_dict(&peer()).unwrap();
        assert_eq!(dict["LatencyUSec"].value_signature().to_string(), "t");
        assert_eq!(dict["Score"].value_signature().to_string(), "d");
        assert_eq!(dict["Addresses"].value_signature().to_string(), "as");
        assert_eq!(dict["Blocked"].value_signature().to_string(), "a{sv}");
        assert!(!dict.contains_key("Throughput"));
        let back: Peer = from_dict(&dict).unwrap();
        assert_eq!(back, Peer { name: "n\u{fffd}ame".into(), ..peer() });
        let event = Event { bytes: Some(1), ..Event::new(EventKind::PeerAdded) };
        assert_eq!(from_dict::<Event>(&to_dict(&event).unwrap()).unwrap(), event);
        let options = GarbageOptions { dry_run: true, max_freed: None, older_than_usec: Some(5) };
        assert_eq!(from_dict::<GarbageOptions>(&to_dict(&options).unwrap()).unwrap(), options);
    }

    #[test]
    fn lists_of_objects_have_one_type_even_if_empty() {
        let report = PathReport {
            path: "p".into(),
            valid: false,
            nar_hash: None,
            nar_size: None,
            references: vec![],
            signed_by: vec!["k".into()],
            built_here: false,
            pinned: false,
            sharing: vec![Sharing { audience: "anyone".into(), served: false, reason: Some("why".into()) }],
            sources: vec![],
            copies: Some(2),
            holders: vec![],
            held_for: vec![],
            fetching: None,
            transfer: None,
            peers_asked: 0,
            upstreams_asked: 0,
        };
        let dict = to_dict(&report).unwrap();
        assert_eq!(dict["Sources"].value_signature().to_string(), "aa{sv}");
        assert_eq!(dict["Sharing"].value_signature().to_string(), "aa{sv}");
        assert_eq!(dict["Holders"].value_signature().to_string(), "aa{sv}");
        assert_eq!(dict["References"].value_signature().to_string(), "as");
        assert_eq!(from_dict::<PathReport>(&dict).unwrap(), report);
    }

    #[test]
    fn what_is_nested_without_end_is_refused() {
        let mut value = Variant::from(1_u8);
        for _ in 0..DEPTH_MAX + 2 {
            value = Variant::Variant(Box::new(value));
        }
        let dict = Dict::from([("A".to_owned(), OwnedVariant::try_from(value).unwrap())]);
        assert_eq!(from_dict::<Event>(&dict).unwrap_err().kind, ErrorKind::Failed);
    }
}
