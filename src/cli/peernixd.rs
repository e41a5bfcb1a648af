//! The command line of `peernixd`.

use super::{exit, output};
use crate::config::{self, Config, ConfigError};
use crate::daemon;
use crate::peers::KEY_FILE;
use crate::system::directories::Directories;
use crate::system::notify::Notifier;
use crate::system::{journal, sockets};
use clap::Parser;
use std::path::PathBuf;
use std::process::ExitCode;

/// Shares the Nix store of this machine with others, and fetches from theirs.
#[derive(Debug, Parser)]
#[command(name = "peernixd", version, after_help = AFTER_HELP)]
pub struct Args {
    /// Read this configuration instead of the one at the usual place
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Say what is wrong with the configuration, and end
    #[arg(long, group = "instead")]
    pub check_config: bool,
    /// Print every section and key with its meaning and default, and end
    #[arg(long, group = "instead")]
    pub print_default_config: bool,
    /// Print the identity of this machine, which others list as a node, and end
    #[arg(long, group = "instead")]
    pub print_node_id: bool,
}

const AFTER_HELP: &str = "\
Without --config, /etc/peernix/config.toml is read if it exists, else $XDG_CONFIG_HOME/peernix/config.toml; no file is fine.
Exit codes: 64 usage, 69 a port is taken, 70 another failure, 73 a directory cannot be made,
77 a file that this user may not use, 78 wrong configuration.";

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let args = match exit::arguments(exit::USAGE) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let chain = output::chain(&error);
            match error.downcast_ref::<ConfigError>() {
                // One problem a line, each naming its file: nothing to put in front.
                Some(problems) => output::complain(&problems.to_string()),
                None => output::complain(&format!("peernixd: {chain}")),
            }
            // For `systemctl status` and `peernixctl status`, which have nobody else to ask.
            Notifier::from_environment().force_status(&format!("peernixd cannot start: {chain}"));
            if exit::is_permanent(&error) {
                sockets::turn_away();
            }
            exit::of(&error)
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    if args.print_default_config {
        return Ok(output::print(config::EXAMPLE)?);
    }
    if args.print_node_id {
        let directories = Directories::find()?;
        // What root makes in the service's directory, the service could not read.
        if !directories.state.join(KEY_FILE).exists() {
            directories.is_own()?;
        }
        let (key, _) = daemon::node_key(&directories)?;
        return Ok(output::print(&format!("{}\n", key.id()))?);
    }
    let config = Config::load(args.config.as_deref())?;
    if args.check_config {
        return Ok(output::print(&summary(&config))?);
    }
    journal::start(config.log.level);
    daemon::run(config, &Directories::find()?)
}

/// What is to be known about a configuration that is right.
fn summary(config: &Config) -> String {
    let origin =
        config.origin.as_ref().map_or_else(|| "no file, all defaults".to_owned(), |file| file.display().to_string());
    let trusted = config.trusted_keys();
    let mut text = format!("ok: {origin}\n");
    for notice in &trusted.notices {
        text.push_str(&format!("note: {notice}\n"));
    }
    let names: Vec<String> = trusted.keys.iter().map(|key| output::tame(key.name())).collect();
    text.push_str(&format!("trusted keys: {} (from {})\n", names.join(", "), trusted.origin));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
        assert!(Args::try_parse_from(["peernixd", "--check-config", "--print-node-id"]).is_err());
        assert!(Args::try_parse_from(["peernixd", "--check-config", "--config", "c.toml"]).is_ok());
    }

    #[test]
    fn a_summary_names_the_keys() {
        let text = format!("[trust]\npublic_keys = [\"{}\"]\n", config::CACHE_NIXOS_ORG_KEY);
        let config = Config::from_text(&text, Some("/c.toml".as_ref())).unwrap();
        assert_eq!(summary(&config), "ok: /c.toml\ntrusted keys: cache.nixos.org-1 (from [trust] public_keys)\n");
    }
}
