//! Listings: what is in a NAR and where, as the JSON that a binary cache keeps at `HASH.ls`.
//!
//! With it a client fetches one file of a path by a range of its uncompressed NAR. Nobody signs a listing.
//!
//! Source: what `nix copy --to 'file:///…?write-nar-listing=true'` of 2.8 writes, byte for byte, and what 2.35 reads.

use super::nar::{DEPTH_MAX, Event, is_name, is_target};
use super::{FormatError, error::quote};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest text accepted, in bytes: about 150,000 files. In memory it takes up to eight times as much.
pub const LISTING_MAX: usize = 16 * 1024 * 1024;

/// The only version there is.
const VERSION: u32 = 1;

/// What is in a NAR.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// The path itself.
    pub root: Node,
}

/// A node of a NAR without its contents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase", rename_all_fields = "camelCase", try_from = "AnyNode")]
pub enum Node {
    /// A regular file.
    Regular {
        /// The length of its contents in bytes.
        size: u64,
        /// Whether its owner may execute it.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        executable: bool,
        /// Where in the NAR its contents begin, in bytes; never zero. Nix writes it, others do not.
        #[serde(skip_serializing_if = "Option::is_none")]
        nar_offset: Option<u64>,
    },
    /// A directory.
    Directory {
        /// What is in it, by name and in the order of the NAR.
        entries: Entries,
    },
    /// A symbolic link.
    Symlink {
        /// What it points to.
        target: Box<str>,
    },
}

/// What is in a directory, by name.
pub type Entries = BTreeMap<Box<str>, Node>;

/// The fields of every kind of node, so that nothing has to be kept until the kind is known.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyNode {
    r#type: Kind,
    size: Option<u64>,
    executable: Option<bool>,
    nar_offset: Option<u64>,
    entries: Option<Entries>,
    target: Option<Box<str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Regular,
    Directory,
    Symlink,
}

impl TryFrom<AnyNode> for Node {
    type Error = FormatError;

    fn try_from(node: AnyNode) -> Result<Self, FormatError> {
        match node.r#type {
            Kind::Regular => Ok(Self::Regular {
                size: node.size.ok_or(FormatError::Missing("size"))?,
                executable: node.executable.unwrap_or(false),
                nar_offset: node.nar_offset.filter(|offset| *offset != 0),
            }),
            Kind::Directory => {
                let entries = node.entries.ok_or(FormatError::Missing("entries"))?;
                match entries.keys().find(|name| !is_name(name.as_bytes())) {
                    Some(name) => Err(FormatError::EntryName(quote(name))),
                    None => Ok(Self::Directory { entries }),
                }
            }
            Kind::Symlink => {
                let target = node.target.filter(|target| is_target(target.as_bytes()));
                Ok(Self::Symlink { target: target.ok_or(FormatError::Missing("target"))? })
            }
        }
    }
}

/// The outermost object.
#[derive(Serialize, Deserialize)]
struct Document<N> {
    version: u32,
    root: N,
}

impl Listing {
    /// Reads the JSON; fields that it does not know are passed over, as Nix does.
    ///
    /// # Errors
    /// Malformed JSON, another version than 1, a node without what its type needs, a name or target that no NAR has, more
    /// than [`LISTING_MAX`] bytes, or more than 63 levels (one less than a NAR may have: the JSON is twice as deep, and its
    /// parser stops there).
    pub fn parse(json: &str) -> Result<Self, FormatError> {
        if json.len() > LISTING_MAX {
            return Err(FormatError::TooLarge(LISTING_MAX, "bytes"));
        }
        let document: Document<Node> = serde_json::from_str(json).map_err(|error| FormatError::json(&error))?;
        if document.version != VERSION {
            return Err(FormatError::Number(document.version.to_string()).in_field("version"));
        }
        Ok(Self { root: document.root })
    }

    /// Writes the JSON, in one line.
    #[must_use]
    pub fn render(&self) -> String {
        // JSON is refused for keys that are no strings and by types that refuse it; there is neither here.
        serde_json::to_string(&Document { version: VERSION, root: &self.root }).unwrap_or_default()
    }
}

/// Makes a listing from what [`Reader`](super::nar::Reader) finds.
#[derive(Debug, Default)]
pub struct Builder {
    root: Option<Node>,
    /// The directories that are open: name, entries so far.
    open: Vec<(Box<str>, Entries)>,
    /// Whether the node that [`Event::Close`] will close is a regular file.
    in_regular: bool,
    failed: Option<FormatError>,
}

