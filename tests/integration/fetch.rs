//! Getting paths from upstreams: lookup, decoding, resuming, and one download for all who ask at once.

mod bodies;
mod gateway;
mod memory;
mod promises;
mod redirects;

use crate::support::internet::{Fault, Internet, Sample, key};
use crate::support::peers::no_index;
use bytes::Bytes;
use http_body_util::BodyExt;
use peernix::fetch::{Fetcher, NarBody, Options, SpoolOptions, TransferError};
use peernix::metrics::Metrics;
use peernix::nix::{Compression, SecretKey, StoreDir, StoreHash, TrustedKeys};
use peernix::peers::{NodeKey, Peers, PeersOptions};
use peernix::resilience::Versioned;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

const BUDGET: Duration = Duration::from_millis(300);
/// Much less than a lookup takes that waits for an upstream.
const SOON: Duration = Duration::from_secs(2);
const MIB: usize = 1024 * 1024;

pub(crate) struct Client {
    pub(crate) fetcher: Fetcher,
    pub(crate) peers: Peers,
    pub(crate) metrics: Arc<Metrics>,
    trusted_keys: Versioned<TrustedKeys>,
    _state: tempfile::TempDir,
}

impl Client {
    async fn new(upstreams: &[&Internet]) -> Self {
        Self::of(upstreams.iter().map(|internet| internet.url()).collect()).await
    }

    /// With these upstreams.
    pub(crate) async fn of(upstreams: Vec<hyper::Uri>) -> Self {
        let state = tempfile::tempdir().unwrap();
        let node_key = NodeKey::load_or_create(state.path()).unwrap();
        let peers = Peers::start(PeersOptions::default(), &node_key, &CancellationToken::new()).await.unwrap();
        let trusted_keys: Versioned<TrustedKeys> = Versioned::new([key().public()].into_iter().collect());
        let upstreams = upstreams.into_iter().map(Into::into).collect();
        let (store_dir, memory) = (StoreDir::default(), 64 * 1024 * 1024);
        let options = Options {
            trusted_keys: trusted_keys.clone(),
            store_dir,
            upstreams,
            budget: BUDGET,
            memory,
            read_ahead: true,
            max_sources: 4,
            spools: SpoolOptions::default(),
            verify_whole: false,
            bases: None,
            download: Default::default(),
            predecessors: Vec::new(),
            site: None,
        };
        let metrics = Arc::new(Metrics::default());
        let fetcher =
            Fetcher::new(options, (peers.clone(), no_index(&peers), None), Arc::clone(&metrics), TaskTracker::new());
        Self { fetcher, peers, metrics, trusted_keys, _state: state }
    }

    async fn nar(&self, sample: &Sample, offset: u64) -> Option<NarBody> {
        let nar = self.fetcher.open(sample.hash(), sample.info.nar_hash).await?;
        assert_eq!(nar.size(), sample.info.nar_size);
        nar.read(offset).await
    }
}

/// Everything that a body gives, and how it ended.
async fn drain(mut body: NarBody) -> (Vec<u8>, Result<(), TransferError>) {
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => all.extend_from_slice(&frame.into_data().unwrap()),
            Err(error) => return (all, Err(error)),
        }
    }
    (all, Ok(()))
}

async fn whole(body: Option<NarBody>) -> Bytes {
    let (all, outcome) = drain(body.expect("a body")).await;
    assert_eq!(outcome, Ok(()));
    all.into()
}

const ALL: [Compression; 5] =
    [Compression::None, Compression::Xz, Compression::Zstd, Compression::Bzip2, Compression::Gzip];

