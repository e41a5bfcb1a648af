//! The language of the descriptions, as far as it takes to hold the service to them.
//!
//! Source: <https://varlink.org/Interface-Definition>.

use super::super::interfaces::errors;
use super::super::{DESCRIPTIONS, METHODS};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};

/// A type.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Type {
    Bool,
    Int,
    Float,
    Text,
    /// Any object.
    Object,
    Named(String),
    Maybe(Box<Type>),
    List(Box<Type>),
    Struct(Vec<(String, Type)>),
    Words(Vec<String>),
}

/// An interface.
#[derive(Debug, Default)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) types: BTreeMap<String, Type>,
    pub(super) methods: BTreeMap<String, (Type, Type)>,
    pub(super) errors: BTreeMap<String, Type>,
    /// The comments of the methods.
    pub(super) comments: BTreeMap<String, String>,
}

struct Parser<'t> {
    rest: &'t str,
    /// The comment before what comes next.
    comment: String,
}

impl<'t> Parser<'t> {
    fn skip(&mut self) {
        self.comment.clear();
        loop {
            self.rest = self.rest.trim_start();
            let Some(comment) = self.rest.strip_prefix('#') else { return };
            let (line, rest) = comment.split_once('\n').unwrap_or((comment, ""));
            self.comment.push_str(line);
            self.rest = rest;
        }
    }

    fn peek(&mut self, start: &str) -> bool {
        self.skip();
        self.rest.starts_with(start)
    }

    fn take(&mut self, start: &str) -> bool {
        let found = self.peek(start);
        if found {
            self.rest = &self.rest[start.len()..];
        }
        found
    }

    fn expect(&mut self, start: &str) {
        assert!(self.take(start), "'{start}' is missing before: {:.60}", self.rest);
    }

    fn word(&mut self) -> &'t str {
        self.skip();
        let end =
            self.rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.')).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        assert!(!word.is_empty(), "a word is missing before: {:.60}", self.rest);
        self.rest = rest;
        word
    }

    fn of_type(&mut self) -> Type {
        if self.take("?") {
            return Type::Maybe(Box::new(self.of_type()));
        }
        if self.take("[]") {
            return Type::List(Box::new(self.of_type()));
        }
        if self.peek("(") {
            return self.parentheses();
        }
        match self.word() {
            "bool" => Type::Bool,
            "int" => Type::Int,
            "float" => Type::Float,
            "string" => Type::Text,
            "object" => Type::Object,
            name => Type::Named(name.to_owned()),
        }
    }

    /// Fields with types, or words. Each has its comment.
    fn parentheses(&mut self) -> Type {
        self.expect("(");
        let (mut fields, mut words) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        while !self.take(")") {
            let comment = self.comment.trim().to_owned();
            let name = self.word().to_owned();
            assert!(comment.ends_with(['.', ':', ',']) && comment.len() > 3, "{name} has the comment '{comment}'");
            assert!(name.starts_with(|c: char| c.is_ascii_lowercase()) && !name.contains(['_', '.']), "{name}");
            assert!(seen.insert(name.clone()), "{name} comes twice");
            if self.take(":") {
                let kind = self.of_type();
                fields.push((name, kind));
            } else {
                words.push(name);
            }
            if !self.peek(")") {
                self.expect(",");
            }
        }
        assert!(fields.is_empty() || words.is_empty());
        if words.is_empty() { Type::Struct(fields) } else { Type::Words(words) }
    }
}

pub(super) fn parse(text: &str) -> Interface {
    let mut parser = Parser { rest: text, comment: String::new() };
    parser.expect("interface");
    let mut interface = Interface { name: parser.word().to_owned(), ..Interface::default() };
    let mut symbols = HashSet::new();
    loop {
        parser.skip();
        if parser.rest.is_empty() {
            return interface;
        }
        let comment = parser.comment.clone();
        assert!(comment.trim().len() > 3, "a comment is missing before: {:.60}", parser.rest);
        let kind = parser.word();
        let name = parser.word().to_owned();
        assert!(name.starts_with(|c: char| c.is_ascii_uppercase()) && !name.contains(['_', '.']), "{name}");
        assert!(symbols.insert(name.clone()), "{name} comes twice in {}", interface.name);
        match kind {
            "type" => drop(interface.types.insert(name, parser.parentheses())),
            "error" => drop(interface.errors.insert(name, parser.parentheses())),
            "method" => {
                let input = parser.parentheses();
                parser.expect("->");
                let output = parser.parentheses();
                interface.comments.insert(name.clone(), comment);
                interface.methods.insert(name, (input, output));
            }
            other => panic!("what is '{other}'?"),
        }
    }
}

