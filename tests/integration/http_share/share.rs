//! Every route of the share, over a store that the real Nix made.

use crate::support::client::{Answer, Client};
use crate::support::nix::{BUILD_ID, HUGE, NixStore};
use crate::support::peers::{no_index, online};
use crate::support::{Running, allow_many_files, serve, serve_with};
use peernix::http::Limits;
use peernix::nix::{Compression, NarInfo, TrustedKeys};
use peernix::peers::link::Acceptor;
use peernix::peers::{Admission, Discovery, NodeKey, Peers, PeersOptions};
use peernix::resilience::Versioned;
use peernix::store::SharePolicyMode;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::sync::Barrier;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

async fn plain(store: &NixStore) -> (Running, Client) {
    let share = store.share(SharePolicyMode::Signed, 0).await;
    let server = serve(share.plain(), Limits::share()).await;
    let client = Client::connect(server.address).await;
    (server, client)
}

/// The URL of a NAR as the narinfo gives it.
pub(super) fn nar_url(store: &NixStore, name: &str) -> String {
    format!("/nar/{}-{}.nar", store.paths[name].hash(), store.nar_hash(name).to_nix32())
}

/// All of an answer but the time it was given.
fn without_date(mut answer: Answer) -> Answer {
    answer.headers.retain(|(name, _)| name != "date");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn narinfos() {
    let store = NixStore::shared();
    let (server, mut client) = plain(&store).await;
    for name in ["dep", "app", "addressed"] {
        let path = format!("/{}.narinfo", store.paths[name].hash());
        let answer = client.get(&path).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/x-nix-narinfo")), "{name}");
        assert_eq!(answer.header("content-encoding"), None);
        let narinfo = NarInfo::parse(answer.text(), &store.dir()).unwrap();
        assert_eq!(narinfo.info.path, store.paths[name]);
        assert_eq!(narinfo.info.nar_hash, store.nar_hash(name));
        assert_eq!(narinfo.info.nar_size, store.dump(name).len() as u64);
        assert_eq!((narinfo.url.as_str(), &narinfo.compression), (&nar_url(&store, name)[1..], &Compression::None));
        assert_eq!(narinfo.info.deriver, Some(store.deriver(name)));
        let trusted: TrustedKeys = [store.key.clone()].into_iter().collect();
        assert_eq!(trusted.voucher(&narinfo.info, &store.dir()), Some(&store.key), "the original signature");
        // From what was put together before, under the prefix, and without a body.
        assert_eq!(client.get(&path).await.body, answer.body);
        assert_eq!(client.get(&format!("/nix-cache{path}")).await.body, answer.body);
        let head = client.request("HEAD", &path, "").await;
        assert_eq!((head.status, head.header("content-length")), (200, answer.header("content-length")));
    }
    let app = NarInfo::parse(client.get(&format!("/{}.narinfo", store.paths["app"].hash())).await.text(), &store.dir());
    let mut references = vec![store.paths["app"].clone(), store.paths["dep"].clone()];
    references.sort();
    assert_eq!(app.unwrap().info.references, references);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_shared_is_not_there() {
    let store = NixStore::shared();
    let (server, mut client) = plain(&store).await;
    let absent = without_date(client.get("/00000000000000000000000000000000.narinfo").await);
    assert_eq!((absent.status, absent.header("cache-control")), (404, Some("no-store")));
    for name in ["unsigned", "stranger", "denied"] {
        let (hash, drv) = (store.paths[name].hash(), store.deriver(name));
        for path in [
            format!("/{hash}.narinfo"),
            format!("/{hash}.ls"),
            nar_url(&store, name),
            format!("/nar/{hash}.nar"),
            format!("/log/{drv}"),
            format!("/log/{}", store.paths[name]),
            format!("/{}.narinfo", drv.hash()),
        ] {
            assert_eq!(without_date(client.get(&path).await), absent, "{path} of {name}");
        }
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nars() {
    let store = NixStore::shared();
    let (server, mut client) = plain(&store).await;
    for name in ["dep", "app"] {
        let (bytes, hash, nar_hash) = (store.dump(name), store.paths[name].hash(), store.nar_hash(name).to_nix32());
        let url = nar_url(&store, name);
        for url in [
            url.clone(),
            format!("/nix-cache{url}"),
            format!("/nar/{hash}.nar"),
            format!("/nar/{nar_hash}.nar?hash={hash}"),
        ] {
            let answer = client.get(&url).await;
            assert_eq!((answer.status, answer.whole), (200, true), "{url}");
            assert!(answer.body == bytes, "{url} has the bytes of nix-store --dump");
            assert_eq!(answer.header("accept-ranges"), Some("bytes"));
            assert_eq!(answer.header("content-length"), Some(bytes.len().to_string().as_str()));
            assert_eq!((answer.header("content-encoding"), answer.header("transfer-encoding")), (None, None));
            let head = client.request("HEAD", &url, "").await;
            assert_eq!((head.status, head.header("content-length")), (200, answer.header("content-length")));
        }
    }
    // Another content of the same path, the path of another content, and what is never stored.
    let other = store.nar_hash("dep").to_nix32();
    for url in [
        format!("/nar/{}-{other}.nar", store.paths["app"].hash()),
        format!("/nar/{other}.nar?hash={}", store.paths["app"].hash()),
        format!("{}.xz", nar_url(&store, "app")),
    ] {
        assert_eq!(client.get(&url).await.status, 404, "{url}");
    }
    assert_eq!(server.end().await.broken.get(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges() {
    let store = NixStore::shared();
    let (server, mut client) = plain(&store).await;
    let (bytes, url) = (store.dump("app"), nar_url(&store, "app"));
    let size = bytes.len();
    for (range, part) in [
        ("bytes=0-0".to_owned(), 0..1),
        (format!("bytes={}-", size - 1), size - 1..size),
        (format!("bytes={}-{}", size - 1, size + 5), size - 1..size),
        ("bytes=-1".to_owned(), size - 1..size),
        (format!("bytes=-{}", size + 1), 0..size),
        ("bytes=0-".to_owned(), 0..size),
        ("bytes=1000000-2000000".to_owned(), 1_000_000..2_000_001),
        (format!("bytes={}-", size / 2), size / 2..size),
    ] {
        let answer = client.request("GET", &url, &format!("Range: {range}\r\n")).await;
        assert_eq!((answer.status, answer.whole), (206, true), "{range}");
        let said = format!("bytes {}-{}/{size}", part.start, part.end - 1);
        assert_eq!(answer.header("content-range"), Some(said.as_str()));
        assert!(answer.body == bytes[part], "{range}");
    }
    let beyond = client.request("GET", &url, &format!("Range: bytes={size}-\r\n")).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some(format!("bytes */{size}").as_str())));
    let etag = format!("\"{}\"", store.nar_hash("app").to_nix32());
    for headers in ["Range: bytes=0-1,5-6\r\n", "Range: lines=0-1\r\n", "Range: bytes=0-1\r\nIf-Range: \"x\"\r\n"] {
        let answer = client.request("GET", &url, headers).await;
        assert_eq!((answer.status, answer.body.len()), (200, size), "{headers}");
        assert_eq!(answer.header("etag"), Some(etag.as_str()));
    }
    let same = client.request("GET", &url, &format!("Range: bytes=0-1\r\nIf-Range: {etag}\r\n")).await;
    assert_eq!((same.status, same.body.len()), (206, 2));
    assert_eq!(client.request("GET", &url, &format!("If-None-Match: {etag}\r\n")).await.status, 304);
    assert_eq!(client.request("HEAD", &url, "Range: bytes=0-1\r\n").await.status, 200);
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn listings_logs_and_records() {
    let store = NixStore::shared();
    let (server, mut client) = plain(&store).await;
    let listing = client.get(&format!("/{}.ls", store.paths["dep"].hash())).await;
    assert_eq!((listing.status, listing.header("content-type"), listing.whole), (200, Some("application/json"), true));
    let json: serde_json::Value = serde_json::from_slice(&listing.body).unwrap();
    let file = &json["root"]["entries"]["file"];
    let offset = usize::try_from(file["narOffset"].as_u64().unwrap()).unwrap();
    assert_eq!(&store.dump("dep")[offset..offset + 4], b"dep\n", "the offset is right");
    assert_eq!(json["root"]["entries"]["link"]["target"], "file");

    let log = client.get(&format!("/log/{}", store.deriver("dep"))).await;
    assert_eq!((log.status, log.text()), (200, "built dep\n"));
    assert_eq!(client.request("HEAD", &format!("/log/{}", store.deriver("dep")), "").await.status, 200);

    let found = client.get(&format!("/debuginfo/{BUILD_ID}")).await;
    let json: serde_json::Value = serde_json::from_slice(&found.body).unwrap();
    assert_eq!(json["member"], format!("lib/debug/.build-id/01/{}.debug", &BUILD_ID[2..]));
    // Relative to the URL of the record itself.
    let archive = json["archive"].as_str().unwrap().strip_prefix("..").unwrap().to_owned();
    assert!(client.get(&archive).await.body == store.dump("debug"));
    assert_eq!(client.get(&format!("/debuginfo/{BUILD_ID}.debug")).await.body, found.body);
    assert_eq!(client.get(&format!("/debuginfo/{}", BUILD_ID.replace('0', "f"))).await.status, 404);

    // Whatever Nix calls it when it copies the path to a cache of files.
    for (name, status) in [("addressed", 200), ("untraced", 404)] {
        let cache = store.root().join("files");
        let (expression, to) = (store.root().join("default.nix"), format!("file://{}", cache.display()));
        store.run("nix", &["copy", "--impure", "-f", expression.to_str().unwrap(), name, "--to", &to]);
        let files: Vec<_> =
            fs::read_dir(cache.join("realisations")).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [file] = files.as_slice() else { panic!("one realisation: {files:?}") };
        let url = format!("/realisations/{}", file.file_name().unwrap().to_str().unwrap());
        let answer = client.get(&url).await;
        assert_eq!(answer.status, status, "{name}: one that nobody signed is told to nobody");
        if status == 200 {
            assert_eq!(answer.text(), fs::read_to_string(file).unwrap(), "as Nix writes it");
        }
        assert_eq!(client.get(&format!("/{}.narinfo", store.paths[name].hash())).await.status, 200);
        fs::remove_dir_all(cache).unwrap();
    }
    let drv = store.deriver("addressed");
    assert_eq!(client.get(&format!("/build-trace-v2/{drv}/out.doi")).await.status, 404, "Nix 2.8 has no such table");
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_says_of_itself() {
    let store = NixStore::shared();
    let (server, mut client) = plain(&store).await;
    let info = client.get("/nix-cache-info").await;
    assert_eq!(info.text(), format!("StoreDir: {}\nWantMassQuery: 1\nPriority: 30\n", store.dir()));
    assert_eq!(client.get("/nix-cache/nix-cache-info").await.body, info.body);
    assert_eq!(client.get("/version").await.text(), concat!("peernix ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(client.get("/health").await.text(), r#"{"state":"ready"}"#);
    assert!(client.get("/").await.text().contains("extra-substituters = http://"));
    let page = client.request("GET", "/", "Accept: text/html,*/*\r\n").await;
    assert!(
        page.text().contains("<pre>extra-substituters = http://") && page.header("content-security-policy").is_some()
    );
    assert!(
        page.text().contains("<code>cache.example.org-1:") || page.text().contains("<li><code>"),
        "{}",
        page.text()
    );
    for path in ["/metrics", "/peers", "/peernix/v1/hello"] {
        assert_eq!(client.get(path).await.status, 404, "{path} is not for anyone");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_there() {
    let store = NixStore::shared();
    let options = peernix::store::StoreOptions { root: store.root().join("nowhere"), ..Default::default() };
    let options = peernix::http::ShareOptions {
        store: peernix::store::Store::open(options).await.unwrap(),
        policy: Versioned::new(peernix::store::SharePolicy::new(Default::default(), Default::default()).unwrap()),
        signing: Versioned::default(),
        upload_limit: 0,
        limits: Limits::share(),
        compression: Default::default(),
    };
    let server = serve(peernix::http::Share::new(options).plain(), Limits::share()).await;
    let mut client = Client::connect(server.address).await;
    assert_eq!(client.get("/health").await.text(), r#"{"state":"no store"}"#);
    let hash = store.paths["dep"].hash();
    for path in [format!("/{hash}.narinfo"), format!("/{hash}.ls"), nar_url(&store, "dep")] {
        assert_eq!(client.get(&path).await.status, 404, "{path}");
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_the_store() {
    let store = NixStore::make();
    let (server, mut client) = plain(&store).await;
    let path = format!("/{}.narinfo", store.paths["unsigned"].hash());
    assert_eq!(client.get(&path).await.status, 404);
    store.sign("counts", &["unsigned"]);
    assert_eq!(client.get(&path).await.status, 200, "at once");
    let nar = nar_url(&store, "unsigned");
    assert_eq!(client.get(&nar).await.status, 200);
    store.run("nix-store", &["--delete", &store.full("unsigned")]);
    assert_eq!(client.get(&nar).await.status, 404, "at once");
    let start = Instant::now();
    while client.get(&path).await.status != 404 {
        assert!(start.elapsed() < Duration::from_secs(10), "it is forgotten after two seconds");
        tokio::task::yield_now().await;
    }
    server.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_cuts_the_answer() {
    let store = NixStore::make();
    let (server, _) = plain(&store).await;
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(server.address).await.unwrap();
    let request = format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", nar_url(&store, "huge"));
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.readable().await.unwrap();
    // The answer is on its way, and most of it still on our side: it does not fit into the sockets.
    let huge = store.full("huge");
    store.run("chmod", &["u+w", &huge]);
    fs::File::options().write(true).open(huge).unwrap().set_len(HUGE - 1).unwrap();
    let mut client = Client::new(stream);
    let answer = client.answer(false).await.unwrap();
    assert_eq!((answer.status, answer.whole), (200, false));
    assert!(!answer.body.is_empty(), "what was there before is not lost");
    assert_eq!(server.end().await.broken.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_upload_limit_holds() {
    const LIMIT: u64 = 4_000_000;
    let store = NixStore::shared();
    let share = store.share(SharePolicyMode::Signed, LIMIT).await;
    let server = serve(share.plain(), Limits::share()).await;
    let (url, bytes) = (nar_url(&store, "app"), store.dump("app"));
    let start = Instant::now();
    let mut readers = JoinSet::new();
    for _ in 0..2 {
        let (url, address) = (url.clone(), server.address);
        readers.spawn(async move { Client::connect(address).await.get(&url).await.body });
    }
    for body in readers.join_all().await {
        assert!(body == bytes);
    }
    // Twice three megabytes at four a second, less the tenth of a second that is free at the beginning.
    assert!(start.elapsed() >= Duration::from_millis(1300), "{:?}", start.elapsed());
    server.end().await;
}

/// A machine that takes part: its peers, and its share if it has a store.
pub(super) async fn peers(seed: u8, share_port: u16, fixed: &str, admission: &Admission) -> Peers {
    let fixed = if fixed.is_empty() { vec![] } else { vec![fixed.parse().unwrap()] };
    let options = PeersOptions {
        name: format!("machine-{seed}"),
        share_port,
        admission: admission.clone(),
        discovery: Discovery { mdns: None, fixed },
        ..PeersOptions::default()
    };
    Peers::start(options, &NodeKey::from_seed([seed; 32]), &CancellationToken::new()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_greeted_and_served_by_their_standing() {
    let store = NixStore::shared();
    let nodes = [1, 2].map(|seed| NodeKey::from_seed([seed; 32]).id());
    for (admission, own) in [(Admission::Open, 404), (Admission::Static(nodes.into()), 200)] {
        let share = store.share(SharePolicyMode::SignedAndOwn, 0).await;
        // The port is known only once it listens, and announced only by who knows it: here it is dialled.
        let ours = peers(1, 1, "", &admission).await;
        let acceptor = Acceptor::new(&NodeKey::from_seed([1; 32]), admission.clone()).unwrap();
        let face = share.towards_peers(ours.clone(), no_index(&ours), admission.clone());
        let server = serve_with(face, Limits::share(), Some(acceptor), "127.0.0.1:0").await;
        let theirs = peers(2, 0, &server.address.to_string(), &admission).await;
        let peer = online(&theirs, nodes[0]).await;
        let status = |path: String| {
            let peer = Arc::clone(&peer);
            async move {
                let answer = peer.get(&path, None).await.unwrap();
                let status = answer.status().as_u16();
                let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
                (status, body)
            }
        };
        let (found, bytes) = status(nar_url(&store, "app")).await;
        assert!(found == 200 && bytes == store.dump("app"));
        assert_eq!(status(format!("/{}.narinfo", store.paths["unsigned"].hash())).await.0, own, "{admission:?}");
        assert_eq!(status(format!("/{}.narinfo", store.paths["denied"].hash())).await.0, 404);
        assert_eq!(status("/metrics".to_owned()).await.0, 404);
        theirs.shutdown().await;
        ours.shutdown().await;
        server.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_at_once() {
    const CLIENTS: usize = 1000;
    allow_many_files();
    let store = NixStore::shared();
    let (server, _) = plain(&store).await;
    let (narinfo, nar) = (format!("/{}.narinfo", store.paths["dep"].hash()), nar_url(&store, "dep"));
    // All are connected before the first one asks, and nobody goes before all were answered.
    let together = Arc::new(Barrier::new(CLIENTS));
    let mut clients = JoinSet::new();
    for number in 0..CLIENTS {
        let (narinfo, nar, together, address) = (narinfo.clone(), nar.clone(), Arc::clone(&together), server.address);
        clients.spawn(async move {
            let mut client = Client::connect_from(u8::try_from(number % 10 + 1).unwrap(), address).await;
            together.wait().await;
            let mut found = client.get(&narinfo).await.status;
            // While another test's Nix holds the database, as the thousand leave it no processor: Nix asks again as well.
            for _ in 0..3 {
                if found == 503 {
                    found = client.get(&narinfo).await.status;
                }
            }
            let answer = client.get(&nar).await;
            together.wait().await;
            (found, answer.status, answer.body)
        });
    }
    let bytes = store.dump("dep");
    for answers in clients.join_all().await {
        let (narinfo, nar, body) = answers;
        assert_eq!((narinfo, nar, body.len()), (200, 200, bytes.len()));
        assert!(body == bytes);
    }
    let metrics = server.end().await;
    assert_eq!((metrics.refused.get(), metrics.panics.get(), metrics.broken.get()), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn transfers_wait_for_their_turn() {
    let store = NixStore::shared();
    let limits = Limits { transfers: 1, transfers_per_address: 1, ..Limits::share() };
    let share = store.share_with(SharePolicyMode::Signed, 0, limits.clone()).await;
    let server = serve(share.plain(), limits).await;
    let mut first = Client::connect(server.address).await;
    first.send(format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", nar_url(&store, "huge"))).await;
    first.stream.readable().await.unwrap();
    let mut second = Client::connect(server.address).await;
    assert_eq!(second.get(&format!("/{}.narinfo", store.paths["app"].hash())).await.status, 200, "that is no transfer");
    second.send(format!("GET {} HTTP/1.1\r\nHost: a\r\n\r\n", nar_url(&store, "app"))).await;
    assert!(timeout(Duration::from_millis(300), second.answer(false)).await.is_err(), "it waits");
    drop(first);
    let answer = second.answer(false).await.unwrap();
    assert!(answer.status == 200 && answer.body == store.dump("app"));
    server.end().await;
}
