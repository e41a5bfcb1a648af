//! Where an upstream may lead, by a redirection or by the URL in its narinfo.

use super::{Client, whole};
use crate::support::internet::Sample;
use crate::support::odd_cache::{Entry, OddCache, Reply};
use peernix::nix::Compression;
use std::time::Duration;

/// A cache that has only the file of `sample`, at `/elsewhere/x`.
async fn store(sample: &Sample) -> OddCache {
    let file = Entry::new(sample, &Compression::Xz).file;
    OddCache::start(move |asked| match asked.path.as_str() {
        "/elsewhere/x" | "/elsewhere/x?y=1&z=%2F" => Reply::ok("", &file),
        _ => Reply::status(404, ""),
    })
    .await
}

#[tokio::test]
async fn an_upstream_inside_the_network_redirects_inside_the_network() {
    let sample = Sample::new(1, 1000);
    let store = store(&sample).await;
    let port = store.address.port();
    for target in [
        format!("http://127.0.0.1:{port}/elsewhere/x"),
        format!("http://localhost:{port}/elsewhere/x"),
        format!("//localhost:{port}/elsewhere/x"),
        format!("http://127.0.0.1:{port}/elsewhere/x?y=1&z=%2F"),
    ] {
        let headers = format!("Location: {target}\r\n");
        let cache = OddCache::with(Entry::new(&sample, &Compression::Xz), Duration::ZERO, move |_, _| {
            Reply::status(307, &headers)
        });
        let client = Client::of(vec![cache.await.url()]).await;
        assert!(client.fetcher.narinfo(sample.hash()).await.is_some());
        assert!(whole(client.nar(&sample, 0).await).await == sample.nar, "{target}");
    }
}

#[tokio::test]
async fn relative_redirections_are_resolved_as_the_standard_says() {
    let sample = Sample::new(1, 1000);
    for (target, path) in [
        ("x.nar", "/a/b/nar/x.nar"),
        ("./x.nar", "/a/b/nar/x.nar"),
        ("../x.nar", "/a/b/x.nar"),
        ("../../../../x.nar", "/x.nar"),
        ("?token=1", "/a/b/nar/1?token=1"),
        ("/x.nar", "/x.nar"),
        ("x.nar#top", "/a/b/nar/x.nar"),
    ] {
        let entry = Entry::changed(&sample, &Compression::Xz, |narinfo| narinfo.url = "nar/1".to_owned());
        let cache = OddCache::start(move |asked| match asked.path.as_str() {
            path if path.ends_with(".narinfo") => Reply::ok("", entry.narinfo.as_bytes()),
            "/a/b/nar/1" => Reply::status(302, &format!("Location: {target}\r\n")),
            asked if asked == path => Reply::ok("", &entry.file),
            _ => Reply::status(404, ""),
        })
        .await;
        let client = Client::of(vec![format!("http://{}/a/b", cache.address).parse().unwrap()]).await;
        assert!(whole(client.nar(&sample, 0).await).await == sample.nar, "{target}");
    }
}

#[tokio::test]
async fn the_url_of_a_nar_may_lead_where_a_redirection_may_lead() {
    let sample = Sample::new(1, 1000);
    let store = store(&sample).await;
    for url in [format!("http://{}/elsewhere/x", store.address), format!("//{}/elsewhere/x", store.address)] {
        let entry = Entry::changed(&sample, &Compression::Xz, |narinfo| narinfo.url.clone_from(&url));
        let cache = OddCache::with(entry, Duration::ZERO, |_, _| Reply::status(404, "")).await;
        let client = Client::of(vec![cache.url()]).await;
        assert!(client.fetcher.narinfo(sample.hash()).await.is_some(), "{url}");
        assert!(whole(client.nar(&sample, 0).await).await == sample.nar, "{url}");
    }
    for url in
        ["http://169.254.169.254/latest", "http://0.0.0.0/x", "file:///etc/passwd", "ftp://127.0.0.1/x", "s3://x/y"]
    {
        let entry = Entry::changed(&sample, &Compression::Xz, |narinfo| narinfo.url = url.to_owned());
        let cache = OddCache::with(entry, Duration::ZERO, |_, _| Reply::status(404, "")).await;
        let client = Client::of(vec![cache.url()]).await;
        assert!(client.fetcher.narinfo(sample.hash()).await.is_none(), "{url} is not promised");
    }
}

#[tokio::test]
async fn an_upstream_that_leads_round_in_circles_is_left() {
    let sample = Sample::new(1, 1000);
    let entry = Entry::new(&sample, &Compression::Xz);
    let cache =
        OddCache::with(entry, Duration::ZERO, |asked, _| Reply::status(302, &format!("Location: {}\r\n", asked.path)))
            .await;
    let client = Client::of(vec![cache.url()]).await;
    assert!(client.nar(&sample, 0).await.is_none());
    assert!(cache.asked("/nar/").len() <= 12, "{:?}", cache.asked("/nar/").len());
}