/// All interfaces.
pub(super) fn all() -> BTreeMap<&'static str, Interface> {
    DESCRIPTIONS.iter().map(|(name, text)| (*name, parse(text))).collect()
}

impl Interface {
    /// Makes sure that a value is of a type: nothing missing, nothing that is not described.
    pub(super) fn check(&self, value: &Value, of: &Type) -> Result<(), String> {
        let wrong = || Err(format!("{value} is no {of:?}"));
        match of {
            Type::Bool if value.is_boolean() => Ok(()),
            // Varlink's integers have 64 bits with a sign.
            Type::Int if value.is_i64() => Ok(()),
            Type::Float if value.is_number() => Ok(()),
            Type::Text if value.is_string() => Ok(()),
            Type::Object if value.is_object() => Ok(()),
            Type::Maybe(inner) => {
                if value.is_null() {
                    Ok(())
                } else {
                    self.check(value, inner)
                }
            }
            Type::Named(name) => match self.types.get(name) {
                Some(of) => self.check(value, of).map_err(|error| format!("{name}: {error}")),
                None => Err(format!("there is no type {name}")),
            },
            Type::List(inner) => match value {
                Value::Array(items) => items.iter().try_for_each(|item| self.check(item, inner)),
                _ => wrong(),
            },
            Type::Words(words) => match value {
                Value::String(word) if words.contains(word) => Ok(()),
                _ => wrong(),
            },
            Type::Struct(fields) => {
                let Value::Object(object) = value else { return wrong() };
                if let Some(name) = object.keys().find(|name| !fields.iter().any(|(field, _)| field == *name)) {
                    return Err(format!("{name} is not described"));
                }
                fields.iter().try_for_each(|(name, of)| {
                    self.check(object.get(name).unwrap_or(&Value::Null), of).map_err(|error| format!("{name}: {error}"))
                })
            }
            _ => wrong(),
        }
    }

    fn names(&self, of: &Type, found: &mut HashSet<String>) {
        match of {
            Type::Named(name) => {
                let of = self.types.get(name).unwrap_or_else(|| panic!("{}: there is no type {name}", self.name));
                if found.insert(name.clone()) {
                    self.names(of, found);
                }
            }
            Type::Maybe(inner) | Type::List(inner) => self.names(inner, found),
            Type::Struct(fields) => fields.iter().for_each(|(_, of)| self.names(of, found)),
            Type::Bool | Type::Int | Type::Float | Type::Text | Type::Object | Type::Words(_) => {}
        }
    }
}

#[test]
fn the_files_are_named_after_what_they_describe() {
    for (name, text) in DESCRIPTIONS {
        assert_eq!(parse(text).name, *name);
        let file = format!("{}/varlink/{name}.varlink", env!("CARGO_MANIFEST_DIR"));
        assert_eq!(std::fs::read_to_string(file).unwrap(), *text);
    }
    let files = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/varlink")).unwrap();
    assert_eq!(files.count(), DESCRIPTIONS.len());
}

#[test]
fn the_table_and_the_files_have_the_same_methods() {
    let interfaces = all();
    let mut described: Vec<(&str, &str)> = interfaces
        .values()
        .flat_map(|one| one.methods.keys().map(|method| (one.name.as_str(), method.as_str())))
        .collect();
    let mut known: Vec<(&str, &str)> = METHODS.iter().map(|method| (method.interface, method.name)).collect();
    described.sort_unstable();
    known.sort_unstable();
    known.dedup();
    assert_eq!(described, known);
}

#[test]
fn what_needs_a_right_says_so() {
    let interfaces = all();
    for method in METHODS {
        let comment = &interfaces[method.interface].comments[method.name];
        assert_eq!(comment.contains("Needs the admin"), method.changes(), "{method:?}");
    }
}

#[test]
fn every_error_is_described_and_every_type_is_used() {
    for interface in all().values() {
        let (place, kinds) = errors(&interface.name);
        if place == interface.name {
            let declared: HashSet<&str> = interface.errors.keys().map(String::as_str).collect();
            assert_eq!(declared, kinds.iter().map(|kind| kind.name()).collect(), "{place}");
            let message = Type::Struct(vec![("message".to_owned(), Type::Text)]);
            assert!(interface.errors.values().all(|of| *of == message));
        }
        let mut used = HashSet::new();
        for (input, output) in interface.methods.values() {
            interface.names(input, &mut used);
            interface.names(output, &mut used);
        }
        assert_eq!(used, interface.types.keys().cloned().collect(), "{}", interface.name);
    }
}
