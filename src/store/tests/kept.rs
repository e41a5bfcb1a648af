//! What a store keeps beside paths: build logs, realisations, build traces, debug information; and the policy over all.

use super::super::{Audience, Decision, PolicyOptions, Reason, SharePolicy, SharePolicyMode};
use super::*;
use crate::nix::realisation::BuildTrace;
use crate::nix::{SecretKey, TrustedKeys};
use rusqlite::Connection;

fn trusted() -> TrustedKeys {
    let secret: SecretKey = include_str!("../../../tests/golden/keys/test-1.secret").parse().unwrap();
    [secret.public()].into_iter().collect()
}

fn policy(mode: SharePolicyMode, deny: &[&str]) -> SharePolicy {
    let deny = deny.iter().map(ToString::to_string).collect();
    let options = PolicyOptions { mode, public_keys: trusted(), deny, ..PolicyOptions::default() };
    SharePolicy::new(options, StoreDir::default()).unwrap()
}

fn signed() -> SharePolicy {
    policy(SharePolicyMode::Signed, &[])
}

/// Builds two derivations, the second one content-addressed; returns derivation and output of each.
fn build(host: &Host) -> [(StorePath, StorePath); 2] {
    let mut conf = std::fs::read_to_string(host.path("conf/nix.conf")).unwrap();
    // A chroot store always builds in a sandbox, which needs a shell.
    conf.push_str("sandbox-paths = /bin /lib /lib64 /usr\n");
    std::fs::write(host.path("conf/nix.conf"), conf).unwrap();
    let lines = "i=0; while [ $i -lt 20000 ]; do echo \"line $i of the log\"; i=$((i+1)); done";
    let expressions = [
        format!("name = \"plain\"; args = [\"-c\" ''{lines}; echo x > $out'']; "),
        "name = \"addressed\"; args = [\"-c\" \"echo said; echo y > $out\"]; __contentAddressed = true; \
         outputHashMode = \"recursive\"; outputHashAlgo = \"sha256\";"
            .to_owned(),
    ];
    // Nix takes what stands in the environment of any process for a root: no two hosts may build the same.
    let seed = host.directory.path().display();
    expressions.map(|attributes| {
        let expression = format!(
            "derivation {{ system = builtins.currentSystem; builder = \"/bin/sh\"; seed = \"{seed}\"; {attributes} }}"
        );
        let dir = StoreDir::default();
        let derivation = dir.parse(&host.nix("nix-instantiate", &["--expr", &expression])).unwrap();
        let output = dir.parse(&host.nix("nix-build", &["--no-out-link", "--expr", &expression])).unwrap();
        (derivation, output)
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_obey_the_policy_on_what_was_built() {
    let host = Host::with_store();
    let [(plain, output), (addressed, _)] = build(&host);
    let store = host.open().await;
    let own = policy(SharePolicyMode::SignedAndOwn, &[]);
    let expected = host.nix("nix", &["log", &StoreDir::default().join(&plain)]);
    assert!(expected.len() > 300_000, "{} bytes", expected.len());

    let log = async |derivation: &StorePath, policy: &SharePolicy, audience| match store
        .build_log(derivation, policy, audience)
        .await
        .unwrap()
    {
        Some(stream) => Some(String::from_utf8(collect(stream).await.unwrap()).unwrap()),
        None => None,
    };
    assert_eq!(log(&plain, &signed(), Audience::Enrolled).await, None, "nobody signed it");
    assert_eq!(log(&plain, &own, Audience::Anyone).await, None);
    let read = log(&plain, &own, Audience::Enrolled).await.unwrap();
    assert!(read.trim_end() == expected);
    let read = log(&addressed, &own, Audience::Enrolled).await.unwrap();
    assert_eq!(read, "said\n", "the derivation does not know its output, but the output knows the derivation");

    host.sign(&output);
    assert!(log(&plain, &signed(), Audience::Anyone).await.is_some());
    let denied = policy(SharePolicyMode::Signed, &["*.drv"]);
    assert_eq!(log(&plain, &denied, Audience::Anyone).await, None);
    let denied = policy(SharePolicyMode::Signed, &["plain"]);
    assert_eq!(log(&plain, &denied, Audience::Anyone).await, None);
    assert_eq!(log(&plain, &policy(SharePolicyMode::Off, &[]), Audience::Enrolled).await, None);
    assert_eq!(log(&output, &own, Audience::Enrolled).await, None, "logs are by derivation");

    // A log that is there without its outputs is nobody's business.
    host.nix("nix-store", &["--gc"]);
    assert_eq!(log(&plain, &own, Audience::Enrolled).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_are_read_in_all_their_places() {
    let host = Host::with_store();
    let [(plain, output), _] = build(&host);
    host.sign(&output);
    let store = host.open().await;
    let base_name = plain.to_string();
    let drvs = host.path("root/nix/var/log/nix/drvs");
    let (usual, old) = (drvs.join(&base_name[..2]).join(&base_name[2..]), drvs.join(&base_name));
    let packed = PathBuf::from(format!("{}.bz2", usual.display()));
    let read = async || {
        let stream = store.build_log(&plain, &signed(), Audience::Anyone).await?;
        let stream = stream.expect("a log");
        Ok::<_, StoreError>((stream.remaining(), collect(stream).await?))
    };
    let (length, expected) = read().await.unwrap();
    assert_eq!(length, None);
    assert!(expected.starts_with(b"line 0 of the log\n") && expected.ends_with(b"line 19999 of the log\n"));

    std::fs::rename(&packed, format!("{}.bz2", old.display())).unwrap();
    assert!(read().await.unwrap().1 == expected);
    std::fs::write(&usual, "plain text").unwrap();
    assert_eq!(read().await.unwrap(), (Some(10), b"plain text".to_vec()), "the usual place comes first");

    std::fs::remove_file(&usual).unwrap();
    std::fs::remove_file(format!("{}.bz2", old.display())).unwrap();
    let half = expected.len();
    let compressed = {
        use std::io::Write;
        let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
        encoder.write_all(&expected[..half]).unwrap();
        encoder.finish().unwrap()
    };
    std::fs::write(&packed, &compressed[..compressed.len() / 2]).unwrap();
    let error = read().await.unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");

    std::fs::remove_file(&packed).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &usual).unwrap();
    assert!(store.build_log(&plain, &signed(), Audience::Anyone).await.unwrap().is_none(), "no link is followed");
}

#[tokio::test(flavor = "multi_thread")]
async fn realisations_are_those_of_nix() {
    let host = Host::with_store();
    let [(_, plain), (derivation, addressed)] = build(&host);
    let store = host.open().await;
    let database = Connection::open(host.state().join("db/db.sqlite")).unwrap();
    let select = "select r.drvPath || '!' || r.outputName from Realisations r join ValidPaths v on v.id = r.outputPath \
                  where v.path = ?1";
    let id_of = |path: &StorePath| -> String {
        database.query_row(select, [StoreDir::default().join(path)], |row| row.get(0)).unwrap()
    };
    let cache = host.path("cache");
    let target = format!("file://{}", cache.display());
    host.nix("nix", &["copy", "--no-check-sigs", "--to", &target, &StoreDir::default().join(&derivation)]);

    let id = id_of(&addressed);
    let signature = format!("k-1:{}==", "A".repeat(86));
    let sign = |text: &str| database.execute("update Realisations set signatures = ?1", [text]).unwrap();
    sign(&signature);
    assert!(store.realisation(&id, &signed(), Audience::Enrolled).await.unwrap().is_none(), "nobody signed the path");
    host.sign(&addressed);
    for useless in ["", "k-1:AAAA"] {
        sign(useless);
        let unsigned = store.realisation(&id, &signed(), Audience::Enrolled).await.unwrap();
        assert!(unsigned.is_none(), "nobody signed it");
    }
    sign(&signature);
    let realisation = store.realisation(&id, &signed(), Audience::Anyone).await.unwrap().expect("a realisation");
    assert_eq!(realisation.output.info.path, addressed);
    assert_eq!(crate::nix::realisation::Realisation::parse(&realisation.json).unwrap().render(), realisation.json);
    let by_nix = cache.join("realisations").join(format!("{id}.doi"));
    let by_nix = std::fs::read_to_string(by_nix).unwrap();
    let mut by_nix = crate::nix::realisation::Realisation::parse(&by_nix).unwrap();
    by_nix.signatures.push(signature.parse().unwrap());
    assert_eq!(by_nix.render(), realisation.json);
    assert!(store.realisation(&id_of(&plain), &signed(), Audience::Anyone).await.unwrap().is_none());
    let unknown = format!("sha256:{}!out", "0".repeat(64));
    for odd in ["", "x", "sha256:00!out", &unknown, &format!("{id}x"), &id.replace("!out", "!../..")] {
        assert!(store.realisation(odd, &signed(), Audience::Anyone).await.unwrap().is_none(), "{odd}");
    }
    // What came with another realisation is listed with it.
    database
        .execute_batch(
            "insert into RealisationsRefs select a.id, b.id from Realisations a, Realisations b where a.id != b.id",
        )
        .unwrap();
    let realisation = store.realisation(&id, &signed(), Audience::Anyone).await.unwrap().expect("a realisation");
    let parsed = crate::nix::realisation::Realisation::parse(&realisation.json).unwrap();
    assert_eq!(parsed.dependent.values().collect::<Vec<_>>(), [&plain]);

    let denied = policy(SharePolicyMode::Signed, &["addressed"]);
    assert!(store.realisation(&id, &denied, Audience::Anyone).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn build_traces_are_read_where_there_are_any() {
    let host = Host::with_store();
    let path = host.add_text("traced", "x");
    let derivation: StorePath = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-traced.drv".parse().unwrap();
    let store = host.open().await;
    assert!(store.build_trace(&derivation, "out", &signed(), Audience::Anyone).await.unwrap().is_none());
    assert!(
        store
            .realisation(&format!("sha256:{}!out", "0".repeat(64)), &signed(), Audience::Anyone)
            .await
            .unwrap()
            .is_none()
    );

    // As Nix 2.35 makes and fills the table; its own daemon would do so while we have the database open.
    let signature = format!("k-1:{}==", "A".repeat(86));
    Connection::open(host.state().join("db/db.sqlite"))
        .unwrap()
        .execute_batch(&format!(
            "create table BuildTraceV3 (id integer primary key autoincrement not null, drvPath text not null, \
             outputName text not null, outputPath text not null, signatures text);
             insert into BuildTraceV3 (drvPath, outputName, outputPath, signatures) values \
             ('{derivation}', 'out', '{}', '{signature}')",
            StoreDir::default().join(&path)
        ))
        .unwrap();
    assert!(store.build_trace(&derivation, "out", &signed(), Audience::Anyone).await.unwrap().is_none(), "not signed");
    host.sign(&path);
    let trace = store.build_trace(&derivation, "out", &signed(), Audience::Anyone).await.unwrap().expect("a trace");
    assert_eq!(trace.output.info.path, path);
    let parsed = BuildTrace::parse(&trace.json).unwrap();
    assert_eq!((parsed.out_path, parsed.signatures[0].to_string()), (path, signature));
    assert!(store.build_trace(&derivation, "dev", &signed(), Audience::Anyone).await.unwrap().is_none());
    assert!(store.build_trace(&derivation, "a/b", &signed(), Audience::Anyone).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn debug_information_is_found_in_what_may_be_shared() {
    let host = Host::with_store();
    let store = host.open().await;
    let add = |name: &str, build_id: &str, text: &str| {
        let file = host.path(name).join("lib/debug/.build-id").join(&build_id[..2]);
        std::fs::create_dir_all(&file).unwrap();
        std::fs::write(file.join(format!("{}.debug", &build_id[2..])), text).unwrap();
        host.add(&host.path(name))
    };
    let build_id = "0123456789abcdef0123456789abcdef01234567";
    assert!(store.debuginfo(build_id, &signed(), Audience::Anyone).await.unwrap().is_none());
    let unsigned = add("hello-debug", build_id, "debug");
    assert!(store.debuginfo(build_id, &signed(), Audience::Anyone).await.unwrap().is_none());
    host.sign(&unsigned);
    let found = store.debuginfo(build_id, &signed(), Audience::Anyone).await.unwrap().expect("debug information");
    assert_eq!(found.path.info.path, unsigned);
    assert_eq!(found.member, "lib/debug/.build-id/01/23456789abcdef0123456789abcdef01234567.debug");
    assert!(host.real(&unsigned).join(&found.member).is_file());

    // A newer one that may not be shared does not hide it; paths of other names are not looked into.
    add("secret-debug", build_id, "other");
    host.sign(&add("hello", "ffff456789abcdef0123456789abcdef01234567", "debug"));
    let found = store.debuginfo(build_id, &signed(), Audience::Anyone).await.unwrap().expect("debug information");
    assert_eq!(found.path.info.path, unsigned);
    for absent in ["ffff456789abcdef0123456789abcdef01234567", "0123", "../../../etc/passwd", ""] {
        assert!(store.debuginfo(absent, &signed(), Audience::Anyone).await.unwrap().is_none(), "{absent}");
    }
    let newer = add("newer-debug", "eeee", "debug");
    host.sign(&newer);
    let found = store.debuginfo("eeee", &signed(), Audience::Anyone).await.unwrap().expect("debug information");
    assert_eq!(found.path.info.path, newer);
    host.nix("nix-store", &["--gc"]);
    assert!(store.debuginfo("eeee", &signed(), Audience::Anyone).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nix_built_is_own_and_what_it_signed_is_signed() {
    let host = Host::with_store();
    let [(derivation, output), _] = build(&host);
    let store = host.open().await;
    let own = policy(SharePolicyMode::SignedAndOwn, &[]);
    let decide =
        async |path: &StorePath, policy: &SharePolicy, audience| policy.decide(&*valid(&store, path).await, audience);
    assert_eq!(decide(&output, &own, Audience::Enrolled).await, Decision::Serve);
    assert_eq!(decide(&output, &own, Audience::Anyone).await, Decision::Refuse(Reason::OwnForEnrolledOnly));
    assert_eq!(decide(&output, &signed(), Audience::Enrolled).await, Decision::Refuse(Reason::Own));
    // Derivations hold what their authors wrote. They are not built.
    assert_eq!(decide(&derivation, &own, Audience::Enrolled).await, Decision::Refuse(Reason::Unsigned));
    host.sign(&output);
    assert_eq!(decide(&output, &signed(), Audience::Anyone).await, Decision::Serve, "a new signature counts at once");
}
