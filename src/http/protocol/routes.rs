//! The paths of the cache protocol: from the text of a request to a [`Route`] and back.
//!
//! Sources: the requests of Nix 2.8 to 2.35, and the URL forms of nix-serve (`nar/HASH-NARHASH.nar`, before that
//! `nar/HASH.nar`), harmonia (`nar/NARHASH.nar?hash=HASH`), peerix (`v2/remote/IP/PORT/HASH/local/nar/PATH.nar`, `local/nar/PATH.nar`) and the Go
//! peernix (`HASH-NARHASH.nar`, before that `HASH.nar`), which live on for 30 days in the disk caches of clients.

use crate::copies::message as copies;
use crate::fetch::claims::message;
use crate::fetch::patch::message as patch;
use crate::fetch::upstream_narinfos::{self, UpstreamId};
use crate::fetch::{PIECES, partial};
use crate::index::{self, Whose};
use crate::nix::realisation::{BuildTraceKey, DrvOutput};
use crate::nix::{Compression, NarHash, StoreHash, StorePath};
use crate::peers::{IndexState, fleet, holders, measure, narinfo_batch};
use data_encoding::BASE64;
use std::borrow::Cow;
use std::fmt;

/// The longest path with its query that can be a route, in bytes: a log's store path, every byte of it escaped, and
/// some room for a query that is not ours.
pub const TARGET_MAX: usize = 1024;

/// The shortest and longest build id, in hexadecimal digits. GNU ld writes 40; others write 16 to 64.
const BUILD_ID_DIGITS: std::ops::RangeInclusive<usize> = 8..=128;

/// The prefix under which every route is found as well, for caches that live beside other things on one host.
const PREFIX: &str = "/nix-cache";

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `/`: what this is.
    Index,
    /// `/nix-cache-info`.
    CacheInfo,
    /// `/HASH.narinfo`.
    NarInfo(StoreHash),
    /// `/local/HASH.narinfo`, as peerix asks for it.
    PeerixNarInfo(StoreHash),
    /// `/nar/…`.
    Nar(NarName),
    /// `/HASH.ls`: the files of a path, as JSON.
    Listing(StoreHash),
    /// `/log/DRV`: the build log of a derivation (or of the derivation of an output).
    Log(StorePath),
    /// `/realisations/HASH!OUTPUT.doi`, asked for by Nix up to 2.34.
    Realisation(DrvOutput),
    /// `/build-trace-v2/DRV/OUTPUT.doi`, asked for by Nix from 2.35.
    BuildTrace(BuildTraceKey),
    /// `/debuginfo/BUILDID`: where the debug symbols of a program are.
    DebugInfo(BuildId),
    /// `/health`.
    Health,
    /// `/version`.
    Version,
    /// `/metrics`: Prometheus text, on the gateway only.
    Metrics,
    /// `/peers`, on the gateway only.
    Peers,
    /// `/peernix/v1/hello`, between peers only.
    Hello,
    /// `/peernix/v1/index`, between peers only: what changed since a state, or everything.
    PeerIndex(Whose, Option<IndexState>),
    /// `/peernix/v1/holders`, between peers only: a POST as [`Self::NarInfos`], see [`holders`].
    Holders,
    /// `/peernix/v1/claim`, between peers only: a POST, see [`message`].
    Claim,
    /// `/peernix/v1/upstream/UPSTREAM/HASH.narinfo`, between peers only: what an upstream says of a path.
    UpstreamNarInfo(UpstreamId, StoreHash),
    /// `/peernix/v1/partial/NARHASH`, between peers only: a NAR that is on its way.
    Partial(NarHash),
    /// `/peernix/v1/pieces/HASH-NARHASH`, between peers only: what proves the pieces of a NAR.
    Pieces(NarName),
    /// `/peernix/v1/patch/HASH-NARHASH`, between peers only: a POST, see [`patch`].
    Patch(NarName),
    /// `/peernix/v1/copies`, between members only: a POST, see [`copies`].
    Copies,
    /// `/peernix/v1/fleet`, between members of a fleet only: what they know of it.
    Fleet,
    /// `/peernix/v1/pair`, between peers only: a POST, see [`fleet::pairing`].
    Pair,
    /// `/peernix/v1/measure/BYTES`: so many bytes that mean nothing, for a peer that measures the line.
    Measure(u64),
    /// What the page for people is made of, beside [`Self::Index`].
    Page(PagePart),
    /// `/peernix/v1/narinfo`, between peers only: a POST with up to 256 hash parts, see [`narinfo_batch`].
    NarInfos,
}

