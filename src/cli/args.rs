//! The command line of `peernixctl`.

use super::connect::Transport;
use super::verbs::Verb;
use clap::{CommandFactory as _, Parser, ValueEnum};

/// Looks at the Peernix of this machine and tells it what to do.
#[derive(Debug, Parser)]
#[command(name = "peernixctl", version, max_term_width = 100, after_help = AFTER_HELP)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) global: Global,
    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Common options")]
pub(super) struct Global {
    /// Print JSON, which is the stable interface; the text is for people and may change
    #[arg(long, global = true, value_name = "FORM", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    pub(super) json: Option<JsonArgument>,
    /// Print JSON: indented on a terminal, else on one line
    #[arg(short = 'j', global = true, conflicts_with = "json")]
    pub(super) j: bool,
    /// Print neither headers nor footers of tables
    #[arg(long, global = true)]
    pub(super) no_legend: bool,
    /// Do not send long texts through a pager
    #[arg(long, global = true)]
    pub(super) no_pager: bool,
    /// Ask nobody for a password
    #[arg(long, global = true)]
    pub(super) no_ask_password: bool,
    /// Do not cut texts to the width of the terminal
    #[arg(short = 'l', long, global = true)]
    pub(super) full: bool,
    /// Print results and errors only
    #[arg(short, long, global = true)]
    pub(super) quiet: bool,
    /// On which way to speak with the service
    #[arg(long, global = true, value_name = "WAY", value_enum, default_value_t, hide_possible_values = false)]
    pub(super) transport: Transport,
    /// Speak with the service of another machine, over ssh
    #[arg(short = 'H', long, global = true, value_name = "[USER@]HOST")]
    pub(super) host: Option<String>,
}

/// The forms of `--json`; systemd's tools have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum JsonArgument {
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

Exit codes:
    0  done
    1  it did not work
    2  usage: an argument makes no sense
    3  peernixd does not run, or the peer is offline
    4  there is no such peer, path, pin, job or key
    5  this user may not do that
  130  interrupted";

/// The command line, for completions, man pages and tests.
pub(super) fn command() -> clap::Command {
    Args::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_has_a_line_for_each_exit_code() {
        for (code, meaning) in crate::cli::exit::CTL_CODES {
            assert!(AFTER_HELP.lines().any(|line| line.trim() == format!("{code}  {meaning}")), "{code}: {meaning}");
        }
    }

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
        assert!(parse(&["log-level", "warn"]).is_ok() && parse(&["log-level", "warning"]).is_ok());
    }
}
