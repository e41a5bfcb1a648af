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

/// The most fields kept that this parser does not know; the others are passed over. Without a limit 1 MiB of them would
/// take 28 MiB of memory.
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
    /// As in Nix, a field that stands there twice has its last value, but for References and CA, which may stand once. What
    /// Nix does not know, or nobody has to believe, never makes a path disappear: lines and signatures that cannot be read
    /// are left out, as is what there is of them above [`SIGNATURES_MAX`] and [`EXTRA_FIELDS_MAX`].
    ///
    /// # Errors
    /// A field that matters and is missing or malformed, a second References or CA, a last line without its newline (the
    /// sign of a body that was cut), and more than [`NARINFO_MAX`] bytes.
    pub fn parse(text: &str, store_dir: &StoreDir) -> Result<Self, FormatError> {
        if text.len() > NARINFO_MAX {
            return Err(FormatError::TooLarge(NARINFO_MAX, "bytes"));
        }
        let mut fields = Fields::default();
        for (index, line) in text.split_inclusive('\n').enumerate() {
            let line = line.strip_suffix('\n').ok_or(FormatError::Line(index + 1))?;
            let Some((key, value)) = line.split_once(':') else { continue };
            // Nix takes the value from two bytes behind the colon, whatever is between, so that an empty value without its
            // blank makes it swallow the next line. Others write such lines all the same; their meaning is plain.
            let value = value.strip_prefix([' ', '\t']).unwrap_or(value);
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
    references: BTreeSet<super::StorePath>,
    deriver: Option<super::StorePath>,
    signatures: Vec<super::Signature>,
    ca: Option<super::ContentAddress>,
    extra: Vec<(String, String)>,
}

/// Reads a value into `slot`, in place of what an earlier line said.
fn read<T>(slot: &mut Option<T>, field: &'static str, value: Result<T, FormatError>) -> Result<(), FormatError> {
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
            "StorePath" => read(&mut self.path, "StorePath", store_dir.parse(value))?,
            "URL" => self.url = Some(value.to_owned()),
            "Compression" => read(&mut self.compression, "Compression", value.parse())?,
            // Nobody signs these, and nobody here needs them: one that cannot be read is none.
            "FileHash" => self.file_hash = value.parse().ok(),
            "FileSize" => self.file_size = size(value).ok(),
            "Deriver" if value == "unknown-deriver" => {}
            "Deriver" => self.deriver = value.parse().or_else(|_| store_dir.parse(value)).ok(),
            "NarHash" => read(&mut self.nar_hash, "NarHash", value.parse())?,
            "NarSize" => read(&mut self.nar_size, "NarSize", size(value))?,
            "References" if !self.references.is_empty() => return Err(FormatError::Duplicate("References")),
            "References" => {
                let references = value.split_ascii_whitespace().map(str::parse).collect::<Result<_, FormatError>>();
                self.references = references.map_err(|error| error.in_field("References"))?;
            }
            "CA" if self.ca.is_some() => return Err(FormatError::Duplicate("CA")),
            "CA" => self.ca = value.parse().ok(),
            "Sig" if self.signatures.len() < SIGNATURES_MAX => self.signatures.extend(value.parse().ok()),
            _ if !matches!(key, "Sig" | "") && self.extra.len() < EXTRA_FIELDS_MAX => {
                self.extra.push((key.to_owned(), value.to_owned()));
            }
            _ => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<NarInfo, FormatError> {
        let missing = FormatError::Missing;
        Ok(NarInfo {
            info: PathInfo {
                path: self.path.ok_or(missing("StorePath"))?,
                nar_hash: self.nar_hash.ok_or(missing("NarHash"))?,
                nar_size: self.nar_size.filter(|size| *size != 0).ok_or(missing("NarSize"))?,
                references: self.references.into_iter().collect(),
                deriver: self.deriver,
                signatures: self.signatures,
                ca: self.ca,
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
    fn what_matters_must_be_there_and_whole() {
        for text in ["", "StorePath\n", ": x\n"] {
            assert_eq!(parse(text).unwrap_err(), FormatError::Missing("StorePath"), "{text:?}");
        }
        let malformed = |field, error: FormatError| error.in_field(field);
        for (tail, error) in [
            ("Compression: none", FormatError::Line(5)),
            ("NarSize: -1\n", malformed("NarSize", FormatError::Number("-1".into()))),
            ("NarSize: 0\n", FormatError::Missing("NarSize")),
            ("URL: \n", FormatError::Missing("URL")),
            ("References: ../../etc\n", malformed("References", FormatError::StoreHash)),
            ("NarHash: x\n", malformed("NarHash", FormatError::HashWithoutAlgorithm)),
        ] {
            assert_eq!(parse(&format!("{HEAD}{tail}")).unwrap_err(), error, "{tail:?}");
        }
        let elsewhere = HEAD.replace("/nix/store/", "/gnu/store/");
        assert!(matches!(parse(&elsewhere), Err(FormatError::Field("StorePath", _))));
        let long = format!("{HEAD}X: {}\n", "x".repeat(NARINFO_MAX));
        assert_eq!(parse(&long).unwrap_err(), FormatError::TooLarge(NARINFO_MAX, "bytes"));
    }

    #[test]
    fn what_is_not_known_never_makes_a_path_disappear() {
        for line in [
            "Provenance: {\"type\":\"build\"}",
            "Sig: x",
            "Sig: a-1:!",
            "CA: text",
            "CA: fixed:r:blake3:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
            "CA: a b",
            "FileSize: -1",
            "FileSize: 99999999999999999999",
            "FileHash: sha3:00",
            "Deriver: ???",
            "Deriver: /nix/store/0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-hello.drv",
            "NoColon",
            ": x",
            "",
            "\u{feff}X:é",
        ] {
            for text in [format!("{HEAD}{line}\n"), format!("{line}\n{HEAD}")] {
                assert_eq!(parse(&text).unwrap().info.nar_size, 112, "{line:?}");
            }
        }
    }

    #[test]
    fn lines_that_repeat_are_read_as_by_nix() {
        let other = "/nix/store/0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-b";
        let again = format!("StorePath: {other}\nURL: nar/y\nNarSize: 7\nDeriver: unknown-deriver\n");
        let narinfo = parse(&format!("{HEAD}Deriver: 0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-x.drv\n{again}")).unwrap();
        assert_eq!(StoreDir::default().join(&narinfo.info.path), other, "the last one counts");
        assert_eq!((narinfo.url.as_str(), narinfo.info.nar_size), ("nar/y", 7));
        assert!(narinfo.info.deriver.is_some(), "unknown-deriver says nothing");
        let (reference, ca) = ("0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-a", format!("text:{}", narinfo.info.nar_hash));
        for (field, value) in [("References", reference), ("CA", &ca)] {
            assert!(parse(&format!("{HEAD}{field}: \n{field}: {value}\n")).is_ok());
            for second in [value, ""] {
                let twice = parse(&format!("{HEAD}{field}: {value}\n{field}: {second}\n"));
                assert_eq!(twice.unwrap_err(), FormatError::Duplicate(field));
            }
        }
    }

    #[test]
    fn one_blank_or_tab_follows_the_colon() {
        let narinfo = parse(&HEAD.replace(": ", ":\t")).unwrap();
        assert_eq!(narinfo, parse(HEAD).unwrap());
        let unpadded = HEAD.replace(
            "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
            "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU",
        );
        assert_ne!(unpadded, HEAD);
        assert_eq!(parse(&unpadded).unwrap(), narinfo);
    }

    #[test]
    fn no_more_signatures_and_unknown_fields_are_kept_than_allowed() {
        let key = crate::nix::SecretKey::from_seed("a-1", [7; 32]).unwrap();
        let signature = key.sign(&PathInfo::example(), &StoreDir::default());
        let sigs = format!("Sig: {signature}\n").repeat(SIGNATURES_MAX + 1);
        assert_eq!(parse(&format!("{HEAD}{sigs}")).unwrap().info.signatures.len(), SIGNATURES_MAX);
        let fields = "X: y\n".repeat(EXTRA_FIELDS_MAX + 1);
        assert_eq!(parse(&format!("{HEAD}{fields}")).unwrap().extra.len(), EXTRA_FIELDS_MAX);
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
