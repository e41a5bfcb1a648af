//! The command line of `peernixctl`.

use super::connect::{self, Route, Start, Transport};
use super::failure::{Doing as _, Done, Failure};
use super::output::{JsonForm, Screen};
use super::verbs::{self, Verb};
use super::{agent, exit, generate};
use clap::{CommandFactory as _, Parser, ValueEnum};
use std::io::IsTerminal as _;
use std::process::ExitCode;

/// Looks at the Peernix of this machine and tells it what to do.
#[derive(Debug, Parser)]
#[command(name = "peernixctl", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Args {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Common options")]
struct Global {
    /// Print JSON, which is the stable interface; the text is for people and may change
    #[arg(long, global = true, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    json: Option<JsonArgument>,
    /// Print JSON: indented on a terminal, else on one line
    #[arg(short = 'j', global = true, conflicts_with = "json")]
    j: bool,
    /// Print neither headers nor footers of tables
    #[arg(long, global = true)]
    no_legend: bool,
    /// Do not send long texts through a pager
    #[arg(long, global = true)]
    no_pager: bool,
    /// Ask nobody for a password
    #[arg(long, global = true)]
    no_ask_password: bool,
    /// Do not cut texts to the width of the terminal
    #[arg(short = 'l', long, global = true)]
    full: bool,
    /// Print results and errors only
    #[arg(short, long, global = true)]
    quiet: bool,
    /// On which way to speak with the service
    #[arg(long, global = true, value_name = "WAY", value_enum, default_value_t, hide_possible_values = false)]
    transport: Transport,
    /// Speak with the service of another machine, over ssh
    #[arg(short = 'H', long, global = true, value_name = "[USER@]HOST")]
    host: Option<String>,
}

/// The forms of `--json`; systemd's tools have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum JsonArgument {
    /// On one line
    Short,
    /// Indented
    Pretty,
    /// Text instead
    Off,
    #[value(hide = true)]
    Auto,
}

const AFTER_HELP: &str = "\
Without a command, `status` is shown. `peernixctl help COMMAND` and the man page peernixctl(1) tell more.
Exit codes: 0 done, 1 it did not work, 2 usage, 3 peernixd does not run or the peer is offline,
            4 no such object, 5 permission denied, 130 interrupted.";

/// The command line, for completions, man pages and tests.
pub(super) fn command() -> clap::Command {
    Args::command()
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => {
            // Help and version come this way too, on stdout.
            let _ = error.print();
            return if error.use_stderr() { exit::CTL_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell().into(),
    }
}

fn run(args: Args) -> Done<()> {
    let Args { global, verb } = args;
    let auto = || if std::io::stdout().is_terminal() { JsonForm::Pretty } else { JsonForm::Short };
    let json = match (global.json, global.j) {
        (Some(JsonArgument::Auto), _) | (None, true) => auto(),
        (Some(JsonArgument::Short), _) => JsonForm::Short,
        (Some(JsonArgument::Pretty), _) => JsonForm::Pretty,
        (Some(JsonArgument::Off) | None, _) => JsonForm::Off,
    };
    let mut screen = Screen::of_process(json, !global.no_pager);
    screen.legend = !global.no_legend;
    screen.quiet = global.quiet;
    screen.full = global.full;
    let verb = verb.unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::other("start", error))?;
    let route = Route { transport: global.transport, host: global.host };
    let ask = !global.no_ask_password && route.host.is_none() && route.transport != Transport::Varlink;
    let done = runtime.block_on(dispatch(verb, &route, ask, &screen));
    // What reads stdin for the bridge may wait for ever.
    runtime.shutdown_background();
    done
}

/// The verbs that need no service are done here; all others get it as [`crate::control::Control`].
async fn dispatch(verb: Verb, route: &Route, ask: bool, screen: &Screen) -> Done<()> {
    match verb {
        Verb::Status => verbs::status::run(route.connect(Start::Never).await, route, screen).await,
        Verb::Verify => verbs::verify::run(route.connect(Start::Never).await, route, screen).await,
        Verb::Version => verbs::status::version(route.connect(Start::Never).await.ok(), screen).await,
        Verb::Completion { shell } => generate::completion(shell, screen),
        Verb::Generate { directory } => generate::everything(&directory),
        Verb::Bridge { never_start } => {
            let start = if never_start { Start::Never } else { Start::Allowed };
            connect::bridge(start).await.doing("reach the service")
        }
        Verb::Complete { what } => {
            // Nobody who presses Tab wants to read of errors.
            if let Ok(control) = route.connect(Start::Never).await {
                generate::candidates(&*control, what, screen).await;
            }
            Ok(())
        }
        verb => {
            let start = if verb.may_start() { Start::Allowed } else { Start::Never };
            let control = route.connect(start).await.doing("reach the service")?;
            let _agent = if ask && verb.changes() { agent::start().await } else { None };
            verbs::run(verb, &*control, route.host.is_none(), screen).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        command().debug_assert();
        let parse = |words: &[&str]| Args::try_parse_from([&["peernixctl"], words].concat());
        assert!(parse(&["peers", "--json"]).is_ok_and(|args| args.global.json == Some(JsonArgument::Auto)));
        assert!(parse(&["--json=short", "status"]).is_ok_and(|args| args.global.json == Some(JsonArgument::Short)));
        assert!(parse(&["-j", "--json=off"]).is_err());
        assert!(
            parse(&["peers", "--state", "online"]).is_ok() && parse(&["peers", "list", "--state", "online"]).is_ok()
        );
        assert!(parse(&["pin", "x", "--for", "2d", "--until", "2030-01-01"]).is_err());
        assert!(parse(&["completions", "zsh"]).is_ok() && parse(&["is-online", "tower", "-q"]).is_ok());
        assert!(parse(&["log-level", "loud"]).is_err() && parse(&["fetch"]).is_err());
    }
}
