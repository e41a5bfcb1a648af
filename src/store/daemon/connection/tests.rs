//! A scripted daemon for what the installed one does not do: other versions, log messages, errors, nonsense.

use super::*;
use crate::store::daemon::frames::*;
use crate::store::daemon::operations::{Collected, Collection, Missing};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

const HASH: &str = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi";

/// Bytes as a daemon writes them.
#[derive(Default, Clone)]
struct Script(Vec<u8>);

impl Script {
    fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_le_bytes());
        self
    }

    fn string(mut self, text: &str) -> Self {
        self = self.number(text.len() as u64);
        self.0.extend_from_slice(text.as_bytes());
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        self
    }

    fn greeting(version: u64) -> Self {
        let mut script = Self::default().number(SERVER_MAGIC).number(version);
        if version >= 0x126 {
            script = script.number(2).string("a-feature").string("another");
        }
        if version >= 0x121 {
            script = script.string("2.x");
        }
        if version >= 0x123 {
            script = script.number(1);
        }
        script.number(FRAME_LAST)
    }

    fn path_info(self) -> Self {
        self.number(FRAME_LAST)
            .string(&format!("/nix/store/{HASH}-a"))
            .number(FRAME_LAST)
            .number(1)
            .string("")
            .string(&"0".repeat(64))
            .number(2)
            .string(&format!("/nix/store/{HASH}-a"))
            .string("/nix/store/0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-glibc")
            .number(7)
            .number(112)
            .number(1)
            .number(1)
            .string(&format!("k-1:{}==", "A".repeat(86)))
            .string(&format!("fixed:r:sha256:{}", "0".repeat(64)))
    }

    /// Plays the script whatever the client says, and gives back what that was.
    fn play(self) -> (DuplexStream, tokio::task::JoinHandle<Vec<u8>>) {
        let (client, mut daemon) = tokio::io::duplex(64 * 1024);
        let played = tokio::spawn(async move {
            daemon.write_all(&self.0).await.unwrap();
            let mut said = Vec::new();
            daemon.read_to_end(&mut said).await.unwrap();
            said
        });
        (client, played)
    }
}

async fn ask(script: Script) -> Result<Option<Result<ValidPath, FormatError>>, WireError> {
    let (client, _played) = script.play();
    let mut connection = Connection::greet(client).await?;
    connection.path_info(&StoreDir::default(), HASH.parse().unwrap()).await
}

#[tokio::test]
async fn all_versions_are_spoken() {
    for version in [0x112, 0x115, 0x11a, 0x120, 0x121, 0x122, 0x123, 0x125, 0x126, 0x127, 0x130, 0x1ff] {
        // A daemon speaks as the lower version of both says.
        let mut script = Script::greeting(version.min(VERSION));
        script.0[8..16].copy_from_slice(&version.to_le_bytes());
        let (client, played) = script.path_info().play();
        let mut connection = Connection::greet(client).await.unwrap();
        let dir = StoreDir::default();
        let path = connection.path_info(&dir, HASH.parse().unwrap()).await.unwrap().unwrap().unwrap();
        assert_eq!(path.info.path.name(), "a");
        assert_eq!(path.info.references.iter().map(StorePath::name).collect::<Vec<_>>(), ["glibc", "a"], "sorted");
        assert_eq!((path.registration_time, path.info.nar_size, path.ultimate), (7, 112, true));
        assert_eq!((path.info.signatures.len(), path.info.ca.is_some()), (1, true));
        drop(connection);

        let mut expected = Script::default().number(CLIENT_MAGIC).number(VERSION);
        if version >= 0x126 {
            expected = expected.number(0);
        }
        let expected = expected.number(0).number(0).number(29).string(HASH).number(26);
        let expected = expected.string(&format!("/nix/store/{HASH}-a"));
        assert_eq!(played.await.unwrap(), expected.0, "{version:x}");
    }
}

#[tokio::test]
async fn temp_roots_are_asked_for() {
    let (client, played) = Script::greeting(0x122).number(FRAME_LAST).number(1).play();
    let mut connection = Connection::greet(client).await.unwrap();
    let path: StorePath = format!("{HASH}-a").parse().unwrap();
    connection.add_temp_root(&StoreDir::default(), &path).await.unwrap();
    drop(connection);
    let expected = Script::default().number(11).string(&format!("/nix/store/{HASH}-a"));
    assert!(played.await.unwrap().ends_with(&expected.0));
}

