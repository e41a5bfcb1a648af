//! What Nix gets from the gateway: one form of a NAR, whoever sends it, named by its content.

use super::{Client, MIB};
use crate::support::client::{Answer, Client as Http};
use crate::support::internet::Sample;
use crate::support::odd_cache::{End, Entry, OddCache, Reply};
use crate::support::{Running, serve};
use async_trait::async_trait;
use peernix::http::gateway::Gateway;
use peernix::http::{Asked, Body, Drain, Limits, Pages, reply};
use peernix::metrics::Exposition;
use peernix::nix::{Compression, NarInfo, StoreDir};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Nobody looks at it here.
struct NoPages;

#[async_trait]
impl Pages for NoPages {
    async fn answer(&self, _: Asked<'_>) -> hyper::Response<Body> {
        reply::not_found()
    }
}

/// A gateway with these upstreams, as after a start.
async fn gateway(upstreams: &[&OddCache]) -> Running {
    let client = Client::of(upstreams.iter().map(|cache| cache.url()).collect()).await;
    let gateway = Gateway {
        fetcher: client.fetcher,
        peers: client.peers,
        store_dir: StoreDir::default(),
        priority: 10,
        drain: Arc::new(Drain::default()),
        exposition: Arc::new(Exposition::new(&client.metrics, &[], SystemTime::now())),
        gauges: Box::new(Vec::new),
        pages: Arc::new(NoPages),
    };
    serve(gateway, Limits::gateway()).await
}

/// The NAR of `sample` from byte `from` on, as Nix asks for it: by the URL in the narinfo, which it may know from before.
async fn nar(server: &Running, sample: &Sample, from: usize) -> Answer {
    let url = format!("/nar/{}-{}.nar", sample.hash(), sample.info.nar_hash.to_nix32());
    let range = if from > 0 { format!("Range: bytes={from}-\r\n") } else { String::new() };
    Http::connect(server.address).await.request("GET", &url, &range).await
}

#[tokio::test]
async fn a_download_that_broke_off_goes_on_after_a_restart_whoever_has_which_file() {
    let sample = Sample::new(1, 20 * MIB);
    for theirs in [Compression::Zstd, Compression::None] {
        // The first breaks off, and does not have its file any more when it is asked again.
        let gone = std::sync::atomic::AtomicBool::new(false);
        let first = OddCache::with(Entry::new(&sample, &Compression::Xz), Duration::ZERO, move |_, file| {
            if gone.swap(true, std::sync::atomic::Ordering::Relaxed) {
                Reply::status(404, "")
            } else {
                Reply::cut("", file, file.len() / 2, End::Close)
            }
        });
        let second = OddCache::with(Entry::new(&sample, &theirs), Duration::ZERO, |_, file| Reply::ok("", file));
        let (first, second) = (first.await, second.await);
        let before = gateway(&[&first]).await;
        let begin = nar(&before, &sample, 0).await;
        assert_eq!((begin.status, begin.whole), (200, false));
        assert!(begin.body.len() > MIB, "{} bytes", begin.body.len());
        let after = gateway(&[&second, &first]).await;
        let rest = nar(&after, &sample, begin.body.len()).await;
        assert_eq!((rest.status, rest.whole), (206, true), "{theirs}");
        assert!([begin.body.as_slice(), rest.body.as_slice()].concat() == sample.nar, "{theirs}: not spliced");
        assert_eq!((rest.header("etag"), rest.header("content-encoding")), (begin.header("etag"), None));
    }
}

#[tokio::test]
async fn the_answer_names_its_source() {
    for size in [1000, 17 * MIB] {
        let sample = Sample::new(1, size);
        let broken =
            OddCache::with(Entry::new(&sample, &Compression::Xz), Duration::ZERO, |_, _| Reply::status(404, ""));
        let whole =
            OddCache::with(Entry::new(&sample, &Compression::Zstd), Duration::ZERO, |_, file| Reply::ok("", file));
        let (broken, whole) = (broken.await, whole.await);
        let server = gateway(&[&broken, &whole]).await;
        let narinfo = Http::connect(server.address).await.get(&format!("/{}.narinfo", sample.hash())).await;
        assert!(NarInfo::parse(narinfo.text(), &StoreDir::default()).is_ok());
        assert_eq!(narinfo.header("peernix-source"), None, "who sends is not known yet");
        for from in [0, 100] {
            let answer = nar(&server, &sample, from).await;
            assert_eq!(answer.header("peernix-source"), Some(format!("upstream {}", whole.address).as_str()));
            assert!(answer.body == sample.nar[from..]);
        }
    }
    let server = gateway(&[]).await;
    assert_eq!(nar(&server, &Sample::new(1, 1000), 0).await.header("peernix-source"), None);
}
