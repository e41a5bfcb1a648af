//! narinfo: the text in which a binary cache describes one path.
//!
//! Source: what Nix's own parser accepts and writes, measured with 2.8, 2.26 and 2.34; its traps are named where they are
//! handled.

use super::hash::Hash;
use super::signature::SIGNATURES_MAX;
use super::{FormatError, PathInfo, StoreDir, error::quote};
use std::collections::BTreeSet;
use std::fmt;
use std::fmt::Write as _;
use std::str::FromStr;

/// The longest narinfo accepted, in bytes. The largest of nixpkgs, of a system path with thousands of references, stay
/// under 200 KiB.
pub const NARINFO_MAX: usize = 1024 * 1024;

/// The most fields accepted that this parser does not know. Without a limit 1 MiB of them would take 28 MiB of memory.
pub const EXTRA_FIELDS_MAX: usize = 64;

/// How the NAR behind a narinfo's URL is compressed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all: the bytes that the NAR hash covers.
    None,
    /// xz, the default of `nix copy`.
    Xz,
    /// Zstandard.
    Zstd,
    /// bzip2: what a narinfo without the field means.
    Bzip2,
    /// gzip.
    Gzip,
    /// Anything else (br, lzip, …), as it was written.
    Other(Box<str>),
}

impl Compression {
    /// The value of the field.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::None => "none",
            Self::Xz => "xz",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Other(name) => name,
        }
    }
}

impl FromStr for Compression {
    type Err = FormatError;

    fn from_str(name: &str) -> Result<Self, FormatError> {
        match name {
            "none" => Ok(Self::None),
            "xz" => Ok(Self::Xz),
            "zstd" => Ok(Self::Zstd),
            "bzip2" | "" => Ok(Self::Bzip2),
            "gzip" => Ok(Self::Gzip),
            other if other.len() <= 32 && other.bytes().all(|c| c.is_ascii_alphanumeric()) => {
                Ok(Self::Other(other.into()))
            }
            _ => Err(FormatError::Missing("Compression")),
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A narinfo: a path info and where its NAR is. [`fmt::Display`] is not implemented because the text depends on the store
/// directory; see [`NarInfo::render`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarInfo {
    /// The path.
    pub info: PathInfo,
    /// Where the NAR is, relative to the cache or absolute.
    pub url: String,
    /// How it is compressed there.
    pub compression: Compression,
    /// The hash of the compressed file. Nobody signs or checks it.
    pub file_hash: Option<Hash>,
    /// The length of the compressed file in bytes. Nobody signs it; Nix feeds its progress bar with it.
    pub file_size: Option<u64>,
    /// Fields that this parser does not know, in their order.
    pub extra: Vec<(String, String)>,
}

impl NarInfo {
    /// Reads the narinfo of a path of `store_dir`.
    ///
    /// # Errors
    /// Anything that Nix refuses, and more: a field that may stand once and stands twice, whatever it is; a last line
    /// without its newline (the sign of a body that was cut); and more than [`NARINFO_MAX`] bytes, [`SIGNATURES_MAX`]
    /// signatures or [`EXTRA_FIELDS_MAX`] unknown fields.
    pub fn parse(text: &str, store_dir: &StoreDir) -> Result<Self, FormatError> {
        if text.len() > NARINFO_MAX {
            return Err(FormatError::TooLarge(NARINFO_MAX, "bytes"));
        }
        let mut fields = Fields::default();
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let bad = || FormatError::Line(index + 1);
            let (key, value) = line.strip_suffix('\n').and_then(|line| line.split_once(':')).ok_or_else(bad)?;
            // Nix takes the value from two bytes behind the colon, so that an empty value without its blank makes it
            // swallow the next line. Others write such lines all the same; their meaning is plain.
            let value = match value.strip_prefix(' ') {
                Some(value) => value,
                None if value.is_empty() => value,
                None => return Err(bad()),
            };
            if key.is_empty() {
                return Err(bad());
            }
            fields.take(key, value, store_dir)?;
        }
        fields.finish()
    }

    /// Writes it, in the order in which Nix does.
    #[must_use]
    pub fn render(&self, store_dir: &StoreDir) -> String {
        let info = &self.info;
        let mut text = String::with_capacity(512 + info.references.len() * 64);
        let mut line = |key: &str, value: &dyn fmt::Display| {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{key}: {value}");
        };
        line("StorePath", &store_dir.join(&info.path));
        line("URL", &self.url);
        line("Compression", &self.compression);
        if let Some(hash) = &self.file_hash {
            line("FileHash", hash);
        }
        if let Some(size) = self.file_size {
            line("FileSize", &size);
        }
        line("NarHash", &info.nar_hash);
        line("NarSize", &info.nar_size);
        // `line` puts the blank that Nix needs behind the colon even when there is no reference.
        let references: Vec<String> = info.references.iter().map(ToString::to_string).collect();
        line("References", &references.join(" "));
        if let Some(deriver) = &info.deriver {
            line("Deriver", deriver);
        }
        for signature in &info.signatures {
            line("Sig", signature);
        }
        if let Some(ca) = &info.ca {
            line("CA", ca);
        }
        for (key, value) in &self.extra {
            line(key, value);
        }
        text
    }
}

/// The fields of a narinfo while it is read.
#[derive(Default)]
struct Fields {
    path: Option<super::StorePath>,
    url: Option<String>,
    compression: Option<Compression>,
    file_hash: Option<Hash>,
    file_size: Option<u64>,
    nar_hash: Option<super::NarHash>,
    nar_size: Option<u64>,
    references: Option<BTreeSet<super::StorePath>>,
    deriver: Option<Option<super::StorePath>>,
    signatures: Vec<super::Signature>,
    ca: Option<Option<super::ContentAddress>>,
    extra: Vec<(String, String)>,
}

/// Fills `slot` once.
fn once<T>(slot: &mut Option<T>, field: &'static str, value: Result<T, FormatError>) -> Result<(), FormatError> {
    if slot.is_some() {
        return Err(FormatError::Duplicate(field));
    }
    *slot = Some(value.map_err(|error| error.in_field(field))?);
    Ok(())
}

/// A size in bytes. Nix reads 64 bits; i64 is what the database and HTTP can carry.
fn size(text: &str) -> Result<u64, FormatError> {
    let digits = !text.is_empty() && text.bytes().all(|c| c.is_ascii_digit());
    let value = if digits { text.parse::<i64>().ok() } else { None };
    value.and_then(|value| u64::try_from(value).ok()).ok_or_else(|| FormatError::Number(quote(text)))
}

impl Fields {
    fn take(&mut self, key: &str, value: &str, store_dir: &StoreDir) -> Result<(), FormatError> {
        match key {
            "StorePath" => once(&mut self.path, "StorePath", store_dir.parse(value)),
            "URL" => once(&mut self.url, "URL", Ok(value.to_owned())),
            "Compression" => once(&mut self.compression, "Compression", value.parse()),
            "FileHash" => once(&mut self.file_hash, "FileHash", value.parse()),
            "FileSize" => once(&mut self.file_size, "FileSize", size(value)),
            "NarHash" => once(&mut self.nar_hash, "NarHash", value.parse()),
            "NarSize" => once(&mut self.nar_size, "NarSize", size(value)),
            "References" => {
                once(&mut self.references, "References", value.split_ascii_whitespace().map(str::parse).collect())
            }
            "Deriver" => once(
                &mut self.deriver,
                "Deriver",
                if value.is_empty() || value == "unknown-deriver" { Ok(None) } else { value.parse().map(Some) },
            ),
            "Sig" if self.signatures.len() >= SIGNATURES_MAX => {
                Err(FormatError::TooLarge(SIGNATURES_MAX, "signatures"))
            }
            "Sig" => {
                self.signatures.push(value.parse().map_err(|error: FormatError| error.in_field("Sig"))?);
                Ok(())
            }
            "CA" => once(&mut self.ca, "CA", if value.is_empty() { Ok(None) } else { value.parse().map(Some) }),
            _ if self.extra.len() >= EXTRA_FIELDS_MAX => Err(FormatError::TooLarge(EXTRA_FIELDS_MAX, "unknown fields")),
            _ => {
                self.extra.push((key.to_owned(), value.to_owned()));
                Ok(())
            }
        }
    }

