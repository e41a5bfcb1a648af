//! The whole room with scripted peers, in virtual time.

use super::fetcher::{Fetcher, Options};
use super::read_ahead::KEEP;
use super::resolve::scripted::{Everybody, Says, Voice};
use super::source::scripted::{Act, Script, Scripted, content};
use super::source::upstreams::Upstreams;
use super::transfer::spool::SpoolOptions;
use crate::metrics::Metrics;
use crate::nix::{NarHash, PathInfo, SecretKey, StoreDir, StoreHash, StorePath, TrustedKeys};
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
        Self::among(size, scripts, has_other, &[])
    }

    /// The same, and others have other paths.
    fn among(size: usize, scripts: impl IntoIterator<Item = Script>, has_other: bool, besides: &[Arc<Voice>]) -> Self {
        Self::keeping(size, scripts, has_other, besides, None)
    }

    /// The same, where Nix sees nothing before all of it is verified, if there is a directory to keep it in.
    fn keeping(
        size: usize,
        scripts: impl IntoIterator<Item = Script>,
        has_other: bool,
        besides: &[Arc<Voice>],
        whole: Option<&tempfile::TempDir>,
    ) -> Self {
        let content = content(size);
        let info = info_of(&content, PathInfo::example());
        let voice = Voice::new(Scripted::peer(1, &content, scripts), info.clone(), Says::Yes, 5);
        let (metrics, trusted_keys) = (Arc::<Metrics>::default(), Versioned::<TrustedKeys>::default());
        let options = Options {
            trusted_keys: trusted_keys.clone(),
            store_dir: StoreDir::default(),
            upstreams: vec![],
            budget: Duration::from_millis(300),
            memory: 64 << 20,
            read_ahead: true,
            max_sources: 4,
            spools: SpoolOptions {
                dir: whole.map(|dir| dir.path().to_owned()),
                max_size: 1 << 30,
                keep: Duration::from_secs(60),
            },
            verify_whole: whole.is_some(),
            bases: None,
            download: Default::default(),
            predecessors: Vec::new(),
            site: None,
        };
        let upstreams = Arc::new(Upstreams::new(&[], &metrics));
        let mut peers = vec![Arc::clone(&voice)];
        if has_other {
            let slower = Scripted::peer(2, &content, []).measured(Duration::from_millis(50), 1e6);
            peers.push(Voice::new(slower, info.clone(), Says::Yes, 6));
        }
        peers.extend(besides.iter().cloned());
        let network = Everybody::new(&peers, &[]);
        let fetcher = Fetcher::with_network(network, upstreams, options, Arc::clone(&metrics), TaskTracker::new());
        Self { fetcher, metrics, trusted_keys, info, content, voice }
    }

    /// The NAR from byte `from` on, as the gateway asks for it; `None` if there is none, or not to its end.
    async fn read(&self, from: u64) -> Option<Bytes> {
        read(self.fetcher.clone(), self.info.clone(), from).await
    }
}

/// This path info, with what follows from its NAR.
fn info_of(nar: &Bytes, info: PathInfo) -> PathInfo {
    PathInfo { nar_hash: NarHash::new(Sha256::digest(nar).into()), nar_size: nar.len() as u64, ..info }
}

/// A small path that a peer has, as `script` says.
fn small(number: u8, script: Script) -> (PathInfo, Arc<Voice>) {
    let content = content(50_000 + usize::from(number));
    let path = StorePath::new(StoreHash::new([number; 20]), "small").unwrap();
    let info = info_of(&content, PathInfo { path, references: vec![], ..PathInfo::example() });
    let voice = Voice::new(Scripted::peer(number, &content, [script]), info.clone(), Says::Yes, 5);
    (info, voice)
}

async fn read(fetcher: Fetcher, info: PathInfo, from: u64) -> Option<Bytes> {
    let nar = fetcher.open(info.path.hash(), info.nar_hash).await?;
    assert_eq!(nar.size(), info.nar_size);
    Some(nar.read(from).await?.collect().await.ok()?.to_bytes())
}