#[tokio::test]
async fn log_messages_are_passed_over() {
    let script = Script::greeting(0x127)
        .number(FRAME_NEXT)
        .string("a line of a log")
        .number(FRAME_START_ACTIVITY)
        .number(1)
        .number(2)
        .number(3)
        .string("an activity")
        .number(2)
        .number(0)
        .number(42)
        .number(1)
        .string("a field")
        .number(0)
        .number(FRAME_RESULT)
        .number(1)
        .number(101)
        .number(1)
        .number(1)
        .string("a line")
        .number(FRAME_STOP_ACTIVITY)
        .number(1)
        .path_info();
    assert!(ask(script).await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn absent_paths_are_none() {
    let none = Script::greeting(0x127).number(FRAME_LAST).string("");
    assert!(ask(none).await.unwrap().is_none());
    let collected =
        Script::greeting(0x127).number(FRAME_LAST).string(&format!("/nix/store/{HASH}-a")).number(FRAME_LAST).number(0);
    assert!(ask(collected).await.unwrap().is_none());
    let another = "/nix/store/0c0v3hcwdw9p9hm1kxnlc8wj8fqx2hjd-another";
    assert!(ask(Script::greeting(0x127).number(FRAME_LAST).string(another)).await.unwrap().is_none());
}

#[tokio::test]
async fn errors_are_the_daemons_own_words() {
    let old = Script::greeting(0x119).number(FRAME_ERROR).string("no such thing").number(1);
    let new = Script::greeting(0x127)
        .number(FRAME_ERROR)
        .string("Error")
        .number(0)
        .string("Error")
        .string("no such thing")
        .number(0)
        .number(1)
        .number(0)
        .string("while looking");
    for script in [old, new] {
        // The connection stays good: the next question is answered.
        let (client, _played) = script.path_info().play();
        let mut connection = Connection::greet(client).await.unwrap();
        let dir = StoreDir::default();
        let refused = connection.path_info(&dir, HASH.parse().unwrap()).await.unwrap_err();
        assert!(matches!(&refused, WireError::Refused(words) if words == "no such thing"), "{refused:?}");
        assert!(connection.path_info(&dir, HASH.parse().unwrap()).await.unwrap().unwrap().is_ok());
    }
}

#[tokio::test]
async fn refused_at_the_door() {
    // As with `allowed-users`: the error comes in place of the end of the greeting.
    let mut script = Script::greeting(0x119);
    script.0.truncate(script.0.len() - 8);
    let script = script.number(FRAME_ERROR).string("user 'x' is not allowed to connect").number(1);
    let refused = ask(script).await.unwrap_err();
    assert!(matches!(&refused, WireError::Refused(words) if words.contains("not allowed")), "{refused:?}");
}

#[tokio::test]
async fn nonsense_is_an_error_and_takes_no_memory() {
    let greeting = || Script::greeting(0x127);
    let scripts = [
        Script::default().number(0x1234).number(0x127),
        Script::default().number(SERVER_MAGIC).number(0x111),
        Script::default().number(SERVER_MAGIC).number(0x227),
        Script::default().number(SERVER_MAGIC).number(0x127).number(u64::MAX),
        greeting().number(0x1234),
        greeting().number(FRAME_NEXT).number(u64::MAX),
        greeting().number(FRAME_START_ACTIVITY).number(1).number(1).number(1).string("").number(u64::MAX),
        greeting().number(FRAME_RESULT).number(1).number(1).number(1).number(7),
        greeting().number(FRAME_LAST).number(u64::MAX),
        greeting().number(FRAME_LAST).number(STRING_OVER),
        greeting().number(FRAME_LAST).number(3).number(0xff_ffff_ffff),
        greeting().number(FRAME_LAST).number(1).number(0xff),
        greeting()
            .number(FRAME_LAST)
            .string(&format!("/nix/store/{HASH}-a"))
            .number(FRAME_LAST)
            .number(1)
            .string("")
            .string("")
            .number(u64::MAX),
        (0..FRAMES_MAX).fold(greeting(), |script, _| script.number(FRAME_NEXT).string("")),
        greeting().number(FRAME_ERROR).string("").number(0).string("").string("").number(0).number(u64::MAX),
    ];
    for (index, script) in scripts.into_iter().enumerate() {
        let error = ask(script).await.unwrap_err();
        assert!(matches!(error, WireError::Protocol(_)), "{index}: {error:?}");
    }
}

const STRING_OVER: u64 = super::super::wire::STRING_MAX + 1;

#[tokio::test]
async fn malformed_records_spoil_no_connection() {
    let script = Script::greeting(0x127);
    let mut bad = Script::default().path_info();
    let digest = bad.0.windows(64).position(|bytes| bytes == [b'0'; 64]).unwrap();
    bad.0[digest] = b'x';
    let script = Script([script.0, bad.0].concat()).path_info();
    let (client, _played) = script.play();
    let mut connection = Connection::greet(client).await.unwrap();
    let dir = StoreDir::default();
    let hash: StoreHash = HASH.parse().unwrap();
    assert!(connection.path_info(&dir, hash).await.unwrap().unwrap().is_err());
    assert!(connection.path_info(&dir, hash).await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn a_cut_at_any_byte_is_an_error() {
    let whole = Script::greeting(0x127).path_info();
    for length in 0..whole.0.len() {
        let (client, mut daemon) = tokio::io::duplex(64 * 1024);
        daemon.write_all(&whole.0[..length]).await.unwrap();
        // Only what it says ends; it still listens.
        daemon.shutdown().await.unwrap();
        let result = async {
            let mut connection = Connection::greet(client).await?;
            connection.path_info(&StoreDir::default(), HASH.parse().unwrap()).await
        };
        let error = result.await.unwrap_err();
        // Within the first word it is as if nobody had answered at all.
        let expected = if length < 8 { matches!(error, WireError::HungUp) } else { matches!(error, WireError::Io(_)) };
        assert!(expected, "{length}: {error:?}");
    }
}

/// Asks a scripted daemon to collect garbage.
async fn collect(script: Script, collection: Collection<'_>) -> (Result<Collected, WireError>, Vec<Message>, Vec<u8>) {
    let (client, played) = script.play();
    let mut connection = Connection::greet(client).await.unwrap();
    let mut told = vec![];
    let collected =
        connection.collect_garbage(&StoreDir::default(), collection, &mut |message| told.push(message)).await;
    drop(connection);
    (collected, told, played.await.unwrap())
}

#[tokio::test]
async fn garbage_is_asked_for_without_ever_ignoring_liveness() {
    let path: StorePath = format!("{HASH}-a").parse().unwrap();
    let full = format!("/nix/store/{path}");
    let script = || {
        let line = format!("deleting '{full}'\n");
        let script = Script::greeting(0x127).number(FRAME_NEXT).string(&line).number(FRAME_LAST);
        script.number(2).string(&full).string("/nix/store/tmp-1234-0").number(4096).number(0)
    };
    let expected = Collected { paths: vec![path.clone()], nameless: 1, bytes: 4096 };
    let these = [path.clone()];
    for (collection, action, names) in
        [(Collection::Find, 1, vec![]), (Collection::All, 2, vec![]), (Collection::These(&these), 3, vec![&full])]
    {
        let (collected, told, said) = collect(script(), collection).await;
        assert_eq!(collected.unwrap(), expected);
        assert_eq!(told, [Message::Line(format!("deleting '{full}'\n"))]);
        let mut request = Script::default().number(20).number(action).number(names.len() as u64);
        for name in names {
            request = request.string(name);
        }
        let request = request.number(0).number(u64::MAX).number(0).number(0).number(0);
        assert!(said.ends_with(&request.0), "{action}");
    }
}

#[tokio::test]
async fn what_is_missing_and_how_far_it_is_are_understood() {
    let path: StorePath = format!("{HASH}-a").parse().unwrap();
    let full = format!("/nix/store/{path}");
    let script = Script::greeting(0x127).number(FRAME_LAST);
    let script = script.number(0).number(1).string(&full).number(1).string(&full).number(7).number(112);
    // Number, level, type, text, fields, parent; then results: progress of 50 out of 112, and one of another type.
    let script = script.number(FRAME_START_ACTIVITY).number(9).number(3).number(COPY_PATH).string("copying");
    let script = script.number(3).number(1).string(&full).number(1).string("x").number(1).string("y").number(0);
    let progress = |script: Script, kind| {
        let script = script.number(FRAME_RESULT).number(9).number(kind).number(4);
        [50, 112, 0, 0].into_iter().fold(script, |script, field| script.number(0).number(field))
    };
    let script = progress(progress(script, 105), 106).number(FRAME_STOP_ACTIVITY).number(9);
    let (client, _played) = script.number(FRAME_LAST).number(1).play();
    let mut connection = Connection::greet(client).await.unwrap();
    let dir = StoreDir::default();
    let missing = connection.missing(&dir, std::slice::from_ref(&path)).await.unwrap();
    assert_eq!(missing, Missing { fetched: vec![path.clone()], download_size: 7, nar_size: 112 });
    let mut told = vec![];
    connection.ensure(&dir, &path, &mut |message| told.push(message)).await.unwrap();
    let start = Message::Start { id: 9, kind: COPY_PATH, subject: full };
    assert_eq!(told, [start, Message::Progress { id: 9, done: 50 }]);
}

#[tokio::test]
async fn answers_that_are_too_long_are_refused() {
    let long = "x".repeat(100_000);
    let lines = Script::greeting(0x127).number(FRAME_NEXT).string(&long).number(FRAME_LAST);
    let (collected, told, _) = collect(lines.number(0).number(0).number(0), Collection::Find).await;
    assert_eq!(collected.unwrap(), Collected::default());
    assert_eq!(told, [Message::Line(String::new())], "nothing of it is kept");
    for script in [
        Script::greeting(0x127).number(FRAME_LAST).number(u64::MAX),
        Script::greeting(0x127).number(FRAME_LAST).number(1).number(u64::MAX),
        Script::greeting(0x127).number(FRAME_NEXT).number(u64::MAX),
        Script::greeting(0x127).number(FRAME_RESULT).number(1).number(105).number(u64::MAX),
    ] {
        let (collected, _, _) = collect(script, Collection::Find).await;
        assert!(matches!(collected, Err(WireError::Protocol(_))), "{collected:?}");
    }
}