#[tokio::test]
async fn a_nar_is_the_same_bytes_from_any_compression() {
    let internet = Internet::start().await;
    let client = Client::new(&[&internet]).await;
    for (number, compression) in ALL.iter().enumerate() {
        let sample = Sample::new(u8::try_from(number).unwrap(), 300_000);
        internet.publish(&sample, compression);
        let resolution = client.fetcher.narinfo(sample.hash()).await.expect("it is there");
        assert_eq!(resolution.info, sample.info);
        assert!(whole(client.nar(&sample, 0).await).await == sample.nar, "{compression}");
        assert!(whole(client.nar(&sample, 1000).await).await == sample.nar.slice(1000..), "{compression} from 1000");
        let large = Sample::new(u8::try_from(100 + number).unwrap(), 17 * MIB);
        internet.publish(&large, compression);
        assert!(whole(client.nar(&large, 0).await).await == large.nar, "{compression}");
    }
    let small = Sample::new(9, 100);
    internet.publish(&small, &Compression::Xz);
    assert_eq!(whole(client.nar(&small, 50).await).await, small.nar.slice(50..));
}

#[tokio::test]
async fn a_cut_download_resumes_where_it_was() {
    let internet = Internet::start().await;
    let client = Client::new(&[&internet]).await;
    let sample = Sample::new(1, 3 * MIB);
    internet.publish(&sample, &Compression::Zstd);
    internet.fault("/nar/", Fault::CutAt(500_000));
    internet.fault("/nar/", Fault::Status(503));
    internet.fault("/nar/", Fault::CutAt(300_000));
    assert!(whole(client.nar(&sample, 0).await).await == sample.nar);
    let ranges: Vec<_> = internet.requests("/nar/").into_iter().map(|(_, range)| range).collect();
    let expected = [None, Some("bytes=500000-"), Some("bytes=500000-"), Some("bytes=800000-")];
    assert_eq!(ranges, expected.map(|range| range.map(str::to_owned)));
}

#[tokio::test]
async fn a_file_that_changed_is_not_continued() {
    let internet = Internet::start().await;
    let client = Client::new(&[&internet]).await;
    let sample = Sample::new(1, 17 * MIB);
    let url = internet.publish(&sample, &Compression::Zstd);
    let other = Sample::new(2, 2 * MIB);
    let other_url = internet.publish(&other, &Compression::Zstd);
    internet.fault("/nar/", Fault::CutAt(4_000_000));
    assert!(client.fetcher.narinfo(sample.hash()).await.is_some());
    let body = client.nar(&sample, 0).await.unwrap();
    internet.replace(&url, internet.file(&other_url));
    let (received, outcome) = drain(body).await;
    assert!(received.len() < sample.nar.len() && sample.nar.starts_with(&received), "{} bytes", received.len());
    assert!(matches!(outcome, Err(TransferError::NoSource(_))), "{outcome:?}");
}

#[tokio::test]
async fn a_download_goes_on_from_the_file_of_another_upstream() {
    // Both have the NAR, each its own file of it: the bytes of one are never put to those of the other.
    let (one, two) = (Internet::start().await, Internet::start().await);
    let client = Client::new(&[&one, &two]).await;
    let sample = Sample::new(1, 20 * MIB);
    one.publish(&sample, &Compression::Xz);
    two.publish(&sample, &Compression::Zstd);
    one.fault("/nar/", Fault::CutAt(1_000_000));
    (0..4).for_each(|_| one.fault("/nar/", Fault::Status(404)));
    assert!(whole(client.nar(&sample, 0).await).await == sample.nar);
}

#[tokio::test]
async fn wrong_content_is_never_given_out() {
    let internet = Internet::start().await;
    let client = Client::new(&[&internet]).await;
    for (number, compression) in ALL.iter().enumerate() {
        let sample = Sample::new(u8::try_from(number).unwrap(), 100_000);
        internet.publish(&sample, compression);
        internet.fault("/nar/", Fault::FlipAt(5_000));
        assert!(client.nar(&sample, 0).await.is_none(), "{compression}");
    }
    assert_eq!(client.metrics.transfers_failed.get(), 5);
    // A large one has begun when the end turns out wrong; the end is what is kept back.
    let large = Sample::new(9, 20 * MIB);
    internet.publish(&large, &Compression::None);
    internet.fault("/nar/", Fault::FlipAt(5_000));
    let (received, outcome) = drain(client.nar(&large, 0).await.unwrap()).await;
    assert_eq!(received.len(), large.nar.len() - 64 * 1024);
    assert!(matches!(outcome, Err(TransferError::Corrupt(_))), "{outcome:?}");
}

