//! Reading the configuration again: what was in force stays, or what is complete counts. Nothing in between.

use super::*;
use crate::peers::NodeKey;
use nix::unistd::{Uid, chown};
use proptest::prelude::*;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

/// What happens to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    Gone,
    LinkToNowhere,
    NotAFile,
    NotText,
    OtherOwner,
    /// So many hundredths of it are there when it is read; the rest follows.
    HalfWritten(usize),
}

/// Configurations that differ in what they let out and in.
fn text() -> impl Strategy<Value = String> {
    let policy = proptest::sample::select(vec!["off", "signed", "signed+own"]);
    // Own builds go to enrolled machines only.
    let fleet = format!("[fleet]\nmode = \"static\"\nnodes = [\"{}\"]\n", NodeKey::from_seed([1; 32]).id());
    let trust = proptest::sample::select(vec!["", "[trust]\npublic_keys = []\n"]);
    (policy, trust).prop_map(move |(policy, trust)| format!("{trust}{fleet}[share]\npolicy = \"{policy}\"\n"))
}

fn fault() -> impl Strategy<Value = Fault> {
    use Fault::{Gone, HalfWritten, LinkToNowhere, None, NotAFile, NotText, OtherOwner};
    prop_oneof![
        proptest::sample::select(vec![None, Gone, LinkToNowhere, NotAFile, NotText, OtherOwner]),
        (0..100_usize).prop_map(HalfWritten),
    ]
}

/// A file that nobody has touched for long.
fn write(file: &Path, text: impl AsRef<[u8]>) {
    fs::write(file, text).unwrap();
    File::options().write(true).open(file).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_reload_never_opens_more_than_a_file_that_is_complete(old in text(), new in text(), fault in fault()) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        write(&file, &old);
        let in_force = Config::load(Some(&file)).unwrap();
        fs::remove_file(&file).unwrap();
        let mut writer = None;
        match fault {
            Fault::None => write(&file, &new),
            Fault::Gone => {}
            Fault::LinkToNowhere => std::os::unix::fs::symlink("nowhere", &file).unwrap(),
            Fault::NotAFile => fs::create_dir(&file).unwrap(),
            Fault::NotText => write(&file, [new.as_bytes(), b"\xff"].concat()),
            Fault::OtherOwner => {
                write(&file, &new);
                // Only root gives files away; for others there is nothing to try here.
                if chown(&file, Some(Uid::from_raw(54_321)), None).is_err() {
                    return Ok(());
                }
            }
            Fault::HalfWritten(hundredths) => {
                fs::write(&file, &new[..new.len() * hundredths / 100]).unwrap();
                let (file, new) = (file.clone(), new.clone());
                writer = Some(thread::spawn(move || {
                    thread::sleep(SETTLED / 4);
                    fs::write(file, new).unwrap();
                }));
            }
        }
        let outcome = in_force.load_again();
        if let Some(writer) = writer {
            writer.join().unwrap();
        }
        match (fault, outcome) {
            (Fault::None | Fault::HalfWritten(_), Ok(config)) => {
                let complete = Config::from_text(&new, Some(&file)).unwrap();
                prop_assert_eq!(Config { owner: None, ..config }, complete);
            }
            (Fault::None | Fault::HalfWritten(_), Err(error)) => prop_assert!(false, "{}", error),
            (_, Ok(config)) => prop_assert!(false, "{:?} was taken for {:?}", fault, config.share.policy),
            (_, Err(error)) => {
                prop_assert!(error.to_string().contains(&file.display().to_string()), "{}", error);
                let is_gone = matches!(error, ConfigError::Gone(_));
                prop_assert_eq!(is_gone, matches!(fault, Fault::Gone | Fault::LinkToNowhere));
            }
        }
    }
}

#[test]
fn a_file_that_is_written_all_the_time_is_not_taken() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config.toml");
    write(&file, "[share]\npolicy = \"off\"\n");
    let in_force = Config::load(Some(&file)).unwrap();
    let stop = AtomicBool::new(false);
    // As of now it is being written.
    fs::write(&file, "").unwrap();
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Relaxed) {
                fs::write(&file, "").unwrap();
                thread::sleep(SETTLED_LOOK / 2);
            }
        });
        let outcome = in_force.load_again();
        stop.store(true, Relaxed);
        outcome
    });
    let error = outcome.unwrap_err();
    assert!(matches!(error, ConfigError::Unsettled(_)), "{error}");
}

#[test]
fn where_there_was_no_file_the_usual_places_are_looked_at() {
    assert_eq!(Config::default().load_again().unwrap().origin, Config::usual_file());
}
