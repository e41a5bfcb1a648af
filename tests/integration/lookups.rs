//! Lookups in a network of many machines, over real connections.

use crate::support::internet::{Sample, key};
use crate::support::peers::{no_index, online};
use crate::support::{allow_many_files, serve_with};
use hyper::Response;
use peernix::fetch::{Fetcher, Options, SpoolOptions};
use peernix::http::{Body, Handler, Limits, Request, Route, reply};
use peernix::metrics::Metrics;
use peernix::nix::{Compression, NarInfo, StoreDir, StoreHash};
use peernix::peers::hello::Hello;
use peernix::peers::link::Acceptor;
use peernix::peers::{Admission, Discovery, NodeKey, Peers, PeersOptions};
use peernix::resilience::Versioned;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many machines there are.
const MACHINES: u8 = 100;
/// How many paths are looked for, each of them at one machine.
const PATHS: u8 = 60;
/// How long a lookup waits for peers. Longer than usual: all hundred machines share a few processors with other tests here, and what counts
/// is whether everybody is asked. How soon, the tests in virtual time say.
const BUDGET: Duration = Duration::from_secs(3);

/// A machine that has some paths.
struct Machine {
    hello: Hello,
    has: Vec<Sample>,
}

impl Handler for Machine {
    async fn answer(&self, request: Request) -> Response<Body> {
        match request.route {
            Route::Hello => reply::text(self.hello.to_body()),
            Route::NarInfo(hash) => {
                let Some(sample) = self.has.iter().find(|sample| sample.hash() == hash) else {
                    return reply::not_found();
                };
                let url = format!("nar/{hash}-{}.nar", sample.info.nar_hash.to_nix32());
                let (info, compression) = (sample.info.clone(), Compression::None);
                let narinfo = NarInfo { info, url, compression, file_hash: None, file_size: None, extra: vec![] };
                reply::text(narinfo.render(&StoreDir::default()))
            }
            _ => reply::not_found(),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_of_one_machine_among_a_hundred_is_found() {
    allow_many_files();
    let (mut servers, mut nodes, mut fixed) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..MACHINES {
        let key = NodeKey::from_seed([number + 1; 32]);
        let id = key.id();
        let hello = Hello {
            id,
            name: format!("m{number}"),
            version: "0".into(),
            share_port: 1,
            features: vec![],
            instance: String::new(),
            index: String::new(),
            union: String::new(),
            weight: 100,
            membership: String::new(),
            revocations: 0,
            site: String::new(),
        };
        let has = (0..PATHS)
            .filter(|path| u16::from(*path) * 7 % u16::from(MACHINES) == u16::from(number))
            .map(|path| Sample::new(path, 100))
            .collect();
        let acceptor = Acceptor::new(&key, Admission::Open).unwrap();
        let server = serve_with(Machine { hello, has }, Limits::share(), Some(acceptor), "127.0.0.1:0").await;
        fixed.push(format!("{id}@{}", server.address).parse().unwrap());
        nodes.push(id);
        servers.push(server);
    }
    let options = PeersOptions { discovery: Discovery { mdns: None, fixed }, ..PeersOptions::default() };
    let peers = Peers::start(options, &NodeKey::from_seed([255; 32]), &CancellationToken::new()).await.unwrap();
    for node in nodes {
        online(&peers, node).await;
    }
    let (metrics, budget) = (Arc::new(Metrics::default()), BUDGET);
    let trusted_keys = Versioned::new([key().public()].into_iter().collect());
    let options = Options {
        trusted_keys,
        store_dir: StoreDir::default(),
        upstreams: vec![],
        budget,
        memory: 1,
        read_ahead: true,
        max_sources: 4,
        spools: SpoolOptions::default(),
        verify_whole: false,
        bases: None,
        download: Default::default(),
        predecessors: Vec::new(),
        site: None,
    };
    let fetcher =
        Fetcher::new(options, (peers.clone(), no_index(&peers), None), Arc::clone(&metrics), TaskTracker::new());
    // The first question to each machine makes a connection, which takes this program, all hundred of them, longer than the budget.
    while metrics.lookups_absent.get() == 0 {
        let warm = StoreHash::new([u8::try_from(200 + metrics.lookups_unknown.get()).expect("a few are enough"); 20]);
        assert!(fetcher.narinfo(warm).await.is_none());
        tokio::time::sleep(Duration::from_millis(200)).await; // pace
    }
    let mut times = Vec::new();
    for path in 0..PATHS {
        let begun = Instant::now();
        assert!(fetcher.narinfo(StoreHash::new([path; 20])).await.is_some(), "path {path}");
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    eprintln!("found after {:?} (median), {:?} (slowest)", times[times.len() / 2], times[times.len() - 1]);
    assert_eq!(metrics.lookups_peer.get(), u64::from(PATHS));
    drop(servers);
}
