//! Keys that sign, and keys that are trusted.

use super::Round;
use peernix::control::{ErrorKind, EventKind, KeyState, Managed, TrustOrigin};
use std::time::Duration;

pub(super) async fn checks(round: &mut Round<'_>) {
    rotation(round).await;
    trust(round).await;
}

async fn rotation(round: &mut Round<'_>) {
    let control = round.control;
    let mut listener = round.listen().await;
    let before = control.keys().await.unwrap();
    let active: Vec<_> = before.iter().filter(|key| key.state == KeyState::Active).collect();
    let [active] = active[..] else { panic!("{before:?}") };
    assert_eq!((active.managed, active.algorithm.as_str()), (Managed::State, "ed25519"));
    assert!(active.name.starts_with("conform-") && active.public_key.starts_with(&active.name));
    assert!(active.created_timestamp.is_some() && active.expires_timestamp.is_none());
    assert_eq!(control.status().await.unwrap().active_key.as_ref(), Some(&active.fingerprint));
    round.refuses_this(ErrorKind::KeyInUse, control.revoke_key(&active.fingerprint, "").await);
    round.refuses(ErrorKind::NoSuchKey, control.revoke_key("nonsense", "").await);
    round.refuses(ErrorKind::NoSuchKey, control.revoke_key("", "").await);
    round.refuses(ErrorKind::InvalidArgument, control.revoke_key("nonsense", "a\nb").await);
    round.refuses(ErrorKind::InvalidArgument, control.rotate_key(Some(Duration::from_secs(1 << 40))).await);
    assert_eq!(control.keys().await.unwrap(), before, "nothing has changed yet");

    let rotation = control.rotate_key(Some(Duration::from_secs(3600))).await.unwrap();
    let (old, new) = (rotation.old.unwrap(), rotation.new);
    assert_eq!(
        (old.fingerprint.as_str(), old.state, new.state),
        (active.fingerprint.as_str(), KeyState::Grace, KeyState::Active)
    );
    let grace = old.expires_timestamp.unwrap() - new.created_timestamp.unwrap();
    assert!((3_590_000_000..=3_610_000_000).contains(&grace), "{grace}");
    assert_ne!((&old.name, &old.public_key), (&new.name, &new.public_key));
    let event = listener.hears(EventKind::KeyRotated, |_| true).await;
    assert_eq!((event.from.as_ref(), event.to.as_ref()), (Some(&old.fingerprint), Some(&new.fingerprint)));
    assert_eq!(event.name.as_ref(), Some(&new.name));
    let keys = control.keys().await.unwrap();
    assert!(keys.contains(&old) && keys.contains(&new) && keys.len() == before.len() + 1);
    assert_eq!(control.status().await.unwrap().active_key, Some(new.fingerprint));

    assert!(control.revoke_key(&old.fingerprint, "lost").await.unwrap());
    assert!(!control.revoke_key(&old.name, "lost").await.unwrap());
    let event = listener.hears(EventKind::KeyRevoked, |_| true).await;
    assert_eq!((event.from.as_deref(), event.message.as_deref()), (Some(old.fingerprint.as_str()), Some("lost")));
    let keys = control.keys().await.unwrap();
    assert!(keys.iter().any(|key| key.fingerprint == old.fingerprint && key.state == KeyState::Revoked));
}

async fn trust(round: &mut Round<'_>) {
    let control = round.control;
    for nonsense in ["", "nonsense", "name:nonsense", ":2bDQ1SvGOePXi7OD5Re5xXZt4SCR0coHZMpr/8t3jZ0="] {
        round.refuses(ErrorKind::InvalidPublicKey, control.trust(nonsense, "").await);
    }
    let before = control.trusted_keys().await.unwrap();
    let [configured] = &before[..] else { panic!("{before:?}") };
    assert_eq!(
        (configured.name.as_str(), configured.origin, configured.distrusted),
        ("test-1", TrustOrigin::Configuration, false)
    );
    let another = |name: &str, seed| peernix::nix::SecretKey::from_seed(name, [seed; 32]).unwrap().public().to_string();
    round.refuses(ErrorKind::KeyNameTaken, control.trust(&another("test-1", 1), "").await);
    round.refuses(ErrorKind::InvalidArgument, control.trust(&another("friend-1", 2), "a\nb").await);
    assert!(!control.trust(&configured.public_key, "").await.unwrap(), "it is trusted already");

    let mut listener = round.listen().await;
    let friend = another("friend-1", 2);
    assert!(control.trust(&friend, "of a friend").await.unwrap() && !control.trust(&friend, "").await.unwrap());
    let is = |to: &'static str| move |event: &peernix::control::Event| event.to.as_deref() == Some(to);
    let event = listener.hears(EventKind::TrustChanged, is("trusted")).await;
    assert_eq!(event.name.as_deref(), Some("friend-1"));
    let keys = control.trusted_keys().await.unwrap();
    let added = keys.iter().find(|key| key.public_key == friend).unwrap();
    assert_eq!((added.origin, added.comment.as_str(), added.distrusted), (TrustOrigin::Added, "of a friend", false));
    assert!(added.changed_timestamp.is_some());
    assert!(control.distrust("friend-1").await.unwrap());
    for nobody in ["friend-1", "nobody", friend.as_str()] {
        round.refuses(ErrorKind::NoSuchKey, control.distrust(nobody).await);
    }
    listener.hears(EventKind::TrustChanged, is("distrusted")).await;
    round.refuses(ErrorKind::InvalidPublicKey, control.distrust("name:nonsense").await);

    // One that a file names stays in the list, and can be trusted again.
    assert!(control.distrust(&configured.public_key).await.unwrap());
    assert!(!control.distrust(&configured.name).await.unwrap(), "it is distrusted already");
    let keys = control.trusted_keys().await.unwrap();
    assert!(keys.len() == 1 && keys[0].distrusted, "{keys:?}");
    assert!(control.trust(&configured.public_key, "").await.unwrap());
    assert_eq!(control.trusted_keys().await.unwrap(), before);
}
