//! Ways to the store: its database beside writers and as an ordinary user, replaced or late, and the daemon instead.

use super::*;
use crate::nix::StoreHash;
use rusqlite::Connection;
use std::os::unix::fs::PermissionsExt;

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_there_says_so_and_may_come_later() {
    let host = Host::new();
    let store = host.open().await;
    let error = store.path_info(StoreHash::new([1; 20])).await.unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error:?}");
    let message = error.to_string();
    for part in ["nix/var/nix/db/db.sqlite", "daemon-socket/socket", "install Nix", "[store] dir, state_dir, root"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(matches!(store.check().await, Err(StoreError::Missing { .. })));

    let path = host.add_text("late", "x");
    assert_eq!(valid(&store, &path).await.info.path, path);
    assert_eq!(store.check().await.unwrap(), Access::Database);
}

#[tokio::test(flavor = "multi_thread")]
async fn relative_directories_are_refused() {
    let options = StoreOptions { root: "chroot".into(), ..StoreOptions::default() };
    let error = Store::open(options).await.unwrap_err().to_string();
    assert_eq!(error, "[store] root: 'chroot' is not an absolute path");
}

#[test]
fn the_environment_counts_as_for_nix() {
    let get = |name: &str| match name {
        "NIX_DAEMON_SOCKET_PATH" => Some("/elsewhere/socket".into()),
        "NIX_LOG_DIR" => Some("".into()),
        _ => None,
    };
    let options = StoreOptions::default().with_environment(get);
    assert_eq!((options.daemon_socket, options.log_dir), (Some("/elsewhere/socket".into()), None));
    let chroot = StoreOptions { root: "/chroot".into(), ..StoreOptions::default() }.with_environment(get);
    assert_eq!(chroot.daemon_socket, None);
    let decided = StoreOptions { daemon_socket: Some("/mine".into()), ..StoreOptions::default() };
    assert_eq!(decided.with_environment(get).daemon_socket, Some("/mine".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_database_is_noticed() {
    let host = Host::with_store();
    let first = host.add_text("first", "x");
    let store = host.open().await;
    assert_eq!(valid(&store, &first).await.info.path, first);

    std::fs::remove_dir_all(host.root().join("nix")).unwrap();
    assert!(matches!(store.path_info(first.hash()).await, Err(StoreError::Missing { .. })));
    let second = host.add_text("second", "x");
    assert_eq!(valid(&store, &second).await.info.path, second);
    assert_eq!(store.path_info(first.hash()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn new_paths_are_seen_at_once_beside_a_writer() {
    let host = Host::with_store();
    let store = host.open().await;
    // A writer with an open transaction all the time, as a busy daemon has, and one that keeps the write-ahead log alive.
    let database = host.state().join("db/db.sqlite");
    let writer = Connection::open(&database).unwrap();
    let mode: String = writer.query_row("pragma journal_mode = wal", [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "wal");
    for number in 0..20 {
        let hash = StoreHash::new([number; 20]);
        writer.execute_batch("begin immediate").unwrap();
        let insert = "insert into ValidPaths (path, hash, registrationTime, narSize) values (?1, ?2, 7, 112)";
        let nar_hash = format!("sha256:{}", "0".repeat(64));
        writer.execute(insert, [format!("/nix/store/{hash}-n{number}"), nar_hash]).unwrap();
        assert_eq!(store.path_info(hash).await.unwrap(), None, "not committed");
        writer.execute_batch("commit").unwrap();
        let info = store.path_info(hash).await.unwrap().expect("committed");
        assert_eq!((info.info.path.name(), info.registration_time), (format!("n{number}").as_str(), 7));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_whole_while_paths_come_and_go() {
    let host = Host::with_store();
    let database = host.state().join("db/db.sqlite");
    let hash = StoreHash::new([3; 20]);
    let (done, is_done) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), std::sync::atomic::Ordering::Relaxed);
    let writing = {
        let done = Arc::clone(&done);
        std::thread::spawn(move || {
            let writer = Connection::open(&database).unwrap();
            writer.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
            writer
                .execute_batch("pragma journal_mode = wal; pragma synchronous = off; pragma foreign_keys = on")
                .unwrap();
            let nar_hash = format!("sha256:{}", "0".repeat(64));
            while !done.load(is_done) {
                writer.execute_batch("begin immediate").unwrap();
                for other in 10..20 {
                    let path = format!("/nix/store/{}-d", StoreHash::new([other; 20]));
                    let insert = "insert or ignore into ValidPaths (path, hash, registrationTime, narSize) values (?1, ?2, 7, 112)";
                    writer.execute(insert, [&path, &nar_hash]).unwrap();
                }
                let path = format!("/nix/store/{hash}-p");
                let insert = "insert into ValidPaths (path, hash, registrationTime, narSize) values (?1, ?2, 7, 112)";
                writer.execute(insert, [&path, &nar_hash]).unwrap();
                let refer = "insert into Refs select p.id, d.id from ValidPaths p, ValidPaths d where p.path = ?1 and d.path like '%-d'";
                assert_eq!(writer.execute(refer, [&path]).unwrap(), 10);
                writer.execute_batch("commit").unwrap();
                writer.execute("delete from ValidPaths where path = ?1", [&path]).unwrap();
            }
        })
    };
    let store = host.open().await;
    let (mut found, mut missed) = (0, 0);
    while found < 200 || missed < 20 {
        match store.path_info(hash).await.unwrap() {
            // Half of its references would make another fingerprint.
            Some(info) => {
                assert_eq!(info.info.references.len(), 10);
                found += 1;
            }
            None => missed += 1,
        }
        assert!(!writing.is_finished(), "the writer failed");
    }
    done.store(true, is_done);
    writing.join().unwrap();
}

/// The lock of somebody who lets nobody else read, for as long as this lives.
fn lock(host: &Host) -> Connection {
    let writer = Connection::open(host.state().join("db/db.sqlite")).unwrap();
    writer.execute_batch("pragma locking_mode = exclusive; begin exclusive").unwrap();
    writer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_locked_database_is_waited_for_and_is_no_answer() {
    let host = Host::with_store();
    let path = host.add_text("a", "x");
    let store = host.open().await;
    let writer = lock(&host);
    let asked = tokio::spawn({
        let (store, hash) = (store.clone(), path.hash());
        async move { store.path_info(hash).await }
    });
    tokio::time::sleep(std::time::Duration::from_secs(1)).await; // pace
    assert!(!asked.is_finished());
    drop(writer);
    assert_eq!(asked.await.unwrap().unwrap().expect("it is there").info.path, path);

    // Whoever has it open keeps others from taking it for themselves.
    store.drop_caches().await;
    let writer = lock(&host);
    for hash in [path.hash(), StoreHash::new([1; 20])] {
        let error = store.path_info(hash).await.unwrap_err();
        assert!(matches!(error, StoreError::Busy { .. }) && error.is_passing(), "{error:?}");
    }
    drop(writer);
    assert_eq!(valid(&store, &path).await.info.path, path);
    assert_eq!(store.path_info(StoreHash::new([1; 20])).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_log_nothing_disappears_while_somebody_writes() {
    // As Nix writes with `use-sqlite-wal = false`: with a rollback journal, and with locks that only those see who take them.
    let host = Host::with_store();
    let path = host.add_text("a", "x");
    let database = host.state().join("db/db.sqlite");
    let mode = "pragma journal_mode = truncate";
    let mode: String = Connection::open(&database).unwrap().query_row(mode, [], |row| row.get(0)).unwrap();
    assert_eq!(mode, "truncate");
    let (done, relaxed) = (Arc::new(std::sync::atomic::AtomicBool::new(false)), std::sync::atomic::Ordering::Relaxed);
    let rounds = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let writing = {
        let (done, rounds) = (Arc::clone(&done), Arc::clone(&rounds));
        std::thread::spawn(move || {
            let flags = rusqlite::OpenFlags::default();
            let writer = Connection::open_with_flags_and_vfs(&database, flags, "unix-dotfile").unwrap();
            writer.execute_batch("pragma main.journal_mode = truncate; pragma foreign_keys = on").unwrap();
            let nar_hash = format!("sha256:{}", "0".repeat(64));
            while !done.load(relaxed) {
                writer.execute_batch("begin immediate").unwrap();
                for number in 0..200u8 {
                    let insert =
                        "insert into ValidPaths (path, hash, registrationTime, narSize) values (?1, ?2, 7, 112)";
                    let path = format!("/nix/store/{}-other", StoreHash::new([number; 20]));
                    writer.execute(insert, [&path, &nar_hash]).unwrap();
                }
                writer.execute_batch("commit; delete from ValidPaths where path like '%-other'").unwrap();
                rounds.fetch_add(1, relaxed);
                std::thread::sleep(std::time::Duration::from_millis(2)); // pace
            }
        })
    };
    let store = host.open().await;
    // A disk that takes its time with each commit is asked for as long as the writer has not been in the way often.
    for number in 0.. {
        let found = store.path_info(path.hash()).await.unwrap_or_else(|error| panic!("question {number}: {error}"));
        assert!(found.is_some(), "question {number}: it was not there");
        assert!(!writing.is_finished(), "the writer failed");
        if number >= 5000 && rounds.load(relaxed) > 10 {
            break;
        }
    }
    done.store(true, relaxed);
    writing.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_is_remembered_until_something_is_committed() {
    let host = Host::with_store();
    let [path, other] = ["a", "b"].map(|name| host.add_text(name, "x"));
    let store = host.open().await;
    let metrics = crate::metrics::Metrics::default();
    store.measure(metrics.database_took.clone());
    for journal in ["wal", "truncate"] {
        let writer = Connection::open(host.state().join("db/db.sqlite")).unwrap();
        store.drop_caches().await;
        let mode: String = writer.query_row(&format!("pragma journal_mode = {journal}"), [], |row| row.get(0)).unwrap();
        assert_eq!(mode, journal);
        let first = valid(&store, &path).await;
        // The first question may have made the files by which a state is told.
        let second = valid(&store, &path).await;
        let third = valid(&store, &path).await;
        assert!(Arc::ptr_eq(&second, &third) && first == third, "{journal}");
        writer.execute_batch("begin immediate; update ValidPaths set registrationTime = registrationTime + 1").unwrap();
        // Without a log nobody can read meanwhile.
        if journal == "wal" {
            assert_eq!(valid(&store, &path).await, first, "not committed");
        }
        writer.execute_batch("commit").unwrap();
        assert_eq!(valid(&store, &path).await.registration_time, first.registration_time + 1, "{journal}");
        writer.execute("delete from ValidPaths where path = ?1", [StoreDir::default().join(&other)]).unwrap();
        assert_eq!(store.path_info(other.hash()).await.unwrap(), None, "{journal}");
    }
    assert!(metrics.database_took.count() > 5, "{}", metrics.database_took.count());
    assert_eq!(store.size().await.unwrap(), valid(&store, &path).await.info.nar_size, "the other one is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_of_all_ages_are_read() {
    let host = Host::with_store();
    let store = host.open().await;
    let database = host.state().join("db/db.sqlite");
    let hash = StoreHash::new([5; 20]);
    let columns = ["", "ultimate integer,", "ultimate integer, sigs text,", "ultimate integer, sigs text, ca text,"];
    for columns in columns {
        std::fs::remove_file(&database).unwrap();
        let writer = Connection::open(&database).unwrap();
        writer
            .execute_batch(&format!(
                "create table ValidPaths (id integer primary key autoincrement not null, path text unique not null, \
                 hash text not null, registrationTime integer not null, deriver text, {columns} narSize integer);
                 create table Refs (referrer integer not null, reference integer not null, \
                 primary key (referrer, reference));
                 insert into ValidPaths (path, hash, registrationTime, narSize, deriver) values \
                 ('/nix/store/{hash}-old', 'sha256:{}', 7, 112, '/nix/store/{hash}-old.drv');
                 insert into Refs values (1, 1);",
                "1".repeat(64)
            ))
            .unwrap();
        let info = store.path_info(hash).await.unwrap().expect("there");
        assert_eq!(info.info.deriver.as_ref().unwrap().name(), "old.drv");
        assert_eq!(info.info.references, std::slice::from_ref(&info.info.path));
        assert!(!info.ultimate && info.info.signatures.is_empty() && info.info.ca.is_none());
        if columns.contains("ca text") {
            writer
                .execute_batch(&format!(
                    "update ValidPaths set ultimate = 1, sigs = 'nonsense k-1:{}==', ca = 'fixed:r:sha256:{}'",
                    "A".repeat(86),
                    "0".repeat(64)
                ))
                .unwrap();
            let info = store.path_info(hash).await.unwrap().expect("there");
            assert!(info.ultimate && info.info.ca.is_some());
            assert_eq!(info.info.signatures.len(), 1, "what is no signature is left out");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_records_are_errors_and_not_absent_paths() {
    let host = Host::with_store();
    let path = host.add_text("a", "x");
    let store = host.open().await;
    let writer = Connection::open(host.state().join("db/db.sqlite")).unwrap();
    for (damage, part) in [
        ("narSize = null", "field narSize is missing"),
        ("narSize = 0", "field narSize is missing"),
        ("hash = 'sha256:xyz'", "malformed sha256 hash"),
    ] {
        writer.execute_batch(&format!("update ValidPaths set {damage}")).unwrap();
        let error = store.path_info(path.hash()).await.unwrap_err();
        assert!(matches!(error, StoreError::Record { .. }), "{error:?}");
        assert!(error.to_string().contains(part) && error.to_string().contains("-a: "), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_instead_of_a_database_falls_back_or_is_an_error() {
    let host = Host::with_store();
    let store = host.open().await;
    let database = host.state().join("db/db.sqlite");
    std::fs::write(&database, "this is no database, whatever its name says").unwrap();
    let error = store.path_info(StoreHash::new([1; 20])).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreadable { .. }), "{error:?}");
    assert!(error.to_string().contains("not a database"), "{error}");
    std::fs::remove_file(&database).unwrap();
    std::fs::create_dir(&database).unwrap();
    let error = store.path_info(StoreHash::new([1; 20])).await.unwrap_err();
    assert!(error.to_string().contains("not a regular file"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_daemon_gives_the_same_answers() {
    let host = Host::with_store();
    let dependency = host.add_text("dependency", "x");
    let expression =
        format!("builtins.toFile \"text\" \"${{builtins.storePath {}}}\"", StoreDir::default().join(&dependency));
    let text = host.nix("nix-instantiate", &["--eval", "--read-write-mode", "--expr", &expression]);
    let text = StoreDir::default().parse(text.trim_matches('"')).unwrap();
    host.sign(&text);
    let store = host.open().await;
    let expected = valid(&store, &text).await;
    assert_eq!((expected.info.references.len(), expected.info.signatures.len()), (1, 1));

    let daemon = host.daemon();
    // The same store, but this one cannot find the database.
    let options = StoreOptions { state_dir: "/elsewhere".into(), daemon_socket: Some(host.socket()), ..host.options() };
    let by_daemon = Store::open(options).await.unwrap();
    assert_eq!(by_daemon.check().await.unwrap(), Access::Daemon);
    assert_eq!(valid(&by_daemon, &text).await, expected);
    assert_eq!(by_daemon.path_info(StoreHash::new([1; 20])).await.unwrap(), None);
    assert!(nar(&by_daemon, &text).await.unwrap() == host.dump(&host.real(&text)));
    let new = host.add_text("new", "x");
    assert_eq!(valid(&by_daemon, &new).await.info.path, new);

    // A restart is not noticed.
    daemon.kill_connections();
    drop(daemon);
    let error = by_daemon.path_info(new.hash()).await.unwrap_err();
    assert!(matches!(error, StoreError::Missing { .. }), "{error:?}");
    let daemon = host.daemon();
    assert_eq!(valid(&by_daemon, &new).await.info.path, new);
    drop(daemon);
}

/// Runs the test `name` again as the user `nobody`, with the store of `host` in `PEERNIX_TEST_ROOT`. The database cannot be
/// read or written by root alone, because root may do anything.
fn as_nobody(host: &Host, name: &str) {
    if !::nix::unistd::geteuid().is_root() {
        panic!("this test needs root: it makes a store of root's and reads it as an ordinary user");
    }
    std::fs::set_permissions(host.directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    // The program may be where only root can go.
    let program = host.path("test-program");
    // By a process of its own: what this one has open for writing, a child that another test starts at this moment holds for
    // a moment longer, and the kernel starts no program that somebody may write ("Text file busy").
    let copied =
        Command::new("install").args(["-m", "755"]).arg(std::env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(program)
        .args(["--exact", &format!("store::tests::access::{name}"), "--ignored", "--nocapture"])
        .env("PEERNIX_TEST_ROOT", host.directory.path())
        .output()
        .expect("setpriv (Debian: util-linux)");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

/// The store that root made, for a test that runs as `nobody`.
async fn of_root() -> (Store, Vec<StorePath>) {
    assert!(!::nix::unistd::geteuid().is_root());
    let directory = PathBuf::from(std::env::var_os("PEERNIX_TEST_ROOT").expect("run by another test"));
    let paths = std::fs::read_to_string(directory.join("paths")).unwrap();
    let root = directory.join("root");
    assert!(std::fs::write(root.join("nix/var/nix/db/x"), "").is_err(), "it is root's");
    let store = Store::open(StoreOptions { root, ..StoreOptions::default() }).await.unwrap();
    (store, paths.lines().map(|path| path.parse().unwrap()).collect())
}

#[tokio::test]
#[ignore = "run as nobody by the test after it"]
async fn nobody_reads_the_database_beside_a_writer() {
    let (store, paths) = of_root().await;
    assert_eq!(store.check().await.unwrap(), Access::Database);
    assert_eq!(paths.len(), 2);
    for path in paths {
        assert_eq!(valid(&store, &path).await.info.path, path);
        assert!(!nar(&store, &path).await.unwrap().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_user_reads_beside_a_writer() {
    let host = Host::with_store();
    let first = host.add_text("first", "x");
    // Whoever has the database open keeps the files of the write-ahead log there, and what is in them only.
    let writer = Connection::open(host.state().join("db/db.sqlite")).unwrap();
    writer.execute_batch("pragma journal_mode = wal; pragma wal_autocheckpoint = 0; create table kept (x)").unwrap();
    let second = host.add_text("second", "x");
    std::fs::write(host.path("paths"), format!("{first}\n{second}\n")).unwrap();
    as_nobody(&host, "nobody_reads_the_database_beside_a_writer");
    drop(writer);
}

#[tokio::test]
#[ignore = "run as nobody by the test after it"]
async fn nobody_gets_answers() {
    let (store, paths) = of_root().await;
    for path in paths {
        assert_eq!(valid(&store, &path).await.info.path, path);
        assert!(!nar(&store, &path).await.unwrap().is_empty());
    }
}

#[tokio::test]
#[ignore = "run as nobody by the test after it"]
async fn nobody_asks_the_daemon() {
    let (store, paths) = of_root().await;
    assert_eq!(store.check().await.unwrap(), Access::Daemon);
    for path in paths {
        assert_eq!(valid(&store, &path).await.info.path, path);
        assert!(!nar(&store, &path).await.unwrap().is_empty());
    }
}

#[tokio::test]
#[ignore = "run as nobody by the test after it"]
async fn nobody_is_told_what_to_do() {
    let (store, paths) = of_root().await;
    let error = store.path_info(paths[0].hash()).await.unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, StoreError::Unreadable { .. }), "{message}");
    for part in ["db.sqlite: ", "start nix-daemon", "read access"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(message.contains("readonly database") || message.contains("Permission denied"), "{message}");
}

#[tokio::test]
#[ignore = "run as nobody by the test after it"]
async fn nobody_is_told_that_the_daemon_shuts_nobody_out() {
    let (store, paths) = of_root().await;
    let message = store.path_info(paths[0].hash()).await.unwrap_err().to_string();
    for part in ["hangs up on the user nobody", "`allowed-users`", "`extra-allowed-users = nobody`", "read access"] {
        assert!(message.contains(part), "{message}");
    }
    assert!(!message.contains("or start nix-daemon"), "it runs: {message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_serves_others_alone_is_named_as_the_cause() {
    let host = Host::with_store();
    let path = host.add_text("a", "x");
    std::fs::write(host.path("paths"), format!("{path}\n")).unwrap();
    std::fs::set_permissions(host.state().join("db"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let conf = std::fs::read_to_string(host.path("conf/nix.conf")).unwrap();
    std::fs::write(host.path("conf/nix.conf"), format!("{conf}allowed-users = root\n")).unwrap();
    let daemon = host.daemon();
    as_nobody(&host, "nobody_is_told_that_the_daemon_shuts_nobody_out");
    drop(daemon);
    // Allowed by the very line that the message names.
    std::fs::write(host.path("conf/nix.conf"), format!("{conf}allowed-users = root\nextra-allowed-users = nobody\n"))
        .unwrap();
    let daemon = host.daemon();
    as_nobody(&host, "nobody_asks_the_daemon");
    drop(daemon);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ordinary_user_reads_what_nobody_has_open_and_asks_the_daemon_for_what_it_may_not_read() {
    let host = Host::with_store();
    let path = host.add_text("a", "x");
    std::fs::write(host.path("paths"), format!("{path}\n")).unwrap();
    // Nix before 2.22 takes the files of the write-ahead log away with it: then SQLite would have to write to read.
    let header = std::fs::read(host.state().join("db/db.sqlite")).unwrap();
    assert_eq!(header[18..20], [2, 2], "the database is in write-ahead mode");
    assert!(!host.state().join("db/db.sqlite-wal").exists());
    as_nobody(&host, "nobody_gets_answers");
    let daemon = host.daemon();
    // Whoever has it open makes them again: then it is read in the usual way.
    as_nobody(&host, "nobody_gets_answers");
    std::fs::set_permissions(host.state().join("db"), std::fs::Permissions::from_mode(0o700)).unwrap();
    as_nobody(&host, "nobody_asks_the_daemon");
    drop(daemon);
    as_nobody(&host, "nobody_is_told_what_to_do");
}
