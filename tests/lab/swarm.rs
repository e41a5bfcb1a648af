//! Many machines in one: each has a node key, a share of its own and an index, and greets as a real one does; but what it offers is made up,
//! and there is nothing behind it. A hundred real ones would not fit on two cores.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context, Result, ensure};
use http_body_util::BodyExt;
use hyper::Response;
use parking_lot::Mutex;
use peernix::http::{Body, Handler, Limits, Listener, Request, Route, reply, share};
use peernix::index::Index;
use peernix::metrics::HttpMetrics;
use peernix::nix::StoreHash;
use peernix::peers::link::Acceptor;
use peernix::peers::{Admission, Discovery, NodeId, NodeKey, Peers, PeersOptions, narinfo_batch};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::host::Host;

/// The port of the first machine of a swarm; the others follow.
const FIRST_PORT: u16 = 20_000;

/// What all machines of a swarm were asked.
#[derive(Default)]
pub(crate) struct Asked {
    pub(crate) greetings: AtomicU64,
    pub(crate) narinfos: AtomicU64,
    /// The hashes of those, in their order.
    pub(crate) hashes: Mutex<Vec<StoreHash>>,
    /// How often one was asked who has what.
    pub(crate) holders: AtomicU64,
    /// Bytes of indexes sent.
    pub(crate) index_bytes: AtomicU64,
}

/// One machine.
pub(crate) struct Machine {
    pub(crate) id: NodeId,
    address: SocketAddr,
    peers: Peers,
    index: Index,
    stop: CancellationToken,
}

/// What a machine answers.
struct Face {
    peers: Peers,
    index: Index,
    /// What it says instead of its index.
    forged: Option<bytes::Bytes>,
    asked: Arc<Asked>,
}

impl Handler for Face {
    async fn answer(&self, request: Request) -> Response<Body> {
        let octets = || hyper::header::HeaderValue::from_static("application/octet-stream");
        match &request.route {
            Route::Hello => {
                self.asked.greetings.fetch_add(1, Relaxed);
                let node = request.caller.node;
                node.map_or_else(reply::not_found, |node| share::hello(&self.peers, node, &request))
            }
            Route::PeerIndex(whose, known) => {
                if let Some(forged) = &self.forged {
                    return reply::ok(octets(), reply::keep::NEVER, forged.clone());
                }
                let Some(node) = request.caller.node else { return reply::not_found() };
                let answer = share::index(&self.peers, &self.index, node, *whose, *known).await;
                let length = answer.as_ref().and_then(|answer| answer.body().length()).unwrap_or_default();
                self.asked.index_bytes.fetch_add(length, Relaxed);
                answer.unwrap_or_else(reply::not_found)
            }
            Route::Holders => {
                self.asked.holders.fetch_add(1, Relaxed);
                let Some(node) = request.caller.node else { return reply::not_found() };
                let answer = share::holders(&self.peers, &self.index, node, &request.body).await;
                answer.unwrap_or_else(reply::not_found)
            }
            Route::NarInfo(hash) => {
                self.asked.narinfos.fetch_add(1, Relaxed);
                self.asked.hashes.lock().push(*hash);
                reply::not_found()
            }
            Route::NarInfos => {
                let Ok(hashes) = narinfo_batch::parse_request(&request.body) else { return reply::bad_request() };
                self.asked.narinfos.fetch_add(hashes.len() as u64, Relaxed);
                self.asked.hashes.lock().extend(&hashes);
                let mut answer = narinfo_batch::Answer::default();
                for hash in hashes {
                    answer.add(hash, None);
                }
                reply::ok(octets(), reply::keep::NEVER, answer.into_bytes())
            }
            _ => reply::not_found(),
        }
    }
}

fn key(number: u16) -> Result<NodeKey> {
    Ok(NodeKey::from_seed([u8::try_from(number % 250)? + 1; 32]))
}

/// Machines on one host, which know one other machine and not each other.
pub(crate) struct Swarm {
    pub(crate) machines: Vec<Machine>,
    pub(crate) asked: Arc<Asked>,
    runtime: Runtime,
}

impl Swarm {
    /// `count` machines on `host`, whose share is on consecutive ports. They greet `other`, an address with a port.
    /// The machine whose number is `forges` sends these bytes for its index.
    pub(crate) fn start(host: &Host, count: u16, other: &str, forges: Option<&(u16, bytes::Bytes)>) -> Result<Self> {
        Self::with_relays(host, count, 0, other, forges)
    }