/// A NAR by its URL. At least one of the two hashes is known, and the NAR hash whenever the form of the URL has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NarName {
    /// Which path.
    pub hash: StoreHash,
    /// Which content; absent only in the oldest forms, such as `nar/HASH.nar`.
    pub nar_hash: Option<NarHash>,
    /// What the suffix says; [`Compression::Other`] does not occur.
    pub compression: Compression,
}

/// The build id of a program: an even number of lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct BuildId(Box<str>);

impl BuildId {
    /// The digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A part of the page for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PagePart {
    /// How it looks.
    Style,
    /// What keeps it up to date.
    Script,
    /// What changes, as it changes.
    Events,
}

impl PagePart {
    const ALL: [Self; 3] = [Self::Style, Self::Script, Self::Events];

    /// Where it is.
    #[must_use]
    pub const fn path(self) -> &'static str {
        match self {
            Self::Style => "/page.css",
            Self::Script => "/page.js",
            Self::Events => "/events",
        }
    }

    fn parse(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.path().strip_prefix('/') == Some(path))
    }
}

impl Route {
    /// Whether its answer is a stream from the store rather than a text in memory.
    #[must_use]
    pub const fn is_stream(&self) -> bool {
        matches!(
            self,
            Self::Nar(_) | Self::Partial(_) | Self::Patch(_) | Self::Measure(_) | Self::Listing(_) | Self::Log(_)
        )
    }

    /// Whether it is one of those whose number `[limits] requests_per_second` bounds: without the others, machines would lose each other.
    #[must_use]
    pub const fn is_counted(&self) -> bool {
        !matches!(self, Self::Hello | Self::Claim | Self::Copies | Self::Fleet | Self::Pair)
    }

    /// Whether its answer says what paths are, or has what is in them.
    #[must_use]
    pub const fn is_of_paths(&self) -> bool {
        matches!(
            self,
            Self::NarInfo(_) | Self::NarInfos | Self::Realisation(_) | Self::BuildTrace(_) | Self::DebugInfo(_)
        ) || matches!(self, Self::Pieces(_) | Self::PeerixNarInfo(_) | Self::UpstreamNarInfo(..))
            || self.is_stream()
    }

    /// How long the body of a request for it may be, in bytes: then it is a POST. `None`: it is a GET or a HEAD.
    #[must_use]
    pub const fn body_max(&self) -> Option<usize> {
        match self {
            Self::NarInfos | Self::Holders => Some(narinfo_batch::REQUEST_MAX),
            Self::Claim => Some(message::REQUEST_MAX),
            Self::Patch(_) => Some(patch::REQUEST_MAX),
            Self::Copies => Some(copies::MESSAGE_MAX),
            Self::Pair => Some(fleet::PAIR_REQUEST_MAX),
            _ => None,
        }
    }