    fn finish(self) -> Result<NarInfo, FormatError> {
        let missing = FormatError::Missing;
        Ok(NarInfo {
            info: PathInfo {
                path: self.path.ok_or(missing("StorePath"))?,
                nar_hash: self.nar_hash.ok_or(missing("NarHash"))?,
                nar_size: self.nar_size.filter(|size| *size != 0).ok_or(missing("NarSize"))?,
                references: self.references.unwrap_or_default().into_iter().collect(),
                deriver: self.deriver.flatten(),
                signatures: self.signatures,
                ca: self.ca.flatten(),
            },
            url: self.url.filter(|url| !url.is_empty()).ok_or(missing("URL"))?,
            compression: self.compression.unwrap_or(Compression::Bzip2),
            file_hash: self.file_hash,
            file_size: self.file_size,
            extra: self.extra,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HEAD: &str = "StorePath: /nix/store/7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-hello-2.12.1\n\
                        URL: nar/x.nar.xz\nNarHash: sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73\nNarSize: 112\n";

    fn parse(text: &str) -> Result<NarInfo, FormatError> {
        NarInfo::parse(text, &StoreDir::default())
    }

    #[test]
    fn the_least_narinfo() {
        let narinfo = parse(HEAD).unwrap();
        assert_eq!(narinfo.compression, Compression::Bzip2, "what a missing field means");
        assert!(narinfo.info.references.is_empty());
        assert_eq!(narinfo.info.nar_size, 112);
    }

    #[test]
    fn narinfos_of_nix_survive_a_round_trip() {
        // Written by `nix copy --to file://…?compression=…` of Nix 2.8 with a signing key.
        for text in [
            include_str!("../../tests/golden/narinfo/xz.narinfo"),
            include_str!("../../tests/golden/narinfo/none-ca.narinfo"),
        ] {
            assert_eq!(parse(text).unwrap().render(&StoreDir::default()), text);
        }
    }

    #[test]
    fn empty_values_are_empty() {
        for references in ["References:\n", "References: \n", ""] {
            let narinfo = parse(&format!("{HEAD}{references}Deriver: unknown-deriver\nCA:\n")).unwrap();
            assert!(narinfo.info.references.is_empty());
            assert_eq!((narinfo.info.deriver.as_ref(), narinfo.info.ca.as_ref()), (None, None));
            // With its blank, or Nix would swallow the next line.
            assert!(narinfo.render(&StoreDir::default()).contains("\nReferences: \n"));
        }
    }

    #[test]
    fn unknown_fields_are_kept() {
        let text = format!("{HEAD}System: x86_64-linux\nX-Anything: a: b\n");
        let narinfo = parse(&text).unwrap();
        assert_eq!(narinfo.extra.len(), 2);
        assert!(narinfo.render(&StoreDir::default()).ends_with("System: x86_64-linux\nX-Anything: a: b\n"));
    }

    #[test]
    fn references_are_a_sorted_set() {
        let (a, b) = ("0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-a", "1c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-b");
        let narinfo = parse(&format!("{HEAD}References: {b} {a}  {b}\n")).unwrap();
        let references: Vec<String> = narinfo.info.references.iter().map(ToString::to_string).collect();
        assert_eq!(references, [a, b]);
    }

    #[test]
    fn what_is_doubtful_is_refused() {
        let cases = [
            ("", FormatError::Missing("StorePath")),
            ("StorePath\n", FormatError::Line(1)),
            ("StorePath:x\n", FormatError::Line(1)),
            (": x\n", FormatError::Line(1)),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text).unwrap_err(), error, "{text:?}");
        }
        for (tail, error) in [
            ("Compression: none", FormatError::Line(5)),
            ("\n", FormatError::Line(5)),
            ("URL: y\n", FormatError::Duplicate("URL")),
            ("References: \nReferences: \n", FormatError::Duplicate("References")),
            ("CA: \nCA: \n", FormatError::Duplicate("CA")),
            ("FileSize: -1\n", FormatError::Number("-1".into()).in_field("FileSize")),
            (
                "FileSize: 99999999999999999999\n",
                FormatError::Number("99999999999999999999".into()).in_field("FileSize"),
            ),
            ("References: ../../etc\n", FormatError::StoreHash.in_field("References")),
            ("Sig: x\n", FormatError::Signature.in_field("Sig")),
        ] {
            assert_eq!(parse(&format!("{HEAD}{tail}")).unwrap_err(), error, "{tail:?}");
        }
        let no_size = HEAD.replace("NarSize: 112", "NarSize: 0");
        assert_eq!(parse(&no_size).unwrap_err(), FormatError::Missing("NarSize"));
        let no_url = HEAD.replace("nar/x.nar.xz", "");
        assert_eq!(parse(&no_url).unwrap_err(), FormatError::Missing("URL"));
        let elsewhere = HEAD.replace("/nix/store/", "/gnu/store/");
        assert!(matches!(parse(&elsewhere), Err(FormatError::Field("StorePath", _))));
        let long = format!("{HEAD}X: {}\n", "x".repeat(NARINFO_MAX));
        assert_eq!(parse(&long).unwrap_err(), FormatError::TooLarge(NARINFO_MAX, "bytes"));
    }

    #[test]
    fn no_more_signatures_and_unknown_fields_than_allowed() {
        let key = crate::nix::SecretKey::from_seed("a-1", [7; 32]).unwrap();
        let signature = key.sign(&PathInfo::example(), &StoreDir::default());
        for (field, most, what) in [
            (format!("Sig: {signature}\n"), SIGNATURES_MAX, "signatures"),
            ("X: y\n".to_owned(), EXTRA_FIELDS_MAX, "unknown fields"),
        ] {
            assert!(parse(&format!("{HEAD}{}", field.repeat(most))).is_ok(), "{what}");
            let error = parse(&format!("{HEAD}{}", field.repeat(most + 1))).unwrap_err();
            assert_eq!(error, FormatError::TooLarge(most, what));
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(StorePath: /nix/store/[0-9a-z]{32}-x\n|URL: .{0,9}\n|NarSize: [0-9]{1,22}\n|[A-Za-z]{1,9}:.{0,40}\n?){0,9}") {
            if let Ok(narinfo) = parse(&text) {
                // What is accepted can be written and is then the same.
                let again = parse(&narinfo.render(&StoreDir::default())).unwrap();
                prop_assert_eq!(again, narinfo);
            }
        }
    }
}
