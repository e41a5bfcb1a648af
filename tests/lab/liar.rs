//! A peer that is not peernixd: it proves a node key and speaks the peer protocol as a real one, and then lies, or dawdles,
//! or simply is honest and slower than another.

use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use peernix::keys::fingerprint;
use peernix::nix::{Compression, NarInfo, PathInfo, SecretKey, StoreDir};
use peernix::peers::hello::{self, Hello};
use peernix::peers::link::Acceptor;
use peernix::peers::trusted_keys::SIGNED_BY_HEADER;
use peernix::peers::{Admission, NodeId, NodeKey};

use crate::byte_server::{Asked, End, Reply, Request, Servers, serve};
use crate::host::Host;
use crate::internet::cut;
use crate::nar;
use crate::store::StoreSet;
use crate::wait;
use crate::world::secret_key;

/// Where the share of a peer listens.
pub(crate) const SHARE_PORT: u16 = 7650;

/// What is wrong with a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    Honest,
    /// One bit of the NAR, in its middle.
    FlippedBit,
    /// One bit of the last kilobyte, when nearly everything has been passed on.
    FlippedBitAtTheEnd,
    /// The NAR lacks its second half, and the length says so.
    Truncated,
    /// The NAR goes on after its end.
    Longer,
    /// The NAR of another path of the same size.
    OtherNar,
    /// The genuine narinfo of another path.
    OtherNarinfo,
    /// The right narinfo without its signatures.
    Unsigned,
    /// The right narinfo, signed by a key that nobody trusts.
    UnknownKey,
    /// The right narinfo, signed by another key of the name that is trusted.
    OtherKey,
    /// One more reference than was signed.
    ForgedReferences,
    /// Another hash, and a NAR that fits it.
    ForgedHash,
    /// The right narinfo, which sends the reader elsewhere for its NAR.
    ForgedUrl,
    /// 500 for NARs.
    WrongStatus,
    /// A redirection for NARs.
    Redirect,
    /// A Content-Length that the body does not keep to.
    WrongLength,
    /// What asks for the rest gets the whole, with 200.
    IgnoresRange,
    /// Bytes that are not HTTP.
    Garbage,
    /// A Content-Encoding that the body does not have.
    Encoding,
    /// It has nothing, and tells what an upstream says: that the file is where it is not.
    ToldElsewhere,
    /// The same, with another hash than was signed.
    ToldForged,
    /// The same, when nobody waits for it any more.
    ToldLate,
}

impl Fault {
    /// Whether it is about what it tells of upstreams.
    const fn is_of_upstreams(self) -> bool {
        matches!(self, Self::ToldElsewhere | Self::ToldForged | Self::ToldLate)
    }
}

/// A path that a fake peer offers.
#[derive(Clone)]
pub(crate) struct Goods {
    pub(crate) info: PathInfo,
    nar: Bytes,
}

impl Goods {
    /// A path of a set, with the lab's signature.
    pub(crate) fn of(set: &StoreSet, name: &str) -> Result<Self> {
        let mut info = set.named(name)?.clone();
        info.signatures = vec![secret_key()?.sign(&info, &StoreDir::default())];
        let mut content = Vec::new();
        nar::dump(&set.content(&info), &mut content)?;
        Ok(Self { info, nar: content.into() })
    }

    /// Its full path.
    pub(crate) fn path(&self) -> String {
        StoreDir::default().join(&self.info.path)
    }
}

/// How a fake peer behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) fault: Fault,
    /// Before every answer: makes it the second choice.
    pub(crate) delay: Duration,
    /// Bytes of a NAR per second.
    pub(crate) rate: Option<usize>,
}

impl Manner {
    /// Quick, but lying.
    pub(crate) const fn lying(fault: Fault) -> Self {
        Self { fault, delay: Duration::ZERO, rate: None }
    }

    /// Honest, but it takes its time to answer.
    pub(crate) const fn hesitant(delay: Duration) -> Self {
        Self { fault: Fault::Honest, delay, rate: None }
    }
}

/// How long a listener that is gone may still be in the way.
const PLACE_LIMIT: Duration = Duration::from_secs(5);

/// A peer made of nothing but a listener.
pub(crate) struct FakePeer {
    pub(crate) id: NodeId,
    /// As `[discovery] peers` takes it.
    pub(crate) fixed: String,
    pub(crate) asked: Asked,
    _servers: Servers,
}

impl FakePeer {
    /// Starts one on a host. `goods[0]` is what it lies about; the others serve as what it passes off for it.
    pub(crate) fn start(host: &Host, seed: u8, goods: Vec<Goods>, manner: Manner) -> Result<Self> {
        let key = NodeKey::from_seed([seed; 32]);
        let id = key.id();
        let acceptor = Acceptor::new(&key, Admission::Open)?;
        // Whatever another case starts at this moment holds the socket of the fake peer before until it runs its program.
        let bound = wait::until("the place of the fake share", PLACE_LIMIT, || {
            match host.enter(|| Ok(TcpListener::bind(("::", SHARE_PORT))))? {
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => Ok(None),
                bound => bound.map(Some).context("binding the fake share"),
            }
        });
        let (listener, _) = bound?;
        let servers = Servers::new()?;
        let asked = Asked::default();
        let log = asked.clone();
        let greeting = Hello {
            id,
            name: host.name.clone(),
            version: "0.1.0".into(),
            share_port: SHARE_PORT,
            features: manner.fault.is_of_upstreams().then(|| hello::CLAIM.to_owned()).into_iter().collect(),
            instance: String::new(),
            index: String::new(),
            union: String::new(),
            weight: 100,
            membership: String::new(),
            revocations: 0,
            site: String::new(),
        };
        let respond: Arc<dyn Fn(&Request) -> Reply + Send + Sync> = Arc::new(move |request| {
            if request.target.starts_with(hello::TARGET) {
                return Reply::new(200, greeting.to_body()).header("Content-Type", "application/json");
            }
            let reply = answer(request, &goods, manner);
            let rate = manner.rate.filter(|_| request.target.contains("/nar/"));
            Reply {
                delay: manner.delay + reply.delay,
                rate: rate.map(|rate| (rate / 20, Duration::from_millis(50))),
                ..reply
            }
        });
        servers.accept(listener, move |stream| {
            let (acceptor, respond, log) = (acceptor.clone(), Arc::clone(&respond), log.clone());
            async move {
                let (stream, _) = acceptor.accept(stream).await?;
                serve(stream, respond, log).await.map(drop)
            }
        })?;
        let fixed = format!("{id}@{}:{SHARE_PORT}", host.address());
        Ok(Self { id, fixed, asked, _servers: servers })
    }
}