    /// Reads the path of a request with its query. Nothing that could leave the store's top level, or be anything but
    /// the forms documented at each route, comes through.
    #[must_use]
    pub fn parse(target: &str) -> Option<Self> {
        if target.len() > TARGET_MAX {
            return None;
        }
        let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
        let path = match path.strip_prefix(PREFIX) {
            Some("") => "/",
            // `/nix-cache-info` starts with the prefix too.
            Some(rest) if rest.starts_with('/') => rest,
            _ => path,
        };
        let path = path.strip_prefix('/')?;
        if let Some((first, rest)) = path.split_once('/') {
            return match first {
                "nar" => NarName::parse(rest, query).map(Self::Nar),
                "local" => match rest.strip_suffix(".narinfo") {
                    Some(hash) => hash.parse().ok().map(Self::PeerixNarInfo),
                    None => NarName::of_peerix(rest).map(Self::Nar),
                },
                // Whom it names is nobody's business: who has the path now is asked.
                "v2" => {
                    let mut parts = rest.strip_prefix("remote/")?.splitn(4, '/');
                    let [_ip, _port, _hash, local] = [parts.next()?, parts.next()?, parts.next()?, parts.next()?];
                    NarName::of_peerix(local.strip_prefix("local/")?).map(Self::Nar)
                }
                "log" => unescape(rest)?.parse().ok().map(Self::Log),
                "realisations" => drv_output(rest).map(Self::Realisation),
                "build-trace-v2" => {
                    let (drv, output) = rest.strip_suffix(".doi")?.split_once('/')?;
                    let (drv, output) = (unescape(drv)?.parse().ok()?, unescape(output)?);
                    BuildTraceKey::new(drv, &output).ok().map(Self::BuildTrace)
                }
                "debuginfo" => BuildId::parse(rest.strip_suffix(".debug").unwrap_or(rest)).map(Self::DebugInfo),
                "peernix" if rest == "v1/hello" => Some(Self::Hello),
                "peernix" if rest == "v1/holders" => Some(Self::Holders),
                "peernix" if rest == "v1/narinfo" => Some(Self::NarInfos),
                "peernix" if rest == "v1/claim" => Some(Self::Claim),
                "peernix" if rest == "v1/copies" => Some(Self::Copies),
                "peernix" if rest == "v1/fleet" => Some(Self::Fleet),
                "peernix" if rest == "v1/pair" => Some(Self::Pair),
                "peernix" if rest.starts_with("v1/measure/") => Self::measure(rest.strip_prefix("v1/measure/")?),
                "peernix" if rest.starts_with("v1/partial/") => {
                    NarHash::from_nix32(rest.strip_prefix("v1/partial/")?).ok().map(Self::Partial)
                }
                "peernix" if rest.starts_with("v1/upstream/") => {
                    let (upstream, hash) = rest.strip_prefix("v1/upstream/")?.split_once('/')?;
                    let hash = hash.strip_suffix(".narinfo")?.parse().ok()?;
                    Some(Self::UpstreamNarInfo(upstream.parse().ok()?, hash))
                }
                "peernix" if rest.starts_with("v1/pieces/") => NarName::stem(rest.strip_prefix("v1/pieces/")?)
                    .filter(|name| name.nar_hash.is_some())
                    .map(Self::Pieces),
                "peernix" if rest.starts_with("v1/patch/") => NarName::stem(rest.strip_prefix("v1/patch/")?)
                    .filter(|name| name.nar_hash.is_some())
                    .map(Self::Patch),
                "peernix" if rest == "v1/index" => Self::peer_index(query),
                _ => None,
            };
        }
        match path {
            "" => Some(Self::Index),
            "nix-cache-info" => Some(Self::CacheInfo),
            "health" => Some(Self::Health),
            "version" => Some(Self::Version),
            "metrics" => Some(Self::Metrics),
            "peers" => Some(Self::Peers),
            _ if let Some(part) = PagePart::parse(path) => Some(Self::Page(part)),
            _ => match path.split_once('.')? {
                (hash, "narinfo") => hash.parse().ok().map(Self::NarInfo),
                (hash, "ls") => hash.parse().ok().map(Self::Listing),
                (stem, "nar") => {
                    let oldest = || {
                        let hash = stem.parse().ok()?;
                        Some(NarName { hash, nar_hash: None, compression: Compression::None })
                    };
                    NarName::stem(stem).or_else(oldest).map(Self::Nar)
                }
                _ => None,
            },
        }
    }

    /// Reads a number of bytes: decimal, without leading zeros, and not more than a measurement takes.
    fn measure(number: &str) -> Option<Self> {
        let bytes = number.parse().ok().filter(|bytes| (1..=measure::BYTES_MAX).contains(bytes))?;
        (bytes.to_string() == number).then_some(Self::Measure(bytes))
    }

    /// Reads the query of [`Self::PeerIndex`]: `of=union`, `since=EPOCH.SEQUENCE`, both with `&` between them, or nothing.
    fn peer_index(query: Option<&str>) -> Option<Self> {
        match query {
            None => Some(Self::PeerIndex(Whose::ItsOwn, None)),
            Some("of=union") => Some(Self::PeerIndex(Whose::Everybodys, None)),
            Some(query) => {
                let (whose, query) = match query.strip_prefix("of=union&") {
                    Some(rest) => (Whose::Everybodys, rest),
                    None => (Whose::ItsOwn, query),
                };
                let known = query.strip_prefix("since=")?.parse().ok()?;
                Some(Self::PeerIndex(whose, Some(known)))
            }
        }
    }

    /// The name of the route in metrics and logs.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// The names of all routes, by [`Self::index`].
    pub const NAMES: [&'static str; 27] = [
        "index",
        "nix-cache-info",
        "narinfo",
        "nar",
        "ls",
        "log",
        "realisations",
        "build-trace-v2",
        "debuginfo",
        "health",
        "version",
        "metrics",
        "peers",
        "hello",
        "peer-index",
        "narinfo-batch",
        "holders",
        "claim",
        "partial",
        "pieces",
        "fleet",
        "pair",
        "patch",
        "copies",
        "measure",
        "page",
        "upstream",
    ];

