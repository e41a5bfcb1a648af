//! The page of a service that tells made-up things, some of them by machines that mean harm.

use super::overview::Overview;
use super::sections::Sections;
use super::{Page, page, text};
use crate::control::Peer;
use crate::control::stub::Stub;
use crate::http::{Asked, PagePart, Pages as _};
use http_body_util::BodyExt as _;
use hyper::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What a machine may call itself.
const EVIL: &str = "</title><script>alert(1)</script><img src=x onerror=alert(1)>\u{202e}";

fn crowded() -> Stub {
    let stub = Stub::default();
    let one: Peer = stub.peers.lock()[0].clone();
    let peer = |number: usize| Peer { id: format!("{number:052}"), name: format!("machine-{number}"), ..one.clone() };
    let mut peers: Vec<Peer> = (0..100).map(peer).collect();
    peers[0].name = EVIL.to_owned();
    peers[1].state = EVIL.to_owned();
    Stub { peers: peers.into(), ..stub }
}

async fn html(stub: Stub) -> String {
    let page = Page::new(Arc::new(stub), CancellationToken::new());
    let answer = page.answer(Asked::Page("127.0.0.1:7649")).await;
    assert!(answer.headers()[CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
    let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn what_machines_call_themselves_is_text() {
    let page = html(crowded()).await;
    assert!(!page.contains("<script>alert") && !page.contains("<img") && !page.contains('\u{202e}'), "{page}");
    assert!(page.contains("&lt;/title&gt;&lt;script&gt;"), "it is shown as it is: {page}");
    // Nothing that the policy forbids: neither code nor style in the page, nor anything from elsewhere.
    assert!(!page.contains(" style=") && !page.contains(" onclick") && !page.contains("https://"), "{page}");
}

#[tokio::test]
async fn a_crowd_has_room_and_the_whole_is_small() {
    let page = html(crowded()).await;
    assert!(page.contains("and 86 others") && page.contains("and 60 others"), "{page}");
    let whole = page.len() + include_str!("page.css").len() + include_str!("page.js").len();
    assert!(whole < 60_000, "{whole} bytes");
}

#[tokio::test]
async fn what_is_missing_is_told_with_its_code() {
    let page = html(Stub::default()).await;
    assert!(page.contains("peernixctl explain "), "{page}");
}

#[tokio::test]
async fn only_what_changed_is_told() {
    let stub = Stub::default();
    let overview = Overview::of(&stub).await.unwrap();
    let (before, mut moved) = (Sections::of(&overview), Overview { now: overview.now, ..overview });
    assert_eq!(Sections::of(&moved).since(&before), None);
    moved.transfers[0].bytes += 1000;
    let changed = Sections::of(&moved).since(&before).unwrap();
    assert_eq!(changed.as_object().unwrap().keys().collect::<Vec<_>>(), ["moving"]);
    let nothing = Sections::default();
    assert_eq!(before.since(&nothing).unwrap().as_object().unwrap().len(), 5);
    assert!(page::whole(&before, "h").contains(r#"<div id="moving">"#));
    assert!(text::whole(&moved, "127.0.0.1:7649").contains("extra-substituters = http://127.0.0.1:7649\n"));
}

#[tokio::test]
async fn whoever_listens_is_told_until_the_service_stops() {
    let stop = CancellationToken::new();
    let page = Page::new(Arc::new(Stub::default()), stop.clone());
    let mut events = page.answer(Asked::Part(PagePart::Events)).await.into_body();
    let first = events.frame().await.unwrap().unwrap().into_data().unwrap();
    let first = std::str::from_utf8(&first).unwrap();
    let told = first.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
    let told: serde_json::Value = serde_json::from_str(told).unwrap();
    assert_eq!(told.as_object().unwrap().len(), 5);
    stop.cancel();
    assert!(events.frame().await.is_none());
}

#[tokio::test]
async fn browsers_have_a_bound() {
    let page = Page::new(Arc::new(Stub::default()), CancellationToken::new());
    let mut open = Vec::new();
    for _ in 0..super::READERS_MAX {
        open.push(page.answer(Asked::Part(PagePart::Events)).await);
    }
    let one_more = page.answer(Asked::Part(PagePart::Events)).await;
    assert_eq!((open[0].status().as_u16(), one_more.status().as_u16()), (200, 204));
}