impl Builder {
    /// Takes the next part of the NAR.
    pub fn event(&mut self, event: Event<'_>) {
        if self.failed.is_none() {
            self.failed = self.take(event).err();
        }
    }

    /// The listing of the whole NAR.
    ///
    /// # Errors
    /// A name or target that is not UTF-8: JSON cannot carry it, and Nix writes no listing of such a path either. A NAR
    /// that is not complete or deeper than [`DEPTH_MAX`] (`Reader` reports both first).
    pub fn finish(self) -> Result<Listing, FormatError> {
        match self.failed {
            Some(error) => Err(error),
            None => self.root.map(|root| Listing { root }).ok_or(FormatError::Missing("root")),
        }
    }

    fn take(&mut self, event: Event<'_>) -> Result<(), FormatError> {
        match event {
            Event::Directory { .. } if self.open.len() >= DEPTH_MAX => {
                return Err(FormatError::TooLarge(DEPTH_MAX, "levels"));
            }
            Event::Directory { name } => self.open.push((text(name)?, Entries::new())),
            Event::Regular { name, executable, size, offset } => {
                self.in_regular = true;
                self.add(text(name)?, Node::Regular { size, executable, nar_offset: (offset != 0).then_some(offset) });
            }
            Event::Symlink { name, target } => self.add(text(name)?, Node::Symlink { target: text(target)? }),
            Event::Contents(_) => {}
            Event::Close if self.in_regular => self.in_regular = false,
            Event::Close => {
                if let Some((name, entries)) = self.open.pop() {
                    self.add(name, Node::Directory { entries });
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, name: Box<str>, node: Node) {
        match self.open.last_mut() {
            Some((_, entries)) => drop(entries.insert(name, node)),
            None => self.root = Some(node),
        }
    }
}

/// A name or target as text.
fn text(bytes: &[u8]) -> Result<Box<str>, FormatError> {
    str::from_utf8(bytes).map(Into::into).map_err(|_| FormatError::NotUtf8(quote(&String::from_utf8_lossy(bytes))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::nar::Reader;
    use proptest::prelude::*;

    fn list(nar: &[u8]) -> Result<Listing, FormatError> {
        let (mut reader, mut builder) = (Reader::new(nar.len() as u64), Builder::default());
        reader.feed(nar, &mut |event| builder.event(event)).unwrap();
        reader.finish().unwrap();
        builder.finish()
    }

    macro_rules! golden {
        ($($name:literal),+) => {
            [$(($name, &include_bytes!(concat!("../../tests/golden/nar/", $name, ".nar"))[..],
                include_str!(concat!("../../tests/golden/nar/", $name, ".ls")))),+]
        };
    }

    #[test]
    fn listings_are_those_of_nix() {
        // Both by `nix copy` of 2.8: see tests/golden/nar/make.sh.
        let golden = golden!("empty", "regular", "executable", "symlink", "sizes", "names", "nested", "links");
        for (name, nar, json) in golden {
            let listing = list(nar).unwrap();
            assert_eq!(listing.render(), json, "{name}");
            assert_eq!(Listing::parse(json).unwrap(), listing, "{name}");
        }
    }

    #[test]
    fn offsets_are_where_the_contents_are() {
        let nar = include_bytes!("../../tests/golden/nar/nested.nar");
        let Node::Directory { entries } = list(nar).unwrap().root else { panic!("a directory") };
        let Node::Directory { entries } = &entries["a.b"] else { panic!("a directory") };
        let Node::Regular { size: 2, executable: true, nar_offset: Some(offset) } = entries["executable"] else {
            panic!("a file: {entries:?}")
        };
        assert_eq!(&nar[usize::try_from(offset).unwrap()..][..2], b"ab");
    }

    #[test]
    fn later_versions_of_nix_say_the_same() {
        for json in [
            include_str!("../../tests/golden/nar/nested-2.26.3.ls"),
            include_str!("../../tests/golden/nar/nested-2.34.8.ls"),
        ] {
            let listing = Listing::parse(json).unwrap();
            assert_eq!(listing.render(), include_str!("../../tests/golden/nar/nested.ls"));
        }
    }

    #[test]
    fn other_writers_and_later_versions_are_read() {
        // Nix 2.35 sorts the fields and always says `executable`; harmonia gives no offset.
        let json = r#"{"root":{"entries":{"f":{"executable":false,"narOffset":216,"size":1,"type":"regular"},
            "g":{"type":"regular","size":1,"executable":true,"extra":[{}]},"h":{"narOffset":0,"size":0,"type":"regular"}},
            "type":"directory"},"version":1}"#;
        let regular = |size, executable, nar_offset| Node::Regular { size, executable, nar_offset };
        let entries =
            [("f", regular(1, false, Some(216))), ("g", regular(1, true, None)), ("h", regular(0, false, None))];
        let entries = entries.into_iter().map(|(name, node)| (name.into(), node)).collect();
        assert_eq!(Listing::parse(json).unwrap().root, Node::Directory { entries });
    }

    #[test]
    fn what_json_cannot_carry_has_no_listing() {
        let error = list(include_bytes!("../../tests/golden/nar/bytes.nar")).unwrap_err();
        assert!(matches!(error, FormatError::NotUtf8(_)), "{error}");
        assert_eq!(Builder::default().finish(), Err(FormatError::Missing("root")));
    }

    #[test]
    fn nonsense_is_refused() {
        for json in [
            "",
            "{}",
            "[]",
            r#"{"version":1}"#,
            r#"{"version":2,"root":{"type":"directory","entries":{}}}"#,
            r#"{"version":1,"root":{"type":"directory"}}"#,
            r#"{"version":1,"root":{"type":"fifo"}}"#,
            r#"{"version":1,"root":{"entries":{}}}"#,
            r#"{"version":1,"root":{"type":"regular"}}"#,
            r#"{"version":1,"root":{"type":"regular","size":-1}}"#,
            r#"{"version":1,"root":{"type":"regular","size":18446744073709551616}}"#,
            r#"{"version":1,"root":{"type":"symlink"}}"#,
            r#"{"version":1,"root":{"type":"symlink","target":""}}"#,
            r#"{"version":1,"root":{"type":"symlink","target":"a"}} x"#,
            r#"{"version":1,"root":{"type":"directory","entries":{"..":{"type":"symlink","target":"a"}}}}"#,
            r#"{"version":1,"root":{"type":"directory","entries":{"a/b":{"type":"symlink","target":"a"}}}}"#,
        ] {
            assert!(Listing::parse(json).is_err(), "{json}");
        }
        let long = " ".repeat(LISTING_MAX + 1);
        assert_eq!(Listing::parse(&long), Err(FormatError::TooLarge(LISTING_MAX, "bytes")));
        assert!(matches!(Listing::parse(&long[1..]), Err(FormatError::Json(_))));
    }

    #[test]
    fn levels_are_bounded() {
        let nested = |levels: usize| {
            let inner = r#"{"type":"directory","entries":{}}"#;
            let (open, close) = (r#"{"type":"directory","entries":{"d":"#, "}}");
            format!(r#"{{"version":1,"root":{}{inner}{}}}"#, open.repeat(levels - 1), close.repeat(levels - 1))
        };
        assert!(Listing::parse(&nested(DEPTH_MAX - 1)).is_ok());
        assert!(Listing::parse(&nested(DEPTH_MAX)).is_err());
        assert!(Listing::parse(&nested(100_000)).is_err());
        // The deepest NAR has a listing all the same.
        let deep = list(include_bytes!("../../tests/golden/nar/deep.nar")).unwrap();
        assert_eq!(deep.render(), nested(DEPTH_MAX));
        let mut builder = Builder::default();
        (0..=DEPTH_MAX).for_each(|_| builder.event(Event::Directory { name: b"d" }));
        assert_eq!(builder.finish(), Err(FormatError::TooLarge(DEPTH_MAX, "levels")));
    }

    proptest! {
        #[test]
        fn what_is_accepted_survives(json in any_document()) {
            if let Ok(listing) = Listing::parse(&json) {
                prop_assert_eq!(Listing::parse(&listing.render()).unwrap(), listing);
            }
        }
    }

    /// Documents that are listings more often than not.
    fn any_document() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            (any::<u64>(), any::<Option<bool>>(), any::<Option<u64>>()).prop_map(|(size, executable, offset)| {
                serde_json::json!({"type": "regular", "size": size, "executable": executable, "narOffset": offset})
            }),
            ".{0,3}".prop_map(|target| serde_json::json!({"type": "symlink", "target": target})),
        ];
        let tree = leaf.prop_recursive(4, 24, 4, |inner| {
            prop::collection::btree_map("[a-c\\PC]{1,2}", inner, 0..4)
                .prop_map(|entries| serde_json::json!({"type": "directory", "entries": entries}))
        });
        tree.prop_map(|root| serde_json::json!({"version": 1, "root": root}).to_string())
    }
}
