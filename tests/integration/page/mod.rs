//! The page of the gateway in a real Chromium: it keeps itself up to date, nothing that a machine calls itself becomes code, it is usable
//! with a keyboard and without eyes, and fits a telephone. `target/page/` has it as pictures afterwards.

mod browser;

use crate::control::stub::{Stub, peer};
use crate::fetch::Client;
use crate::support::{Running, serve, skipped, until};
use browser::Browser;
use peernix::control::{Day, Peer, ServiceState, Transfer};
use peernix::http::gateway::Gateway;
use peernix::http::{Drain, Limits};
use peernix::metrics::Exposition;
use peernix::nix::StoreDir;
use peernix::web::Page;
use serde_json::json;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;

/// Where `scripts/setup` puts the rules that pages are held against.
const AXE: &str = "/usr/local/lib/peernix-tests/axe.min.js";
/// What a machine may call itself.
const EVIL: &str = "<img src=x onerror=window.wasHere=1>\u{202e}";
/// In microseconds.
const DAY: u64 = 24 * 60 * 60 * 1_000_000;

/// A gateway whose page is about this service.
async fn gateway(stub: &Arc<Stub>, stop: &CancellationToken) -> Running {
    let client = Client::of(Vec::new()).await;
    let gateway = Gateway {
        fetcher: client.fetcher,
        peers: client.peers,
        store_dir: StoreDir::default(),
        priority: 10,
        drain: Arc::new(Drain::default()),
        exposition: Arc::new(Exposition::new(&client.metrics, &[], SystemTime::now())),
        gauges: Box::new(Vec::new),
        pages: Arc::new(Page::new(stub.clone(), stop.clone())),
    };
    serve(gateway, Limits::gateway()).await
}

/// Many machines, one of which means harm, and a month of work.
fn busy(machines: usize) -> Arc<Stub> {
    let now = u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap();
    let states = ["online", "online", "online", "offline", "suspect", "blocked"];
    let one = |number: usize| Peer {
        throughput: Some(1 << (16 + number % 12)),
        latency_usec: Some(300 + 70 * number as u64),
        bytes_in: (number as u64) << 24,
        ..peer(&format!("{number:052}"), &format!("machine-{number}"), states[number % states.len()])
    };
    let mut peers: Vec<Peer> = (0..machines).map(one).collect();
    peers[0].name = EVIL.to_owned();
    let day = |back: u64| Day {
        day_timestamp: (now / DAY - back) * DAY,
        bytes_from_peers: (back * 7919 % 13) << 30,
        bytes_from_upstreams: (back * 104_729 % 5) << 29,
        lookups_peer: 900,
        lookups_upstream: 80,
        bytes_shared: 1 << 30,
        ..Day::default()
    };
    let transfer = |id: u64| Transfer {
        id,
        path: format!("/nix/store/0mdqa9w1p6cmli6976v4wi0sw9r4p5pr-package-{id}.{EVIL}"),
        size: 300 << 20,
        bytes: (id * 40) << 20,
        from: vec!["machine-1".to_owned(), EVIL.to_owned()],
        start_timestamp: now - 3_000_000,
        waiting: id == 3,
    };
    let stub = Stub {
        peers: peers.into(),
        history: (0..40).rev().map(day).collect(),
        transfers: (1..5).map(transfer).collect(),
        ..Stub::default()
    };
    Arc::new(stub)
}

#[tokio::test]
async fn a_browser_shows_what_is_and_what_changes() {
    let (stub, stop) = (busy(100), CancellationToken::new());
    let server = gateway(&stub, &stop).await;
    let Some(mut browser) = Browser::start().await else { return skipped("there is no chromedriver") };
    browser.open(&format!("http://{}/", server.address)).await;
    let heading = browser.run("return document.querySelector('h1').textContent", json!([])).await;
    assert_eq!(heading, "Peernix");
    // It is told what changes.
    let connected =
        async || browser.run("return document.getElementById('live').textContent", json!([])).await == "live";
    until("the page is live", connected).await;
    {
        let mut status = stub.status.lock();
        (status.state, status.offline) = (ServiceState::Draining, true);
        status.problems = vec!["The moon is full.".to_owned()];
        status.problem_codes = vec!["moon-full".to_owned()];
    }
    let health = "return document.getElementById('health').textContent";
    let told =
        async || browser.run(health, json!([])).await.as_str().is_some_and(|text| text.contains("The moon is full"));
    until("the page tells what changed", told).await;
    // What machines call themselves is text, and nothing of it was run or fetched.
    let script =
        "return [typeof window.wasHere, document.images.length, document.body.textContent.includes(arguments[0])]";
    assert_eq!(browser.run(script, json!([EVIL.replace('\u{202e}', "\u{fffd}")])).await, json!(["undefined", 0, true]));
    // All of it is small, and comes from here.
    let script = "return performance.getEntriesByType('resource').concat(performance.getEntriesByType('navigation')).filter(e => !e.name.endsWith('/events')).map(e => [e.name, e.transferSize])";
    let resources = browser.run(script, json!([])).await;
    let resources = resources.as_array().unwrap();
    assert!(resources.iter().all(|one| one[0].as_str().unwrap().starts_with(&format!("http://{}/", server.address))));
    let size: u64 = resources.iter().map(|one| one[1].as_u64().unwrap()).sum();
    assert!(resources.len() == 3 && (1000..60_000).contains(&size), "{resources:?}");
    // The browser has nothing to say against it: no rule of the policy was hit.
    assert_eq!(browser.complaints().await, Vec::<String>::new());
    stop.cancel();
    browser.end().await;
    server.end().await;
}

#[tokio::test]
async fn it_is_for_everybody() {
    let stop = CancellationToken::new();
    let crowd = gateway(&busy(100), &stop).await;
    let pair = gateway(&busy(1), &stop).await;
    let Ok(axe) = std::fs::read_to_string(AXE) else { return skipped(&format!("there is no {AXE}")) };
    let Some(mut browser) = Browser::start().await else { return skipped("there is no chromedriver") };
    let pictures = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/page");
    std::fs::create_dir_all(&pictures).unwrap();
    for (name, server) in [("crowd", &crowd), ("pair", &pair)] {
        for (width, scheme) in [(360, "light"), (1280, "light"), (360, "dark"), (1280, "dark")] {
            browser.looks(width, scheme).await;
            browser.open(&format!("http://{}/", server.address)).await;
            let what = format!("{name}-{width}-{scheme}");
            browser.picture(&pictures.join(format!("{what}.png"))).await;
            let overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(browser.run(overflow, json!([])).await, 0, "{what}: it is wider than the screen");
            browser.run(&axe, json!([])).await;
            let judged = "const done = arguments[0]; axe.run().then(r => done(r.violations.map(v => [v.id, v.nodes.map(n => n.html)])), e => done(String(e)))";
            assert_eq!(browser.run_async(judged).await, json!([]), "{what}");
        }
    }
    // The first thing that Tab comes to leads past the heading, and can be seen.
    browser.tab().await;
    let focused =
        "const it = document.activeElement; return [it.getAttribute('href'), it.getBoundingClientRect().left >= 0]";
    assert_eq!(browser.run(focused, json!([])).await, json!(["#health", true]));
    browser.end().await;
    stop.cancel();
    crowd.end().await;
    pair.end().await;
}