    /// The place of the route in [`Self::NAMES`].
    #[must_use]
    pub const fn index(&self) -> usize {
        match self {
            Self::Index => 0,
            Self::CacheInfo => 1,
            Self::NarInfo(_) | Self::PeerixNarInfo(_) => 2,
            Self::Nar(_) => 3,
            Self::Listing(_) => 4,
            Self::Log(_) => 5,
            Self::Realisation(_) => 6,
            Self::BuildTrace(_) => 7,
            Self::DebugInfo(_) => 8,
            Self::Health => 9,
            Self::Version => 10,
            Self::Metrics => 11,
            Self::Peers => 12,
            Self::Hello => 13,
            Self::PeerIndex(..) => 14,
            Self::NarInfos => 15,
            Self::Holders => 16,
            Self::Claim => 17,
            Self::Partial(_) => 18,
            Self::Pieces(_) => 19,
            Self::Fleet => 20,
            Self::Pair => 21,
            Self::Patch(_) => 22,
            Self::Copies => 23,
            Self::Measure(_) => 24,
            Self::Page(_) => 25,
            Self::UpstreamNarInfo(..) => 26,
        }
    }
}

impl fmt::Display for Route {
    /// The path and query that [`Self::parse`] reads as this route.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index => f.write_str("/"),
            Self::CacheInfo => f.write_str("/nix-cache-info"),
            Self::NarInfo(hash) => write!(f, "/{hash}.narinfo"),
            Self::PeerixNarInfo(hash) => write!(f, "/local/{hash}.narinfo"),
            Self::Nar(name) => write!(f, "/{name}"),
            Self::Listing(hash) => write!(f, "/{hash}.ls"),
            Self::Log(path) => write!(f, "/log/{}-{}", path.hash(), Escaped(path.name())),
            Self::Realisation(id) => write!(f, "/realisations/{}.doi", Escaped(&id.to_string())),
            Self::BuildTrace(key) => {
                let (drv, output) = (key.drv_path(), Escaped(key.output()));
                write!(f, "/build-trace-v2/{}-{}/{output}.doi", drv.hash(), Escaped(drv.name()))
            }
            Self::DebugInfo(id) => write!(f, "/debuginfo/{}", id.0),
            Self::Health => f.write_str("/health"),
            Self::Version => f.write_str("/version"),
            Self::Metrics => f.write_str("/metrics"),
            Self::Peers => f.write_str("/peers"),
            Self::Hello => f.write_str("/peernix/v1/hello"),
            Self::NarInfos => f.write_str(narinfo_batch::TARGET),
            Self::Holders => f.write_str(holders::TARGET),
            Self::Claim => f.write_str(message::TARGET),
            Self::Copies => f.write_str(copies::TARGET),
            Self::Fleet => f.write_str(fleet::TARGET),
            Self::Pair => f.write_str(fleet::PAIR_TARGET),
            Self::Measure(bytes) => write!(f, "{}{bytes}", measure::TARGET),
            Self::Page(part) => f.write_str(part.path()),
            Self::UpstreamNarInfo(upstream, hash) => f.write_str(&upstream_narinfos::target(*upstream, *hash)),
            Self::Partial(nar) => f.write_str(&partial::target(nar)),
            Self::Pieces(NarName { hash, nar_hash, .. }) => {
                let nar = nar_hash.as_ref().map(NarHash::to_nix32).unwrap_or_default();
                write!(f, "{PIECES}{hash}-{nar}")
            }
            Self::Patch(NarName { hash, nar_hash, .. }) => {
                let nar = nar_hash.as_ref().map(NarHash::to_nix32).unwrap_or_default();
                write!(f, "{}{hash}-{nar}", patch::TARGET)
            }
            Self::PeerIndex(whose, known) => f.write_str(&index::target(*whose, *known)),
        }
    }
}

impl NarName {
    /// Reads `HASH-NARHASH`.
    fn stem(stem: &str) -> Option<Self> {
        let (hash, nar_hash) = stem.split_once('-')?;
        let (hash, nar_hash) = (hash.parse().ok()?, NarHash::from_nix32(nar_hash).ok()?);
        Some(Self { hash, nar_hash: Some(nar_hash), compression: Compression::None })
    }