#[tokio::test]
async fn many_who_ask_at_once_are_one_lookup_and_one_download() {
    let internet = Internet::start().await;
    let client = Client::new(&[&internet]).await;
    let sample = Sample::new(1, 20 * MIB);
    let url = internet.publish(&sample, &Compression::None);
    let sample = Arc::new(sample);
    let lookups: Vec<_> = (0..50)
        .map(|_| {
            let (fetcher, hash) = (client.fetcher.clone(), sample.hash());
            tokio::spawn(async move { fetcher.narinfo(hash).await.is_some() })
        })
        .collect();
    for lookup in lookups {
        assert!(lookup.await.unwrap());
    }
    assert_eq!(internet.requests(".narinfo").len(), 1);
    let readers: Vec<_> = (0..8)
        .map(|number| {
            let (fetcher, sample) = (client.fetcher.clone(), Arc::clone(&sample));
            tokio::spawn(async move {
                let offset = number * 1000;
                let nar = fetcher.open(sample.hash(), sample.info.nar_hash).await.unwrap();
                whole(nar.read(offset as u64).await).await == sample.nar.slice(offset..)
            })
        })
        .collect();
    for reader in readers {
        assert!(reader.await.unwrap());
    }
    assert_eq!(internet.requests(&url).len(), 1);
    assert_eq!(client.metrics.transfers_joined.get(), 7);
}

#[tokio::test]
async fn what_nobody_has_is_absent_and_what_is_not_answered_is_not() {
    let internet = Internet::start().await;
    let client = Client::new(&[&internet]).await;
    let missing = StoreHash::new([9; 20]);
    assert!(client.fetcher.narinfo(missing).await.is_none());
    assert!(client.fetcher.narinfo(missing).await.is_none());
    assert_eq!(internet.requests(".narinfo").len(), 1, "the second answer came from memory");
    assert_eq!(client.metrics.lookups_absent.get(), 1);

    let refused = Sample::new(1, 100);
    internet.publish(&refused, &Compression::None);
    internet.fault(".narinfo", Fault::Status(401));
    assert!(client.fetcher.narinfo(refused.hash()).await.is_none(), "an error is no answer");
    assert_eq!(client.metrics.lookups_unknown.get(), 1);
}

#[tokio::test]
async fn an_upstream_that_is_slow_or_stumbles_has_the_path_all_the_same() {
    let internet = Internet::start().await;
    let client = Client::new(&[&internet]).await;
    let faults = [
        Fault::Late(BUDGET + Duration::from_millis(50)),
        Fault::Late(Duration::from_secs(3)),
        Fault::Status(500),
        Fault::Status(503),
        Fault::Status(429),
        Fault::Busy(429, 1),
        Fault::CutAt(10),
    ];
    for (number, fault) in (1..).zip(faults) {
        let sample = Sample::new(number, 100);
        internet.publish(&sample, &Compression::None);
        internet.fault(".narinfo", fault.clone());
        let begun = Instant::now();
        assert!(client.fetcher.narinfo(sample.hash()).await.is_some(), "{fault:?}");
        if let Fault::Busy(_, seconds) = fault {
            assert!(begun.elapsed() >= Duration::from_secs(seconds), "asked again after {:?}", begun.elapsed());
        }
    }
    // As many as Nix asks at once, all of them later than the budget for peers.
    let samples: Vec<_> = (100..125).map(|number| Sample::new(number, 100)).collect();
    for sample in &samples {
        internet.publish(sample, &Compression::None);
        internet.fault(".narinfo", Fault::Late(BUDGET + Duration::from_millis(50)));
    }
    let lookups: Vec<_> = samples
        .iter()
        .map(|sample| {
            let (fetcher, hash) = (client.fetcher.clone(), sample.hash());
            tokio::spawn(async move { fetcher.narinfo(hash).await.is_some() })
        })
        .collect();
    for lookup in lookups {
        assert!(lookup.await.unwrap());
    }
    assert_eq!(client.metrics.lookups_unknown.get(), 0);
}