fn answer(request: &Request, goods: &[Goods], manner: Manner) -> Reply {
    let path = request.target.split('?').next().unwrap_or_default().trim_start_matches('/');
    if path == "nix-cache-info" {
        return Reply::new(200, "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n");
    }
    let tells = path.starts_with("peernix/v1/upstream/");
    if manner.fault.is_of_upstreams() != tells {
        return Reply::new(404, "not here");
    }
    let wanted = |one: &&Goods| path.contains(&one.info.path.hash().to_string());
    let Some(good) = goods.iter().find(wanted) else { return Reply::new(404, "not here") };
    // Only the first is lied about, so that what it refers to can be had.
    let fault = if good.info.path == goods[0].info.path { manner.fault } else { Fault::Honest };
    let other = goods.get(1).unwrap_or(good);
    if path.ends_with(".narinfo") { narinfo(fault, good, other) } else { nar(request, fault, good, other) }
}

fn narinfo(fault: Fault, good: &Goods, other: &Goods) -> Reply {
    let mut info = if fault == Fault::OtherNarinfo { other.info.clone() } else { good.info.clone() };
    match fault {
        Fault::Unsigned => info.signatures.clear(),
        Fault::UnknownKey => {
            // From a valid name and a constant seed there is always a key.
            let stranger = SecretKey::from_seed("stranger-1", [9; 32]).ok();
            info.signatures = stranger.iter().map(|key| key.sign(&info, &StoreDir::default())).collect();
        }
        Fault::OtherKey => {
            let stranger = SecretKey::from_seed("lab-1", [9; 32]).ok();
            info.signatures = stranger.iter().map(|key| key.sign(&info, &StoreDir::default())).collect();
        }
        Fault::ForgedReferences => {
            info.references.push(other.info.path.clone());
            info.references.sort();
        }
        Fault::ForgedHash | Fault::ToldForged => {
            info.nar_hash = other.info.nar_hash;
            info.nar_size = other.info.nar_size;
        }
        _ => {}
    }
    let url = match fault {
        Fault::ForgedUrl => "http://10.77.0.254:9999/nar/elsewhere.nar".to_owned(),
        _ => format!("nar/{}-{}.nar", info.path.hash(), info.nar_hash.to_nix32()),
    };
    let narinfo =
        NarInfo { info, url, compression: Compression::None, file_hash: None, file_size: None, extra: vec![] };
    let reply = Reply::new(200, narinfo.render(&StoreDir::default())).header("Content-Type", "text/x-nix-narinfo");
    if fault == Fault::ToldLate {
        return Reply { delay: Duration::from_secs(2), ..reply };
    }
    match (fault, secret_key()) {
        // It says that it has verified what it forged.
        (Fault::ForgedReferences | Fault::ForgedHash, Ok(key)) => {
            let key = key.public();
            reply.header(SIGNED_BY_HEADER, format!("{}:{}", key.name(), fingerprint(&key)))
        }
        _ => reply,
    }
}

fn nar(request: &Request, fault: Fault, good: &Goods, other: &Goods) -> Reply {
    let whole = &good.nar;
    let flipped = |at: usize| {
        let mut bytes = whole.to_vec();
        bytes[at] ^= 1;
        Bytes::from(bytes)
    };
    match fault {
        Fault::FlippedBit => Reply::file(request, &flipped(whole.len() / 2)),
        Fault::FlippedBitAtTheEnd => Reply::file(request, &flipped(whole.len() - 1000)),
        Fault::Truncated => Reply::file(request, &whole.slice(..whole.len() / 2)),
        Fault::Longer => Reply::file(request, &[whole.as_ref(), &[0; 64]].concat().into()),
        Fault::OtherNar | Fault::ForgedHash => Reply::file(request, &other.nar),
        Fault::WrongStatus => Reply::new(500, "no"),
        Fault::Redirect => Reply::new(302, "").header("Location", "http://10.77.0.254:9999/nar/elsewhere.nar"),
        Fault::WrongLength => {
            Reply { claimed_length: Some(whole.len() as u64 + 100), end: End::Close, ..Reply::file(request, whole) }
        }
        // Cut once, so that the rest is asked for.
        Fault::IgnoresRange if request.range_from.is_none() => {
            cut(Reply::file(request, whole), whole.len() / 2, End::Close)
        }
        Fault::IgnoresRange => Reply::new(200, whole.clone()),
        Fault::Garbage => Reply { end: End::Close, ..Reply::new(999, "\0\r\n\r\nHTTP/9 what?\r\n\0\0\0") },
        Fault::Encoding => Reply::file(request, whole).header("Content-Encoding", "gzip"),
        _ => Reply::file(request, whole),
    }
}
