//! What every verb shows, as text and as JSON, and how it fails.

use super::sample::sample;
use super::{golden, kept, unkept};
use crate::cli::connect::{Route, Transport};
use crate::cli::error::VerbError;
use crate::cli::exit;
use crate::cli::output::{JsonForm, Screen};
use crate::cli::verbs::{self, Verb};
use crate::control::stub::{BASH, HELLO};
use crate::control::{Control, ErrorKind};
use clap::{FromArgMatches as _, Subcommand as _};
use serde_json::Value;
use std::sync::Arc;

/// Runs a verb with the service that is made up; returns what was shown and the exit code.
async fn run(words: &[&str], screen: &Screen) -> u8 {
    let command = Verb::augment_subcommands(clap::Command::new("peernixctl").no_binary_name(true));
    let verb = Verb::from_arg_matches(&command.try_get_matches_from(words).unwrap()).unwrap();
    let control: Arc<dyn Control> = Arc::new(sample());
    let route = Route { transport: Transport::Auto, host: Some("elsewhere".to_owned()), may_ask: true };
    let done = match verb {
        Verb::Status => verbs::status::run(Ok(control), &route, screen).await,
        Verb::Version => verbs::status::version(Some(control), screen).await,
        Verb::Doctor => verbs::doctor::run(Ok(control), &route, screen).await,
        Verb::Explain(args) if args.finding().is_some() => verbs::explain::word(args.finding().unwrap(), screen),
        Verb::Tune(args) => verbs::tune::run(&args, screen),
        Verb::Link(args) if !args.needs_service() => verbs::link::plan(&args, screen),
        Verb::Complete { what } => {
            verbs::completion::candidates(&*control, what, false, screen).await;
            Ok(())
        }
        verb => verbs::run(verb, &*control, false, screen).await,
    };
    done.map_or_else(|failure| failure.tell(), |()| 0)
}

/// Every call: its golden file, its words, its exit code.
const CALLS: [(&str, &[&str], u8); 68] = [
    ("status", &["status"], 0),
    ("version", &["version"], 0),
    ("doctor", &["doctor"], 0),
    ("explain-word", &["explain", "peer-not-reached"], 0),
    ("explain-path", &["explain", HELLO], 0),
    ("explain-nothing", &["explain", "moon-full"], exit::CTL_USAGE),
    ("peers", &["peers"], 0),
    ("peers-list", &["peers", "list", "--state", "online"], 0),
    ("peers-none", &["peers", "--state", "suspect"], 0),
    ("peers-show", &["peers", "show", "tower"], 0),
    ("peers-show-blocked", &["peers", "show", "ccc"], 0),
    ("peers-add", &["peers", "add", "birch:7650"], 0),
    ("peers-forget", &["peers", "forget", "tower"], 0),
    ("peers-block", &["peers", "block", "tower", "--reason", "loud"], 0),
    ("peers-unblock", &["peers", "unblock", "tower"], 0),
    ("peers-ping", &["peers", "ping", "tower", "--count", "2"], 0),
    ("peers-refresh", &["peers", "refresh"], 0),
    ("is-online", &["is-online", "tower"], 0),
    ("is-online-offline", &["is-online", "bbb"], exit::NOT_RUNNING),
    ("query", &["query", HELLO], 0),
    ("query-elsewhere", &["query", BASH], 0),
    ("fetch", &["fetch", HELLO, BASH], exit::FAILURE),
    ("fetch-no-block", &["fetch", HELLO, "--no-block"], 0),
    ("pin", &["pin", HELLO, "--for", "2d"], 0),
    ("pins", &["pins"], 0),
    ("gc", &["gc"], 0),
    ("gc-dry-run", &["gc", "--dry-run", "--max-freed", "1GiB", "--older-than", "30d"], 0),
    ("jobs", &["jobs"], 0),
    ("jobs-list", &["jobs", "list"], 0),
    ("jobs-show", &["jobs", "show", "7"], 0),
    ("jobs-cancel", &["jobs", "cancel", "7"], 0),
    ("keys", &["keys"], 0),
    ("keys-rotate", &["keys", "rotate", "--grace", "30d"], 0),
    ("keys-revoke", &["keys", "revoke", "tower-2"], 0),
    ("keys-export", &["keys", "export"], 0),
    ("trust", &["trust"], 0),
    ("trust-add", &["trust", "add", "a:b", "--comment", "c"], 0),
    ("fleet", &["fleet"], 0),
    ("fleet-init", &["fleet", "init", "--site", "home"], 0),
    ("fleet-invite", &["fleet", "invite"], 0),
    ("fleet-join", &["fleet", "join", "37-4821-9375", "tower:7650"], 0),
    ("fleet-enroll", &["fleet", "enroll", "0000", "--name", "birch", "--valid", "30d"], 0),
    ("fleet-revoke", &["fleet", "revoke", "birch"], 0),
    ("fleet-no-key", &["fleet", "revoke", "nobody"], exit::FAILURE),
    ("stats", &["stats"], 0),
    ("report", &["report"], 0),
    ("report-week", &["report", "--days", "7"], 0),
    ("bench-net", &["bench", "net", "tower"], 0),
    ("link-plan", &["link", "plan", "server", "--interface", "enp3s0"], 0),
    ("link-test-none", &["link", "test", "--interface", "no-such"], exit::FAILURE),
    ("monitor", &["monitor", "--after", "0"], 0),
    ("monitor-kind", &["monitor", "--kind", "reload-failed,reloaded"], 0),
    ("drain", &["drain", "--for", "10min"], 0),
    ("drain-already", &["drain"], 0),
    ("undrain", &["undrain"], 0),
    ("offline", &["offline", "on"], 0),
    ("offline-off", &["offline", "off"], 0),
    ("tune-plan", &["tune", "plan", "--ram", "4GiB", "--cores", "2", "--disk", "120GB"], 0),
    ("tune-plan-mid", &["tune", "plan", "--ram", "16GiB", "--cores", "8", "--disk", "1TB", "--profile", "mid"], 0),
    ("reload", &["reload"], 0),
    ("log-level", &["log-level"], 0),
    ("log-level-set", &["log-level", "debug"], 0),
    ("no-peer", &["peers", "show", "nobody"], exit::NO_SUCH),
    ("no-answer", &["peers", "ping", "birch"], exit::NOT_RUNNING),
    ("denied", &["stats", "reset"], exit::DENIED),
    ("usage", &["query", "/etc/passwd"], exit::CTL_USAGE),
    ("no-pin", &["unpin", BASH], exit::NO_SUCH),
    ("failed", &["keys", "rotate"], exit::FAILURE),
];