    /// The same, of whom the first `relays` know all the others, are known by them, and relay if there are enough. If there are any, only they
    /// greet `other`: the others would if they were so many that each leaves it to relays, and these know few.
    pub(crate) fn with_relays(
        host: &Host,
        count: u16,
        relays: u16,
        other: &str,
        forges: Option<&(u16, bytes::Bytes)>,
    ) -> Result<Self> {
        let address = host.address();
        let asked = Arc::<Asked>::default();
        // Its threads are on the host, and so is every socket that they make.
        let runtime = host.enter(|| {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            Ok(builder.worker_threads(2).enable_all().build()?)
        })?;
        let mut machines = Vec::new();
        for number in 0..count {
            let key = key(number)?;
            let known = if number < relays { 0..count } else { 0..relays };
            let mut fixed = Vec::new();
            if number < relays || relays == 0 {
                fixed.push(other.parse().context("the address of the other machine")?);
            }
            for known in known.filter(|known| *known != number) {
                let peer = format!("{}@{address}:{}", self::key(known)?.id(), FIRST_PORT + known);
                fixed.push(peer.parse().context("the address of a machine")?);
            }
            let (address, forged, asked) = (
                format!("{address}:{}", FIRST_PORT + number).parse::<SocketAddr>()?,
                forges.filter(|(forger, _)| *forger == number).map(|(_, bytes)| bytes.clone()),
                Arc::clone(&asked),
            );
            let machine = runtime.block_on(runtime.spawn(async move {
                let stop = CancellationToken::new();
                let options = PeersOptions {
                    name: format!("swarm-{number}"),
                    share_port: address.port(),
                    discovery: Discovery { mdns: None, fixed },
                    relay: number < relays,
                    ..PeersOptions::default()
                };
                let peers = Peers::start(options, &key, &stop).await?;
                let index = Index::new(peers.clone(), true, Arc::default());
                if number < relays {
                    tokio::spawn(index.clone().run(stop.clone()));
                }
                let face = Face { peers: peers.clone(), index: index.clone(), forged, asked };
                let serving = Listener {
                    handler: Arc::new(face),
                    // All of them have one address.
                    limits: Limits { connections: 4096, per_address: None, ..Limits::share() },
                    metrics: Arc::new(HttpMetrics::new("share", &Route::NAMES)),
                    tls: Some(Acceptor::new(&key, Admission::Open)?.multiplexed()),
                    local_only: false,
                };
                let listener = tokio::net::TcpListener::bind(address).await?;
                tokio::spawn(Arc::new(serving).serve(listener, stop.clone()));
                anyhow::Ok(Machine { id: key.id(), address, peers, index, stop })
            }))??;
            machines.push(machine);
        }
        Ok(Self { machines, asked, runtime })
    }

    /// How to name them in `[discovery] peers`.
    pub(crate) fn fixed(&self) -> Vec<String> {
        self.machines.iter().map(|machine| format!("{}@{}", machine.id, machine.address)).collect()
    }

    /// What a machine offers from now on.
    pub(crate) fn offer(&self, machine: usize, hashes: impl Iterator<Item = StoreHash>) {
        let _inside = self.runtime.enter();
        self.machines[machine].index.offer(hashes.map(|hash| hash.prefix()));
    }

    /// A machine is gone, as when its program is stopped.
    pub(crate) fn stop(&self, machine: usize) {
        let machine = &self.machines[machine];
        machine.stop.cancel();
        let peers = machine.peers.clone();
        let _ = self.runtime.block_on(self.runtime.spawn(async move { peers.shutdown().await }));
    }

    /// What the machine answers whose id is `id` and which `machine` knows: a POST with `body`, or a GET without.
    pub(crate) fn ask(
        &self,
        machine: usize,
        id: NodeId,
        target: &'static str,
        body: Option<bytes::Bytes>,
    ) -> Result<bytes::Bytes> {
        let peer = self.machines[machine].peers.get(id).context("it is not known")?;
        let asking = self.runtime.spawn(async move {
            let answer = match body {
                Some(body) => peer.post(target, body).await?,
                None => peer.get(target, None).await?,
            };
            ensure!(answer.status() == 200, "{target}: {}", answer.status());
            Ok(answer.into_body().collect().await?.to_bytes())
        });
        self.runtime.block_on(asking)?
    }

    /// Whether any machine was asked for this path.
    pub(crate) fn was_asked_for(&self, hash: StoreHash) -> bool {
        self.asked.hashes.lock().contains(&hash)
    }

    /// How many of all questions for a path were not the first for it.
    pub(crate) fn repeats(&self) -> usize {
        let hashes = self.asked.hashes.lock();
        hashes.len() - hashes.iter().collect::<BTreeSet<_>>().len()
    }
}
