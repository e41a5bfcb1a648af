//! Where log messages go: to the journal with their fields, or to stderr as text.
//!
//! Source: [systemd.journal-fields](https://www.freedesktop.org/software/systemd/man/systemd.journal-fields.html) and
//! `$JOURNAL_STREAM` in systemd.exec.
#![forbid(unsafe_code)]

use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::SystemTime;
use systemd_journal_logger::{JournalLog, connected_to_journal};

/// What our own messages are logged under; the rest is from libraries.
const OWN: &str = "peernix";
/// Keys that have the same meaning for every program in the journal, and therefore no prefix.
const COMMON_FIELDS: [&str; 2] = [MESSAGE_ID, "errno"];
/// The key for one of the ids of [`super::message_ids`].
const MESSAGE_ID: &str = "message_id";

/// Sends messages to the journal if stderr is connected to it, else to stderr. Call once, first of all.
///
/// The journal gets each key as a field `PEERNIX_KEY`. On stderr a message is one line with its keys at the end; if stderr
/// is the journal but its socket is out of reach, the line begins with `<N>`, its priority.
pub fn start(level: LevelFilter) {
    let to_journal = connected_to_journal();
    let sink = match JournalLog::new() {
        Ok(journal) if to_journal => Sink::Journal(journal.with_syslog_identifier(program())),
        _ if to_journal => Sink::Stderr(Style::Prefixed),
        _ if io::stderr().is_terminal() => Sink::Stderr(Style::Terminal),
        _ => Sink::Stderr(Style::Plain),
    };
    // A second start finds a logger in place and leaves it; the level is for both.
    let _ = log::set_boxed_logger(Box::new(Logger(sink)));
    set_level(level);
}

/// The name of this program, under which the journal shows what it says.
fn program() -> String {
    let path = std::env::args_os().next().unwrap_or_default();
    let name = std::path::Path::new(&path).file_name();
    name.map_or_else(|| OWN.to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Changes what is logged from now on.
pub fn set_level(level: LevelFilter) {
    log::set_max_level(level);
}

struct Logger(Sink);

enum Sink {
    Journal(JournalLog),
    Stderr(Style),
}

/// How a line on stderr looks.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Style {
    /// For people who look on: the time of day in short.
    Terminal,
    /// For files and other programs.
    Plain,
    /// For the journal, by way of a stream.
    Prefixed,
}

impl Log for Logger {
    /// Libraries are quiet below warnings: what they call information is for their authors. `trace` shows all.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let own = metadata.target().strip_prefix(OWN).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
        own || metadata.level() <= Level::Warn || log::max_level() == LevelFilter::Trace
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        match &self.0 {
            Sink::Journal(journal) => {
                let mut fields = Fields(Vec::new());
                let _ = record.key_values().visit(&mut fields);
                let record = Record::builder()
                    .metadata(record.metadata().clone())
                    .args(*record.args())
                    .module_path(record.module_path())
                    .file(record.file())
                    .line(record.line())
                    .key_values(&fields.0)
                    .build();
                journal.log(&record);
            }
            Sink::Stderr(style) => {
                // One write a line, so that lines of several threads do not mix. Nobody can be told if it fails.
                let _ = io::stderr().write_all(line(record, *style, SystemTime::now()).as_bytes());
            }
        }
    }

    fn flush(&self) {}
}

/// The keys of a message under the names that they have in the journal.
struct Fields<'kvs>(Vec<(String, Value<'kvs>)>);

impl<'kvs> VisitSource<'kvs> for Fields<'kvs> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let name = match key.as_str() {
            common if COMMON_FIELDS.contains(&common) => common.to_owned(),
            own => format!("{OWN}_{own}"),
        };
        self.0.push((name, value));
        Ok(())
    }
}

/// The keys of a message as text behind it.
struct Tail<'a>(&'a mut String);

impl<'kvs> VisitSource<'kvs> for Tail<'_> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        if key.as_str() == MESSAGE_ID {
            // For the journal, which finds more about the message by it; to people it says nothing.
            return Ok(());
        }
        let text = value.to_string();
        // Values come from the network as well: quoted, they cannot pass for other keys or lines.
        let plain = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic() && c != '"');
        let written = if plain { write!(self.0, " {key}={text}") } else { write!(self.0, " {key}={text:?}") };
        written.map_err(Error::from)
    }
}

