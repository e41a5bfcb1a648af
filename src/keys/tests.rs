//! The life of signing keys: time, files, crashes, credentials.

use super::clock::{Clock, Moment};
use super::ring::{KEYS_MAX, Ring, SIGNING_MAX};
use super::*;
use crate::nix::{PathInfo, PublicKey, SecretKey, StoreDir};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;

const NOW: u64 = 1_790_000_000;
const GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

/// A state directory, and the machine's clock.
struct Machine {
    state: TempDir,
    unix: Arc<AtomicU64>,
}

impl Machine {
    fn new() -> Self {
        Self { state: tempfile::tempdir().unwrap(), unix: Arc::new(AtomicU64::new(NOW)) }
    }

    fn file(&self) -> PathBuf {
        self.state.path().join("keys/keys.json")
    }

    fn content(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    async fn open_from(&self, source: KeySource) -> Result<SigningKeys, KeysError> {
        let unix = Arc::clone(&self.unix);
        let options = SigningOptions {
            state_dir: self.state.path().to_owned(),
            source,
            name: "tower-1".into(),
            host: "ignored".into(),
            grace: GRACE,
        };
        SigningKeys::open_with(options, Clock::new(move || unix.load(Relaxed))).await
    }

    async fn open(&self) -> SigningKeys {
        self.open_from(KeySource::State).await.unwrap()
    }

    fn set_clock(&self, unix: u64) {
        self.unix.store(unix, Relaxed);
    }
}

fn signing(keys: &SigningKeys) -> Vec<String> {
    keys.versioned().now().keys.iter().map(|key| key.name().to_owned()).collect()
}

fn states(keys: &SigningKeys) -> Vec<(String, KeyState)> {
    keys.list().into_iter().map(|view| (view.name, view.state)).collect()
}

fn of(pairs: &[(&str, KeyState)]) -> Vec<(String, KeyState)> {
    pairs.iter().map(|(name, state)| ((*name).to_owned(), *state)).collect()
}

fn own(keys: &SigningKeys) -> Vec<String> {
    let mut names: Vec<String> = keys.versioned().now().own.names().map(str::to_owned).collect();
    names.sort();
    names
}

#[tokio::test(start_paused = true)]
async fn active_then_grace_then_retired() {
    use KeyState::{Active, Grace, Retired};
    let machine = Machine::new();
    let keys = machine.open().await;
    assert!(
        keys.versioned().now().keys.is_empty() && keys.list().is_empty() && !machine.file().exists(),
        "none is made unasked"
    );
    assert!(keys.ensure().await.unwrap());
    assert!(!keys.ensure().await.unwrap());
    assert_eq!(states(&keys), of(&[("tower-1", Active)]));

    let mut changes = keys.versioned().subscribe();
    changes.borrow_and_update();
    let secret = keys.versioned().now().keys[0].to_file();
    assert!(machine.content().contains(secret.as_str()));
    let rotated = keys.rotate(None).await.unwrap();
    assert!(changes.has_changed().unwrap());
    let old = rotated.old.unwrap();
    assert_eq!((old.name.as_str(), old.state, old.expires), ("tower-1", Grace, Some(NOW + GRACE.as_secs())));
    assert_eq!((rotated.new.name.as_str(), rotated.new.state, rotated.new.created), ("tower-2", Active, NOW));
    assert_eq!(signing(&keys), ["tower-2", "tower-1"], "both sign");
    let mut info = PathInfo::example();
    info.signatures = keys.versioned().now().keys.iter().map(|key| key.sign(&info, &StoreDir::default())).collect();
    assert_eq!(keys.versioned().now().own.valid_signatures(&info, &StoreDir::default()).len(), 2);

    let reopened = machine.open().await;
    assert_eq!((reopened.list(), signing(&reopened)), (keys.list(), signing(&keys)), "it is kept");

    // The clock stands still; the grace ends all the same, after thirty days and not before.
    let begun = Instant::now();
    let task = tokio::spawn(keys.clone().tend());
    changes.borrow_and_update();
    changes.changed().await.unwrap();
    let took = begun.elapsed();
    assert!(took >= GRACE && took < GRACE + Duration::from_secs(1), "{took:?}");
    assert_eq!(states(&keys), of(&[("tower-1", Retired), ("tower-2", Active)]));
    assert_eq!((signing(&keys), own(&keys)), (vec!["tower-2".into()], vec!["tower-1".into(), "tower-2".into()]));
    // What is told is not yet what is written; the task writes it before it waits again.
    let _turn = keys.rotate(Some(Duration::ZERO)).await.unwrap();
    assert!(!machine.content().contains(secret.as_str()), "the secret is gone");
    assert!(machine.content().contains(&old.public_key), "its public half is kept");
    assert_eq!(states(&machine.open().await), of(&[("tower-1", Retired), ("tower-2", Retired), ("tower-3", Active)]));
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_machine_that_slept_looks_at_its_clock() {
    let machine = Machine::new();
    let keys = machine.open().await;
    keys.ensure().await.unwrap();
    keys.rotate(None).await.unwrap();
    let mut changes = keys.versioned().subscribe();
    let task = tokio::spawn(keys.clone().tend());
    machine.set_clock(NOW + GRACE.as_secs());
    let begun = Instant::now();
    changes.changed().await.unwrap();
    assert!(begun.elapsed() <= Duration::from_secs(3601), "{:?}", begun.elapsed());
    assert_eq!(signing(&keys), ["tower-2"]);
    task.abort();
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_goes_back_prolongs_a_grace_by_its_length_at_most() {
    let machine = Machine::new();
    let keys = machine.open().await;
    keys.ensure().await.unwrap();
    keys.rotate(Some(Duration::from_secs(100))).await.unwrap();
    for (unix, left) in [(5, 100), (NOW, 100), (NOW + 60, 40)] {
        machine.set_clock(unix);
        let keys = machine.open().await;
        assert_eq!(signing(&keys), ["tower-2", "tower-1"], "at {unix}");
        let begun = Instant::now();
        keys.until_next_change().await;
        let took = begun.elapsed().as_secs_f64();
        assert!((f64::from(left)..f64::from(left) + 1.0).contains(&took), "{took} s at {unix}");
    }
    machine.set_clock(NOW + 100);
    assert_eq!(signing(&machine.open().await), ["tower-2"], "it ended while the service was down");
    machine.set_clock(NOW);
    assert_eq!(signing(&machine.open().await), ["tower-2"], "and does not come back");
}

#[tokio::test]
async fn what_is_revoked_signs_and_vouches_for_nothing() {
    use KeyState::{Active, Grace, Retired, Revoked};
    let machine = Machine::new();
    let keys = machine.open().await;
    keys.ensure().await.unwrap();
    for grace in [Duration::ZERO, GRACE, GRACE] {
        keys.rotate(Some(grace)).await.unwrap();
    }
    assert_eq!(states(&keys), of(&[("tower-1", Retired), ("tower-2", Grace), ("tower-3", Grace), ("tower-4", Active)]));
    let error = keys.revoke("tower-4", "").await.unwrap_err();
    assert!(matches!(error, KeysError::KeyInUse(_)) && error.to_string().contains("rotate first"), "{error}");
    assert!(matches!(keys.revoke("tower-9\n", "").await, Err(KeysError::NoSuchKey(name)) if !name.contains('\n')));
    assert!(matches!(keys.revoke("tower-1", "two\nlines").await, Err(KeysError::Comment)));
    let secret = keys.versioned().now().keys[2].to_file();
    let generation = keys.versioned().generation();
    let print = keys.list()[1].fingerprint.clone();
    let revoked = keys.revoke(&print, "a stolen laptop").await.unwrap().unwrap();
    assert_eq!((revoked.name.as_str(), revoked.fingerprint, revoked.state), ("tower-2", print, Revoked));
    assert_eq!(keys.revoke("tower-1", "").await.unwrap().unwrap().name, "tower-1");
    assert_eq!(keys.revoke("tower-2", "").await.unwrap(), None, "it is revoked already");
    assert_eq!(keys.versioned().generation(), generation + 2);
    for keys in [keys, machine.open().await] {
        assert_eq!(signing(&keys), ["tower-4", "tower-3"]);
        assert_eq!(own(&keys), ["tower-3", "tower-4"]);
        assert_eq!(states(&keys)[..2], of(&[("tower-1", Revoked), ("tower-2", Revoked)]));
        assert_eq!(keys.list()[1].reason.as_deref(), Some("a stolen laptop"));
    }
    assert!(!machine.content().contains(secret.as_str()), "the secret is gone");
}

#[tokio::test]
async fn a_disk_that_fails_keeps_no_key_alive_and_makes_none() {
    let machine = Machine::new();
    let keys = machine.open().await;
    keys.ensure().await.unwrap();
    keys.rotate(None).await.unwrap();
    // No directory can be made where a file is; permissions would not stop root.
    let (directory, aside) = (machine.state.path().join("keys"), machine.state.path().join("aside"));
    fs::rename(&directory, &aside).unwrap();
    fs::write(&directory, "").unwrap();
    let before = keys.list();
    assert!(matches!(keys.rotate(None).await, Err(KeysError::File { action: "create", .. })));
    assert_eq!(keys.list(), before, "nothing has changed");
    let error = keys.revoke("tower-1", "").await.unwrap_err();
    assert!(matches!(error, KeysError::NotSaved(_)) && error.to_string().contains("in force now"), "{error}");
    assert_eq!((signing(&keys), own(&keys)), (vec!["tower-2".into()], vec!["tower-2".into()]));
    fs::remove_file(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    assert_eq!(keys.revoke("tower-1", "").await.unwrap(), None, "it was revoked");
    assert_eq!(signing(&machine.open().await), ["tower-2"], "and is written down by now");

    // The one in use has to be replaced first. Where that cannot be, it is revoked all the same.
    assert!(matches!(keys.revoke("tower-2", "").await, Err(KeysError::KeyInUse(_))));
    fs::rename(&directory, &aside).unwrap();
    fs::write(&directory, "").unwrap();
    assert!(matches!(keys.revoke("tower-2", "stolen").await, Err(KeysError::NotSaved(_))));
    assert!(signing(&keys).is_empty() && own(&keys).is_empty());
    fs::remove_file(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    assert_eq!(keys.rotate(None).await.unwrap().new.name, "tower-3");
    assert_eq!(signing(&machine.open().await), ["tower-3"]);
}

#[tokio::test]
async fn a_crash_before_the_rename_leaves_the_keys_before() {
    let machine = Machine::new();
    let keys = machine.open().await;
    keys.ensure().await.unwrap();
    let before = machine.content();
    keys.rotate(None).await.unwrap();
    // As the disk is when the power goes after the new file was written and before it is put in place.
    let temporary = machine.state.path().join("keys/.keys.json.0123456789abc");
    fs::rename(machine.file(), &temporary).unwrap();
    fs::write(machine.file(), &before).unwrap();
    fs::set_permissions(machine.file(), fs::Permissions::from_mode(0o600)).unwrap();
    let keys = machine.open().await;
    assert_eq!(states(&keys), of(&[("tower-1", KeyState::Active)]));
    assert!(!temporary.exists(), "no secret is left lying about");
    assert_eq!(keys.rotate(None).await.unwrap().new.name, "tower-2");
}

#[tokio::test]
async fn files_are_private_and_damaged_ones_are_kept() {
    let machine = Machine::new();
    let keys = machine.open().await;
    keys.ensure().await.unwrap();
    keys.rotate(None).await.unwrap();
    let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode(&machine.file()), mode(machine.file().parent().unwrap())), (0o600, 0o700));
    assert_eq!(fs::read_dir(machine.state.path().join("keys")).unwrap().count(), 1, "no temporary file is left");

    let good = machine.content();
    let (active, grace) = (&keys.list()[1], &keys.list()[0]);
    let [secret, other] = [0, 1].map(|index| keys.versioned().now().keys[index].to_file());
    let mut damaged = vec![
        good.replace("\"version\":1", "\"version\":2"),
        good.replace("\"grace\",", "\"active\","),
        good.replace("\"state\":\"active\"", "\"state\":\"retired\""),
        good.replace("\"state\":\"active\"", "\"state\":7"),
        good.replace(secret.as_str(), &other),
        good.replace(&active.public_key, &grace.public_key),
        good.replace("\"created\":", "\"made\":"),
        format!("{good}x"),
        "{\"version\":\"SECRET\"}".replace("SECRET", &secret),
    ];
    damaged.extend((0..good.len()).step_by(97).map(|length| good[..length].to_owned()));
    for text in damaged {
        assert_ne!(text, good);
        fs::write(machine.file(), &text).unwrap();
        let Err(error) = machine.open_from(KeySource::State).await else { panic!("{text} was taken") };
        assert!(matches!(error, KeysError::Damaged { .. }), "{error}");
        let said = error.to_string();
        assert!(said.contains("was left as it is"), "{said}");
        assert!(!said.contains(&secret[8..30]), "{said}");
        assert_eq!(machine.content(), text, "nothing is lost");
    }
    fs::write(machine.file(), &good).unwrap();
    fs::set_permissions(machine.file(), fs::Permissions::from_mode(0o640)).unwrap();
    let Err(error) = machine.open_from(KeySource::State).await else { panic!("others may read it") };
    assert!(error.to_string().contains("chmod 600"), "{error}");
}

#[tokio::test]
async fn credentials_are_the_administrators() {
    let machine = Machine::new();
    let in_state = machine.open().await;
    in_state.ensure().await.unwrap();
    in_state.rotate(None).await.unwrap();
    let text = include_str!("../../tests/golden/keys/test-1.secret");
    let keys = machine.open_from(KeySource::Credential(text.to_owned().into())).await.unwrap();
    assert_eq!(signing(&keys), ["test-1"]);
    assert_eq!(own(&keys), ["test-1", "tower-1", "tower-2"], "what was built here before is still ours");
    let views = keys.list();
    let managed: Vec<_> = views.iter().map(|view| (view.name.as_str(), view.state, view.managed)).collect();
    let expected = [
        ("tower-1", KeyState::Retired, Managed::State),
        ("tower-2", KeyState::Retired, Managed::State),
        ("test-1", KeyState::Active, Managed::Credential),
    ];
    assert_eq!(managed, expected);
    assert_eq!(keys.list()[2].public_key, include_str!("../../tests/golden/keys/test-1.public").trim_end());
    let before = machine.content();
    assert!(!keys.ensure().await.unwrap());
    let refusals = [keys.rotate(None).await.err(), keys.revoke("test-1", "").await.err()];
    for error in refusals.map(Option::unwrap) {
        let said = error.to_string();
        assert!(matches!(error, KeysError::ManagedExternally(_)) && said.contains("LoadCredential="), "{said}");
    }
    assert_eq!(machine.content(), before);
    assert!(keys.revoke("tower-2", "it is not in use").await.unwrap().is_some());
    assert_eq!(own(&keys), ["test-1", "tower-1"]);
    let bad = machine.open_from(KeySource::Credential("test-1:AAAA".to_owned().into())).await;
    assert!(matches!(bad, Err(KeysError::Credential(_))));
}

#[tokio::test]
async fn a_credential_that_was_replaced_signs_from_then_on() {
    let machine = Machine::new();
    let text = include_str!("../../tests/golden/keys/test-1.secret");
    let keys = machine.open_from(KeySource::Credential(text.to_owned().into())).await.unwrap();
    let mut changes = keys.versioned().subscribe();
    assert!(!keys.replace_credential(text).await.unwrap(), "it is the same");
    assert!(matches!(keys.replace_credential("test-1:AAAA").await, Err(KeysError::Credential(_))));
    assert!(!changes.has_changed().unwrap());
    let next = SecretKey::from_seed("test-2", [9; 32]).unwrap();
    assert!(keys.replace_credential(&next.to_file()).await.unwrap());
    assert!(changes.has_changed().unwrap());
    changes.mark_unchanged();
    assert_eq!((signing(&keys), own(&keys)), (vec!["test-2".to_owned()], vec!["test-2".to_owned()]));
    assert_eq!(
        keys.list().last().map(|view| (view.name.as_str(), view.managed)),
        Some(("test-2", Managed::Credential))
    );
    // Where keys are managed here, a credential that nobody asked for says nothing.
    let managed = Machine::new().open().await;
    managed.ensure().await.unwrap();
    assert!(!managed.replace_credential(text).await.unwrap());
    assert_eq!(signing(&managed), ["tower-1"]);
}

#[tokio::test]
async fn names_count_on_and_never_come_back() {
    let now = Moment { unix: NOW, instant: Instant::now() };
    let mut ring = Ring::default();
    let mut next = |wanted: &str| {
        let (_, new) = ring.rotate(wanted, Duration::ZERO, now)?;
        Ok::<_, KeysError>(ring.0[new].view().name)
    };
    for (wanted, name) in [
        ("tower", "tower"),
        ("tower", "tower-2"),
        ("tower-1", "tower-3"),
        ("tower-9", "tower-9"),
        ("tower-1", "tower-10"),
        ("my-host-1", "my-host-1"),
        ("my-host-1", "my-host-2"),
        ("tower-1", "tower-11"),
        ("-1", "-1"),
    ] {
        assert_eq!(next(wanted).unwrap(), name);
    }
    for bad in ["a b", "a:b", "ä", &"x".repeat(300)] {
        assert!(matches!(next(bad), Err(KeysError::Name(_))), "{bad}");
    }
    let machine = Machine::new();
    for (host, name) in [("my.host", "my.host-1"), ("häus\n:1", "hus1-1"), ("", "peernix-1")] {
        let options = SigningOptions {
            state_dir: machine.state.path().join(name),
            source: KeySource::State,
            name: String::new(),
            host: host.into(),
            grace: GRACE,
        };
        let keys = SigningKeys::open(options).await.unwrap();
        keys.ensure().await.unwrap();
        assert_eq!(signing(&keys), [name]);
        keys.configure("other-1".into(), GRACE);
        assert_eq!(keys.rotate(None).await.unwrap().new.name, "other-1");
        keys.configure(String::new(), GRACE);
        keys.rename_host("attic".into());
        assert_eq!(keys.rotate(None).await.unwrap().new.name, "attic-1");
    }
}

#[tokio::test]
async fn numbers_are_limited() {
    let machine = Machine::new();
    let keys = machine.open().await;
    for _ in 0..SIGNING_MAX {
        keys.rotate(None).await.unwrap();
    }
    assert_eq!(keys.versioned().now().keys.len(), SIGNING_MAX);
    assert!(matches!(keys.rotate(None).await, Err(KeysError::TooMany { count: SIGNING_MAX, .. })));
    let too_long = keys.rotate(Some(GRACE_MAX + Duration::from_secs(1))).await;
    assert!(matches!(too_long, Err(KeysError::Grace)));
    keys.rotate(Some(Duration::ZERO)).await.unwrap();
    assert_eq!(keys.versioned().now().keys.len(), SIGNING_MAX);

    let now = Moment { unix: NOW, instant: Instant::now() };
    let mut ring = Ring::default();
    for _ in 0..KEYS_MAX {
        ring.rotate("tower-1", Duration::ZERO, now).unwrap();
    }
    let full = ring.rotate("tower-1", Duration::ZERO, now).unwrap_err();
    assert!(matches!(full, KeysError::TooMany { count: KEYS_MAX, .. }), "{full}");
    stored::save(&machine.file(), &ring).unwrap();
    assert_eq!(machine.open().await.list().len(), KEYS_MAX, "as many are read");
}

#[test]
fn fingerprints_are_stable() {
    let key: PublicKey = include_str!("../../tests/golden/keys/test-1.public").parse().unwrap();
    let renamed: PublicKey = key.to_string().replace("test-1", "b-1").parse().unwrap();
    assert_eq!(fingerprint(&key), fingerprint(&renamed));
    // sha256sum of the 32 bytes, by coreutils.
    assert_eq!(fingerprint(&key), "cbc125c34e329683");
}
