//! The whole room with scripted peers, in virtual time.

use super::fetcher::{Fetcher, Options};
use super::resolve::scripted::{Everybody, Says, Voice};
use super::source::scripted::{Act, Script, Scripted, content};
use super::source::upstreams::Upstreams;
use crate::metrics::Metrics;
use crate::nix::{NarHash, PathInfo, SecretKey, StoreDir, TrustedKeys};
use crate::resilience::Versioned;
use bytes::Bytes;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;

struct World {
    fetcher: Fetcher,
    metrics: Arc<Metrics>,
    trusted_keys: Versioned<TrustedKeys>,
    info: PathInfo,
    content: Bytes,
    voice: Arc<Voice>,
}

impl World {
    /// One peer has the path, and sends its NAR as `scripts` say.
    fn new(size: usize, scripts: impl IntoIterator<Item = Script>) -> Self {
        Self::with(size, scripts, false)
    }

    /// The same, with another one that is slower and honest.
    fn with(size: usize, scripts: impl IntoIterator<Item = Script>, has_other: bool) -> Self {
        let content = content(size);
        let nar_hash = NarHash::new(Sha256::digest(&content).into());
        let info = PathInfo { nar_hash, nar_size: size as u64, ..PathInfo::example() };
        let voice = Voice::new(Scripted::peer(1, &content, scripts), info.clone(), Says::Yes, 5);
        let (metrics, trusted_keys) = (Arc::<Metrics>::default(), Versioned::<TrustedKeys>::default());
        let options = Options {
            trusted_keys: trusted_keys.clone(),
            store_dir: StoreDir::default(),
            upstreams: vec![],
            budget: Duration::from_millis(300),
            memory: 64 << 20,
        };
        let upstreams = Arc::new(Upstreams::new(&[], &metrics));
        let mut peers = vec![Arc::clone(&voice)];
        if has_other {
            let slower = Scripted::peer(2, &content, []).measured(Duration::from_millis(50), 1e6);
            peers.push(Voice::new(slower, info.clone(), Says::Yes, 6));
        }
        let network = Everybody::new(&peers, &[]);
        let fetcher = Fetcher::with_network(network, upstreams, options, Arc::clone(&metrics), TaskTracker::new());
        Self { fetcher, metrics, trusted_keys, info, content, voice }
    }

    /// The NAR from byte `from` on, as the gateway asks for it; `None` if there is none, or not to its end.
    async fn read(&self, from: u64) -> Option<Bytes> {
        read(self.fetcher.clone(), self.info.clone(), from).await
    }
}

async fn read(fetcher: Fetcher, info: PathInfo, from: u64) -> Option<Bytes> {
    let nar = fetcher.open(info.path.hash(), info.nar_hash).await?;
    assert_eq!(nar.size(), info.nar_size);
    Some(nar.read(from).await?.collect().await.ok()?.to_bytes())
}

#[tokio::test(start_paused = true)]
async fn many_who_want_a_nar_are_one_lookup_and_one_transfer() {
    for size in [100_000, 17 << 20] {
        let world = World::new(size, [Script::Answer(Duration::from_millis(50), vec![])]);
        let mut readers = JoinSet::new();
        for from in 0..20 {
            readers.spawn(read(world.fetcher.clone(), world.info.clone(), from));
        }
        let all = readers.join_all().await;
        assert!(all.iter().all(|bytes| bytes.as_ref().is_some_and(|bytes| world.content.ends_with(bytes))));
        assert_eq!((world.voice.asked(), world.voice.source.record().opened), (1, vec![0]));
        assert_eq!((world.metrics.transfers_started.get(), world.metrics.transfers_joined.get()), (1, 19));
        assert_eq!(world.fetcher.transfers_running(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn who_asks_after_a_change_of_trust_does_not_join_what_began_before() {
    let world = World::new(1 << 20, [Script::Answer(Duration::from_secs(3), vec![])]);
    let before = tokio::spawn(read(world.fetcher.clone(), world.info.clone(), 0));
    tokio::time::sleep(Duration::from_millis(10)).await; // pace
    assert_eq!(world.voice.source.record().opened, [0], "it is under way");
    let open = || world.fetcher.open(world.info.path.hash(), world.info.nar_hash);
    assert!(open().await.is_some());
    assert_eq!(world.voice.asked(), 1, "what is under way is known");
    world.trusted_keys.set([SecretKey::from_seed("b-1", [7; 32]).unwrap().public()].into_iter().collect());
    assert!(open().await.is_some());
    assert_eq!(world.voice.asked(), 2, "under other keys it has to be found again");
    assert!(before.await.unwrap().is_some(), "what began before ends");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_memory_joins_who_gets_it_first() {
    let world = World::new(10 << 20, []);
    let nar = world.fetcher.open(world.info.path.hash(), world.info.nar_hash).await.unwrap();
    let mut taken = nar.registry.take_memory().await;
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        readers.spawn(read(world.fetcher.clone(), world.info.clone(), 0));
    }
    tokio::time::sleep(Duration::from_secs(1)).await; // pace
    assert_eq!(world.metrics.transfers_started.get(), 0, "there is no room");
    // For one of them.
    taken.pop();
    assert!(readers.join_all().await.iter().all(Option::is_some));
    assert_eq!((world.metrics.transfers_started.get(), world.metrics.transfers_joined.get()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_waited_while_trust_changed_is_joined_by_nobody_who_asks_after_that() {
    let world = World::new(10 << 20, [Script::Answer(Duration::from_secs(3), vec![])]);
    let open = || world.fetcher.open(world.info.path.hash(), world.info.nar_hash);
    let mut taken = open().await.unwrap().registry.take_memory().await;
    let before = tokio::spawn(read(world.fetcher.clone(), world.info.clone(), 0));
    tokio::time::sleep(Duration::from_secs(1)).await; // pace
    world.trusted_keys.set([SecretKey::from_seed("b-1", [7; 32]).unwrap().public()].into_iter().collect());
    taken.clear();
    tokio::time::sleep(Duration::from_secs(1)).await; // pace
    let asked = world.voice.asked();
    assert!(world.fetcher.transfers_running() == 1 && open().await.is_some());
    assert_eq!(world.voice.asked(), asked + 1, "it is found again, under the keys of now");
    assert!(before.await.unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn a_nar_that_turned_out_wrong_is_not_continued() {
    let wrong = Script::at_once(&[Act::Send(1 << 20), Act::Corrupt(1000)]);
    let world = World::with(17 << 20, [wrong], true);
    assert_eq!(world.read(0).await, None, "it breaks off");
    assert_eq!(world.voice.source.record().barred.len(), 1);
    assert_eq!(world.read(1 << 20).await, None, "Nix would put the right end to the wrong beginning");
    assert!(world.read(0).await.is_some(), "from the start it comes from the other one");
}

#[tokio::test(start_paused = true)]
async fn another_build_of_a_path_is_not_it() {
    let world = World::new(1000, []);
    assert!(world.fetcher.open(world.info.path.hash(), NarHash::new([9; 32])).await.is_none());
    assert!(world.read(0).await.is_some());
}