#[tokio::test]
async fn an_upstream_that_never_answers_costs_that_once() {
    // Its connections come about, as the kernel makes them, and nobody ever reads from them.
    let hole = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let internet = Internet::start().await;
    let hole_url: hyper::Uri = format!("http://{}", hole.local_addr().unwrap()).parse().unwrap();
    let client = Client::of(vec![hole_url, internet.url()]).await;
    let ask = async |number| {
        let begun = Instant::now();
        assert!(client.fetcher.narinfo(StoreHash::new([number; 20])).await.is_none());
        begun.elapsed()
    };
    let first = ask(1).await;
    assert!((Duration::from_secs(7)..Duration::from_secs(10)).contains(&first), "{first:?}");
    for number in 2..4 {
        let next = ask(number).await;
        assert!(next < SOON, "{next:?}");
    }
    let sample = Sample::new(9, 100);
    internet.publish(&sample, &Compression::None);
    let begun = Instant::now();
    assert!(client.fetcher.narinfo(sample.hash()).await.is_some());
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    assert!(ask(4).await < SOON, "it is left alone");
    assert_eq!((client.metrics.lookups_unknown.get(), client.metrics.lookups_absent.get()), (4, 0));
}

#[tokio::test]
async fn an_upstream_that_refuses_costs_its_retries_once() {
    let dead: hyper::Uri = "http://127.0.0.1:1".parse().unwrap();
    let client = Client::of(vec![dead]).await;
    let mut times = Vec::new();
    for number in 1..6 {
        let begun = Instant::now();
        assert!(client.fetcher.narinfo(StoreHash::new([number; 20])).await.is_none());
        times.push(begun.elapsed());
    }
    assert!(times[0] > Duration::from_secs(1) && times[0] < Duration::from_secs(5), "{times:?}");
    assert!(times[1..].iter().all(|time| *time < BUDGET), "{times:?}");
}

#[tokio::test]
async fn without_anybody_to_ask_the_answer_is_immediate() {
    let client = Client::new(&[]).await;
    let begun = Instant::now();
    for number in 0..1000u32 {
        let mut hash = [0; 20];
        hash[..4].copy_from_slice(&number.to_le_bytes());
        assert!(client.fetcher.narinfo(StoreHash::new(hash)).await.is_none());
    }
    assert_eq!(client.metrics.lookups_absent.get(), 1000);
    assert!(begun.elapsed() < Duration::from_secs(1), "1,000 misses took {:?}", begun.elapsed());
}

#[tokio::test]
async fn an_unreachable_upstream_does_not_delay_what_another_has() {
    let internet = Internet::start().await;
    let dead = "http://127.0.0.1:1".parse().unwrap();
    let client = Client::of(vec![dead, internet.url()]).await;
    let sample = Sample::new(1, 100);
    internet.publish(&sample, &Compression::None);
    assert!(client.fetcher.narinfo(sample.hash()).await.is_some(), "the other upstream has it");
    assert_eq!(whole(client.nar(&sample, 0).await).await, sample.nar);
}