    /// The URL of the NAR of a path as peerix writes it, relative to its server.
    #[must_use]
    pub fn for_peerix(path: &str) -> String {
        format!("local/nar/{}.nar", BASE64.encode(path.as_bytes()).replace('/', "_"))
    }

    /// Reads what follows `/local/` at a peerix: `nar/`, the whole store path in Base64 with `_` for `/`, and `.nar`.
    fn of_peerix(file: &str) -> Option<Self> {
        let text = unescape(file.strip_prefix("nar/")?.strip_suffix(".nar")?)?.replace('_', "/");
        let path = BASE64.decode(text.as_bytes()).ok()?;
        let (_, name) = std::str::from_utf8(&path).ok()?.strip_prefix('/')?.rsplit_once('/')?;
        let path: StorePath = name.parse().ok()?;
        Some(Self { hash: path.hash(), nar_hash: None, compression: Compression::None })
    }

    /// Reads what follows `/nar/`.
    fn parse(file: &str, query: Option<&str>) -> Option<Self> {
        let (stem, suffix) = file.split_once(".nar")?;
        let compression = match suffix {
            "" => Compression::None,
            ".xz" => Compression::Xz,
            ".zst" => Compression::Zstd,
            ".bz2" => Compression::Bzip2,
            ".gz" => Compression::Gzip,
            _ => return None,
        };
        // Other parameters are somebody else's business, a cache-buster's say; two paths in one request are nobody's.
        let mut asked =
            query.into_iter().flat_map(|query| query.split('&')).filter_map(|part| part.strip_prefix("hash="));
        let asked = match (asked.next(), asked.next()) {
            (None, _) => None,
            (Some(hash), None) => Some(hash.parse::<StoreHash>().ok()?),
            (Some(_), Some(_)) => return None,
        };
        let (hash, nar_hash) = match stem.len() {
            StoreHash::LEN => (stem.parse().ok()?, None),
            NarHash::NIX32_LEN => (asked?, Some(NarHash::from_nix32(stem).ok()?)),
            _ => {
                let Self { hash, nar_hash, .. } = Self::stem(stem)?;
                (hash, nar_hash)
            }
        };
        (asked.is_none_or(|asked| asked == hash)).then_some(Self { hash, nar_hash, compression })
    }
}

impl fmt::Display for NarName {
    /// The URL of the NAR, relative to its cache: `nar/HASH-NARHASH.nar`. It says everything that is needed to answer
    /// it, so it stays valid for as long as the path does, over restarts and versions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nar/{}", self.hash)?;
        if let Some(nar_hash) = &self.nar_hash {
            write!(f, "-{}", nar_hash.to_nix32())?;
        }
        f.write_str(match self.compression {
            Compression::Xz => ".nar.xz",
            Compression::Zstd => ".nar.zst",
            Compression::Bzip2 => ".nar.bz2",
            Compression::Gzip => ".nar.gz",
            Compression::None | Compression::Other(_) => ".nar",
        })
    }
}

/// Reads what follows `/realisations/`, in the one form that Nix writes.
fn drv_output(file: &str) -> Option<DrvOutput> {
    let text = unescape(file.strip_suffix(".doi")?)?;
    text.parse().ok().filter(|id: &DrvOutput| id.to_string() == text)
}

impl BuildId {
    fn parse(digits: &str) -> Option<Self> {
        let hexadecimal = |c: u8| c.is_ascii_digit() || (b'a'..=b'f').contains(&c);
        let good = BUILD_ID_DIGITS.contains(&digits.len())
            && digits.len().is_multiple_of(2)
            && digits.bytes().all(hexadecimal);
        good.then(|| Self(digits.into()))
    }
}

/// The characters that a name or an id may hold and that clients escape, some always, some never.
const ESCAPABLE: &[u8] = b"!:?+=";

/// Undoes the escapes of [`ESCAPABLE`]; any other escape makes the path nobody's.
fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut plain = String::with_capacity(text.len());
    let mut parts = text.split('%');
    plain.push_str(parts.next()?);
    for part in parts {
        let digits = part.get(..2).filter(|digits| digits.bytes().all(|c| c.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(digits, 16).ok().filter(|byte| ESCAPABLE.contains(byte))?;
        plain.push(char::from(byte));
        plain.push_str(&part[2..]);
    }
    Some(Cow::Owned(plain))
}

/// A name in a path: `?` would begin the query.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = self.0.split('?');
        f.write_str(parts.next().unwrap_or_default())?;
        parts.try_for_each(|part| write!(f, "%3F{part}"))
    }
}

#[cfg(test)]
mod tests;