#[tokio::test]
async fn every_verb_as_text() {
    for (name, words, code) in CALLS {
        let (screen, out) = kept(JsonForm::Off);
        assert_eq!(run(words, &screen).await, code, "{words:?}");
        let text = unkept(&out).replace(env!("CARGO_PKG_VERSION"), "0.1.0");
        let steering = text.chars().find(|c| c.is_control() && *c != '\n' || *c == '\u{202e}');
        assert_eq!(steering, None, "{name}: {text}");
        assert!(text.lines().all(|line| line.trim_end() == line), "{name}: blanks at the end of a line");
        golden(&format!("ctl/{name}.txt"), &text);
    }
}

#[tokio::test]
async fn every_verb_as_json() {
    for (name, words, code) in CALLS {
        let (screen, out) = kept(JsonForm::Short);
        assert_eq!(run(words, &screen).await, code, "{words:?}");
        let text = unkept(&out);
        if code != 0 && !["is-online-offline", "fetch"].contains(&name) {
            assert_eq!(text, "", "what failed shows nothing: {name}");
            continue;
        }
        let mut lines = 0;
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{name}: {error}: {line}"));
            assert!(value.is_object() || value.is_array(), "{name}: {line}");
            lines += 1;
        }
        assert!(lines == 1 || ["peers-ping", "monitor", "monitor-kind"].contains(&name), "{name}: {text}");
        // The indented form says the same.
        let (screen, pretty) = kept(JsonForm::Pretty);
        run(words, &screen).await;
        if lines == 1 && !name.starts_with("monitor") {
            let parse = |text: &str| serde_json::from_str::<Value>(text).unwrap();
            assert_eq!(parse(&unkept(&pretty)), parse(&text), "{name}");
        }
    }
}

#[tokio::test]
async fn what_programs_look_for_is_there() {
    let json = |words: &'static [&'static str]| async move {
        let (screen, out) = kept(JsonForm::Short);
        run(words, &screen).await;
        serde_json::from_str::<Value>(&unkept(&out)).unwrap()
    };
    assert_eq!(json(&["status"]).await["peersOnline"], 1);
    assert_eq!(json(&["peers"]).await[0]["latencyUSec"], 420);
    assert_eq!(json(&["is-online", "bbb"]).await["online"], false);
    assert_eq!(json(&["fetch", HELLO]).await["paths"][1]["reason"], "nobody has it");
    assert_eq!(json(&["gc", "-n"]).await["job"]["bytes"], 30 << 20);
    assert_eq!(json(&["keys", "export"]).await.as_array().unwrap().len(), 2);
    assert_eq!(json(&["log-level"]).await["logLevel"], "info");
}

#[tokio::test]
async fn candidates_are_words_and_nothing_else() {
    let (screen, out) = kept(JsonForm::Off);
    assert_eq!(run(&["__complete", "peers"], &screen).await, 0);
    let text = unkept(&out);
    let words: Vec<&str> = text.lines().map(|line| line.split('\t').next().unwrap()).collect();
    // The name with escapes is not offered; the one without a name is, by its id.
    assert_eq!(words, ["tower", &"d".repeat(52)]);
    for what in ["pins", "jobs", "keys", "trusted"] {
        let (screen, out) = kept(JsonForm::Off);
        run(&["__complete", what], &screen).await;
        assert!(!unkept(&out).is_empty(), "{what}");
    }
}

#[tokio::test]
async fn quiet_is_quiet_and_legends_can_be_left_out() {
    let (mut screen, out) = kept(JsonForm::Off);
    screen.quiet = true;
    run(&["undrain"], &screen).await;
    run(&["is-online", "tower"], &screen).await;
    assert_eq!(unkept(&out), "");
    let (mut screen, out) = kept(JsonForm::Off);
    screen.legend = false;
    run(&["pins"], &screen).await;
    let text = unkept(&out);
    assert!(text.lines().count() == 2 && !text.contains("REASON"), "{text}");
}

#[test]
fn every_kind_of_error_has_a_code_and_ends_in_words() {
    for kind in ErrorKind::ALL {
        let error = crate::control::ControlError::new(*kind, "");
        let code = VerbError::Control { doing: "test".to_owned(), error }.tell();
        assert_eq!(code, exit::of_kind(*kind));
        assert!((1..=5).contains(&code), "{kind:?}: {code}");
    }
    assert_eq!(VerbError::Closed.tell(), 0);
}

#[tokio::test]
async fn who_has_read_enough_ends_it_quietly() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let screen = Screen::kept(JsonForm::Short, crate::cli::output::Clock::standing(0), Box::new(Full));
    for words in [&["monitor"][..], &["peers"]] {
        assert_eq!(run(words, &screen).await, 0, "{words:?}");
    }
}