#[tokio::test]
async fn what_is_not_signed_by_a_trusted_key_is_not_there() {
    let internet = Internet::start().await;
    let client = Client::new(&[&internet]).await;
    let unsigned = Sample::new(1, 100);
    internet.publish_as(&unsigned, &Compression::None, |narinfo| narinfo.info.signatures.clear());
    assert!(client.fetcher.narinfo(unsigned.hash()).await.is_none());
    let forged = Sample::new(2, 100);
    internet.publish_as(&forged, &Compression::None, |narinfo| narinfo.info.nar_size += 8);
    assert!(client.fetcher.narinfo(forged.hash()).await.is_none());
    let elsewhere = Sample::new(3, 100);
    internet.publish_as(&elsewhere, &Compression::None, |narinfo| {
        narinfo.url = "http://169.254.169.254/latest/meta-data".to_owned();
    });
    assert!(
        client.fetcher.narinfo(elsewhere.hash()).await.is_none(),
        "the path is signed, but the URL is not followed"
    );
    assert!(client.nar(&elsewhere, 0).await.is_none());
}

#[tokio::test]
async fn documents_come_from_upstreams() {
    let internet = Internet::start().await;
    let client = Client::new(&[&internet]).await;
    internet.replace("log/x.drv", "built");
    assert_eq!(client.fetcher.document("log/x.drv").await.as_deref(), Some(&b"built"[..]));
    assert_eq!(client.fetcher.document("log/y.drv").await, None);
}

fn keys(names: &[&str]) -> TrustedKeys {
    let seed = |name: &str| if name == "test-1" { [42; 32] } else { [7; 32] };
    names.iter().map(|name| SecretKey::from_seed(name, seed(name)).unwrap().public()).collect()
}

#[tokio::test]
async fn what_only_a_distrusted_key_signed_is_refused_at_once() {
    let internet = Internet::start().await;
    let client = Client::new(&[&internet]).await;
    let (sample, large) = (Sample::new(1, 100), Sample::new(2, 17 * MIB));
    internet.publish(&sample, &Compression::Xz);
    internet.publish(&large, &Compression::None);
    assert!(client.fetcher.narinfo(sample.hash()).await.is_some());
    let mut under_way = client.nar(&large, 0).await.expect("begins");
    let first = under_way.frame().await.unwrap().unwrap().into_data().unwrap();

    client.trusted_keys.set(keys(&["other-1"]));
    assert!(client.fetcher.narinfo(sample.hash()).await.is_none(), "although it was remembered");
    assert!(client.nar(&sample, 0).await.is_none());
    assert!(client.nar(&large, 0).await.is_none(), "although it is under way");
    let (rest, outcome) = drain(under_way).await;
    assert_eq!(outcome, Ok(()), "what is under way ends");
    assert!([&first[..], &rest].concat() == large.nar);

    client.trusted_keys.set(keys(&["other-1", "test-1"]));
    assert!(client.fetcher.narinfo(sample.hash()).await.is_some(), "and back, although it was absent");
    client.trusted_keys.set(TrustedKeys::default());
    assert!(client.fetcher.narinfo(sample.hash()).await.is_none());
}

#[tokio::test]
async fn a_lookup_that_began_before_leaves_nothing_behind() {
    let internet = Internet::start().await;
    let client = Client::new(&[&internet]).await;
    let sample = Sample::new(1, 100);
    internet.publish(&sample, &Compression::Xz);
    let told = Arc::new(tokio::sync::Semaphore::new(0));
    internet.fault(".narinfo", Fault::When(Arc::clone(&told)));
    let before = tokio::spawn({
        let (fetcher, hash) = (client.fetcher.clone(), sample.hash());
        async move { fetcher.narinfo(hash).await.is_some() }
    });
    while internet.requests(".narinfo").is_empty() {
        tokio::task::yield_now().await;
    }
    client.trusted_keys.set(keys(&["other-1"]));
    told.add_permits(1);
    assert!(before.await.unwrap(), "it is judged by what held when it began");
    assert!(client.fetcher.narinfo(sample.hash()).await.is_none(), "and not remembered");
}
