//! What an upstream may vouch for, what is taken from it, and when it is asked.

use super::cache::Cache;
use super::{fetch, start};
use crate::support::internet::{Sample, key};
use peernix::nix::SecretKey;

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_vouches_by_its_own_keys_alone() {
    let cache = Cache::plain().await;
    let other = SecretKey::from_seed("other-1", [7; 32]).unwrap();
    let (by_key, by_other) = (Sample::new(1, 1000), Sample::new(2, 1000));
    cache.publish(&by_key, &[&key()]);
    cache.publish(&by_other, &[&other]);
    let empty = tempfile::tempdir().unwrap();
    let with = |key: &SecretKey| format!("{{ url = \"{}\", public_keys = [\"{}\"] }}", cache.url(), key.public());
    let service = start(&with(&key()), empty.path());
    assert!(fetch(&service, &by_key).await, "{}", service.log());
    drop(service);
    // Another key: it does not count from here, nor what it signed, as nobody trusts it.
    let service = start(&with(&other), empty.path());
    assert!(!fetch(&service, &by_key).await && !fetch(&service, &by_other).await);
    let log = service.log();
    assert!(log.contains("is one of public_keys of the upstream") && log.contains("and is not trusted"), "{log}");
    let refused: Vec<_> = log.lines().filter(|line| line.contains("what an upstream has is not usable")).collect();
    let at_info = refused.iter().filter(|line| !line.to_ascii_lowercase().contains("debug")).count();
    assert_eq!((refused.len(), at_info), (2, 1), "once, not for each path: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_that_are_not_wanted_are_misses() {
    let cache = Cache::plain().await;
    // They are called sample-1, sample-2 and sample-3.
    let samples = [1, 2, 3].map(|number| Sample::new(number, 1000));
    samples.iter().for_each(|sample| cache.publish(sample, &[&key()]));
    let empty = tempfile::tempdir().unwrap();
    let upstream = format!("{{ url = \"{}\", allow = [\"sample-1\", \"*-2\"], deny = [\"sample-2*\"] }}", cache.url());
    let service = start(&upstream, empty.path());
    assert!(fetch(&service, &samples[0]).await, "{}", service.log());
    assert!(!fetch(&service, &samples[1]).await && !fetch(&service, &samples[2]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_higher_tier_is_asked_for_what_the_lower_does_not_have() {
    let (near, far) = (Cache::plain().await, Cache::plain().await);
    let (in_both, far_only) = (Sample::new(1, 1000), Sample::new(2, 1000));
    near.publish(&in_both, &[&key()]);
    far.publish(&in_both, &[&key()]);
    far.publish(&far_only, &[&key()]);
    let empty = tempfile::tempdir().unwrap();
    // The order in the file is another one.
    let upstreams = format!("{{ url = \"{}\", tier = 2 }}, \"{}\"", far.url(), near.url());
    let service = start(&upstreams, empty.path());
    assert!(fetch(&service, &in_both).await, "{}", service.log());
    assert!(far.asked().is_empty(), "{:?}", far.asked());
    assert!(fetch(&service, &far_only).await, "{}", service.log());
    assert!(near.asked().iter().any(|asked| asked.path.contains(&far_only.hash().to_string())));
}