/// A message as one line.
fn line(record: &Record<'_>, style: Style, now: SystemTime) -> String {
    let mut line = String::with_capacity(160);
    let level = record.level();
    let target = record.target().strip_prefix("peernix::").unwrap_or(record.target());
    // Writing to a String cannot fail.
    let _ = match style {
        Style::Prefixed => write!(line, "<{}>{target}: ", priority(level)),
        Style::Plain => write!(line, "{} {level:5} {target}: ", humantime::format_rfc3339_millis(now)),
        Style::Terminal => {
            let stamp = humantime::format_rfc3339_millis(now).to_string();
            write!(line, "{} {level:5} {target}: ", stamp.get(11..23).unwrap_or(&stamp))
        }
    };
    // A message may repeat a text from the network: it stays on its line and does not steer the terminal.
    line.extend(record.args().to_string().chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }));
    let _ = record.key_values().visit(&mut Tail(&mut line));
    line.push('\n');
    line
}

/// The priority of syslog, which the journal reads from `<N>`. As in [`JournalLog`], so that both ways agree.
const fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 5,
        Level::Debug => 6,
        Level::Trace => 7,
    }
}

#[cfg(test)]
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn one_line_whatever_is_in_it() {
        let pairs = [("peer", "ab12"), ("reason", "two words\n\"x\"")];
        let record = |args| {
            Record::builder().level(Level::Warn).target("peernix::peers::link").args(args).key_values(&pairs).build()
        };
        let epoch = SystemTime::UNIX_EPOCH;
        let text = line(&record(format_args!("gone\u{1b}[31m\nnow")), Style::Plain, epoch);
        assert_eq!(
            text,
            "1970-01-01T00:00:00.000Z WARN  peers::link: gone\u{fffd}[31m\u{fffd}now peer=ab12 \
             reason=\"two words\\n\\\"x\\\"\"\n"
        );
        assert!(line(&record(format_args!("x")), Style::Prefixed, epoch).starts_with("<4>peers::link: x peer="));
        assert!(line(&record(format_args!("x")), Style::Terminal, epoch).starts_with("00:00:00.000 WARN  peers"));
    }

    #[test]
    fn lines_for_systemd_have_their_priority_when_there_is_no_journal() {
        const CHILD: &str = "PEERNIX_TEST_PREFIXED";
        // The first logger counts for the whole process: this test is a process for itself.
        if std::env::var_os(CHILD).is_some() {
            start(LevelFilter::Info);
            log::error!(message_id = "0123", path = "/x"; "broken");
            log::info!("fine");
            return;
        }
        if std::path::Path::new("/run/systemd/journal/socket").exists() {
            eprintln!("SKIPPED: there is a journal here, which gets the messages instead");
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        let stream = file.as_file().metadata().unwrap();
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "system::journal::tests::lines_for_systemd_have_their_priority_when_there_is_no_journal"])
            .env(CHILD, "1")
            // So systemd tells a program that its stderr is read for the journal.
            .env("JOURNAL_STREAM", format!("{}:{}", stream.dev(), stream.ino()))
            .stderr(file.reopen().unwrap())
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let text = std::fs::read_to_string(file.path()).unwrap();
        assert_eq!(text, "<3>system::journal::tests: broken path=/x\n<5>system::journal::tests: fine\n");
    }

    #[test]
    fn keys_become_fields_of_ours() {
        let pairs = [("peer", 1), ("message_id", 2)];
        let record = Record::builder().args(format_args!("")).key_values(&pairs).build();
        let mut fields = Fields(Vec::new());
        record.key_values().visit(&mut fields).unwrap();
        let names: Vec<&str> = fields.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["peernix_peer", "message_id"]);
    }

    #[test]
    fn libraries_are_quiet() {
        let logger = Logger(Sink::Stderr(Style::Plain));
        let enabled = |target, level| logger.enabled(&Metadata::builder().target(target).level(level).build());
        assert!(enabled("peernix::fetch", Level::Debug) && enabled("peernix", Level::Info));
        assert!(!enabled("rustls::client", Level::Info) && !enabled("peernixious", Level::Info));
        assert!(enabled("rustls", Level::Warn));
    }
}