#[tokio::test(start_paused = true)]
async fn offline_nobody_is_asked_and_nothing_is_remembered_of_that() {
    let world = World::new(100_000, []);
    let hash = world.info.path.hash();
    assert!(world.fetcher.set_offline(true) && !world.fetcher.set_offline(true));
    assert!(world.fetcher.narinfo(hash).await.is_none());
    assert!(world.fetcher.sources(hash).await.sources.is_empty() && world.read(0).await.is_none());
    assert!(world.fetcher.set_offline(false));
    assert!(world.fetcher.narinfo(hash).await.is_some(), "nobody remembers that it was a miss");
    assert_eq!(world.read(0).await.unwrap(), world.content);
    assert_eq!((world.metrics.lookup_took.count(), world.metrics.first_byte_took.count()), (1, 1));
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
async fn where_all_is_verified_before_a_wrong_byte_is_never_seen_and_the_right_ones_come_from_the_disk() {
    let size = 18 << 20;
    let lies = || [Script::at_once(&[Act::Send(size - 1000), Act::Corrupt(1000)])];
    let tail = World::with(size, lies(), true);
    let nar = tail.fetcher.open(tail.info.path.hash(), tail.info.nar_hash).await.unwrap();
    let seen = nar.read(0).await.expect("it begins").collect().await;
    assert!(seen.is_err(), "and is cut off before its end");

    let dir = tempfile::tempdir().unwrap();
    let whole = World::keeping(size, lies(), true, &[], Some(&dir));
    assert!(whole.read(0).await == Some(whole.content.clone()), "the other one had it");
    assert_eq!(whole.voice.source.record().barred.len(), 1);
    for from in [size - 1, 5, size] {
        assert!(whole.read(from as u64).await == Some(whole.content.slice(from..)), "from {from}");
    }
    assert_eq!(whole.metrics.transfers_started.get(), 2, "what is proved is not fetched again");
    // Small ones never left the memory.
    let small = World::keeping(100_000, [], false, &[], Some(&dir));
    assert!(small.read(10).await == Some(small.content.slice(10..)));
}

#[tokio::test(start_paused = true)]
async fn where_there_is_no_room_to_verify_all_before_nix_is_told_to_look_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::keeping(18 << 20, [], false, &[], Some(&dir));
    world.fetcher.set_spools(SpoolOptions {
        dir: Some(dir.path().to_owned()),
        max_size: 1 << 20,
        keep: Duration::ZERO,
    });
    assert!(world.read(0).await.is_none());
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
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

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn small_nars_are_there_when_nix_asks_for_them() {
    let (infos, voices): (Vec<_>, Vec<_>) = (10..13).map(|number| small(number, Script::at_once(&[]))).unzip();
    let world = World::among(1000, [], false, &voices);
    let opened = || voices.iter().map(|voice| voice.source.record().opened.len()).collect::<Vec<_>>();
    for info in &infos {
        assert!(world.fetcher.narinfo(info.path.hash()).await.is_some());
    }
    tokio::time::sleep(SECOND).await; // pace
    assert_eq!(opened(), [0, 0, 0], "to know of a path is not to want it");
    assert!(world.read(0).await.is_some());
    tokio::time::sleep(SECOND).await; // pace
    assert_eq!(opened(), [1, 1, 1]);
    assert!(read(world.fetcher.clone(), infos[0].clone(), 1).await.is_some(), "a part is fetched for itself");
    assert!(read(world.fetcher.clone(), infos[0].clone(), 0).await.is_some());
    let keys = [SecretKey::from_seed("b-1", [7; 32]).unwrap().public()].into_iter().collect();
    world.trusted_keys.set(keys);
    assert!(read(world.fetcher.clone(), infos[1].clone(), 0).await.is_some());
    assert_eq!(opened(), [2, 2, 1], "what came under other keys is fetched anew");
    let figures = || (world.metrics.read_ahead_used_bytes.get(), world.metrics.read_ahead_wasted_bytes.get());
    assert_eq!(figures(), (50_010 + 50_011, 0));
    tokio::time::sleep(KEEP).await; // pace
    assert_eq!(figures(), (50_010 + 50_011, 50_012));
    assert!(read(world.fetcher.clone(), infos[2].clone(), 0).await.is_some());
    assert_eq!(opened(), [2, 2, 2], "what nobody asked for is kept no longer");
}

#[tokio::test(start_paused = true)]
async fn what_fails_ahead_fails_nobody() {
    let (wrong, wrong_voice) = small(10, Script::at_once(&[Act::Corrupt(1000)]));
    let (slow, slow_voice) = small(11, Script::Answer(SECOND, vec![]));
    let world = World::among(1000, [], false, &[wrong_voice, Arc::clone(&slow_voice)]);
    for info in [&wrong, &slow] {
        assert!(world.fetcher.narinfo(info.path.hash()).await.is_some());
    }
    assert!(world.read(0).await.is_some());
    tokio::time::sleep(SECOND / 2).await; // pace
    // It comes: Nix waits for that, and nobody is asked a second time.
    let bytes = read(world.fetcher.clone(), slow.clone(), 0).await;
    assert_eq!(bytes.map(|bytes| bytes.len() as u64), Some(slow.nar_size));
    assert_eq!(slow_voice.source.record().opened, [0]);
    assert!(read(world.fetcher.clone(), wrong, 1000).await.is_none(), "it is known to be wrong");
    assert!(world.metrics.read_ahead_wasted_bytes.get() > 0);
}

#[tokio::test(start_paused = true)]
async fn when_memory_is_short_nothing_is_kept() {
    let (info, voice) = small(10, Script::at_once(&[]));
    let world = World::among(1000, [], false, &[voice]);
    assert!(world.fetcher.narinfo(info.path.hash()).await.is_some());
    assert!(world.read(0).await.is_some());
    tokio::time::sleep(SECOND).await; // pace
    let with_answers = world.fetcher.forget_answers().await;
    assert!(with_answers > info.nar_size, "{with_answers}");
    assert_eq!(world.metrics.read_ahead_wasted_bytes.get(), info.nar_size);
}
