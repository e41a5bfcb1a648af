//! The man page of `peernixctl`, from its command line.

use super::page::{FILES, heading, options, page, paragraphs, see_also, term};
use crate::cli::{args, exit};
use clap::Command;
use clap_mangen::roff::{Roff, bold, italic, roman};

/// How a command is called, without the common options.
fn usage(command: &mut Command) -> String {
    let usage = command.render_usage().to_string();
    usage.trim_start_matches("Usage: ").replace(" [OPTIONS]", "").trim().to_owned()
}

fn verbs(roff: &mut Roff, command: &mut Command) {
    for verb in command.get_subcommands_mut().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let group = verb.get_subcommands().any(|verb| verb.get_name() != "help");
        let call = if group { verb.get_bin_name().unwrap_or_else(|| verb.get_name()).to_owned() } else { usage(verb) };
        let call = call.trim_start_matches("peernixctl ").to_owned();
        roff.control("SS", [call.as_str()]);
        let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
        roff.text([roman(format!("{about}."))]);
        options(roff, verb, false);
        if group {
            verbs(roff, verb);
        }
    }
}

/// The page.
pub(super) fn tool() -> String {
    let mut command = args::command();
    command.build();
    let mut roff = page("peernixctl", "1", "look at Peernix and tell it what to do");
    heading(&mut roff, "SYNOPSIS");
    roff.text([
        bold("peernixctl"),
        roman(" ["),
        italic("OPTION"),
        roman("...] ["),
        italic("COMMAND"),
        roman(" ["),
        italic("ARGUMENT"),
        roman("...]]"),
    ]);
    heading(&mut roff, "DESCRIPTION");
    paragraphs(&mut roff, TOOL);
    heading(&mut roff, "COMMANDS");
    verbs(&mut roff, &mut command);
    heading(&mut roff, "OPTIONS");
    options(&mut roff, &command, true);
    term(&mut roff, vec![bold("-h"), roman(", "), bold("--help")], "Print help for a command.");
    term(&mut roff, vec![bold("-V"), roman(", "), bold("--version")], "Print the version of this program.");
    heading(&mut roff, "EXIT STATUS");
    for (code, meaning) in exit::CTL_CODES {
        term(&mut roff, vec![bold(code.to_string())], &format!("{meaning}."));
    }
    heading(&mut roff, "ENVIRONMENT");
    for (names, meaning) in ENVIRONMENT {
        let names = names.split(' ').enumerate();
        let names = names.flat_map(|(index, name)| [roman(if index > 0 { ", " } else { "" }), bold(name)]);
        term(&mut roff, names.collect(), meaning);
    }
    heading(&mut roff, "FILES");
    for (file, meaning) in FILES {
        term(&mut roff, vec![italic(file)], meaning);
    }
    heading(&mut roff, "EXAMPLES");
    for (text, example) in EXAMPLES {
        paragraphs(&mut roff, &format!("{text}\n\n    {example}"));
    }
    see_also(
        &mut roff,
        &["peernixd(8)", "peernix.toml(5)", "org.peernix.Peernix1(5)", "org.peernix.varlink(7)", "journalctl(1)"],
    );
    roff.to_roff()
}

const TOOL: &str = "\
Shows how the Peernix of this machine is, and tells it what to do. Without a command, status is shown.

It speaks with peernixd(8) over D-Bus, and over Varlink when the service is not on the bus. Everybody may ask; what changes \
something takes the rights of root, of the group peernix-admin (Varlink), or what polkit allows (D-Bus). The commands status, \
is-online, verify and version never start the service.

Peers are named by their id, by a beginning of it that only one has, or by a name that only one has. Store paths are named in \
full, by their base name, by their hash if they are in this machine's store, or by a link such as ./result.

Commands that take their time (fetch, gc) show how they go on while stderr is a terminal. Ctrl-C ends only the waiting: the job \
belongs to the service and goes on; peernixctl jobs cancel ends it.

With --json results are printed as JSON: names in camelCase, times in microseconds since 1970 (...Timestamp) or as durations in \
microseconds (...USec), sizes in bytes. This form is stable; the text is for people and may change.";

const ENVIRONMENT: [(&str, &str); 4] = [
    (
        "SYSTEMD_COLORS NO_COLOR CLICOLOR CLICOLOR_FORCE",
        "Whether there are colours; without them, there are on a terminal.",
    ),
    ("SYSTEMD_PAGER PAGER", "The pager for long texts on a terminal; empty or cat for none. Else less or more."),
    ("SYSTEMD_LESS", "Options for less instead of FRSXMK."),
    ("NIX_STORE_DIR", "Where the store is in which paths are looked up by their hash."),
];

const EXAMPLES: [(&str, &str); 6] = [
    ("Which machines are there, and how fast are they?", "peernixctl peers"),
    ("Why does nobody get this path from here?", "peernixctl query ./result"),
    ("Get a system into the store before it is needed:", "peernixctl fetch /nix/store/HASH-nixos-system-tower-26.05"),
    ("What would go if everything older than a month did?", "peernixctl gc --dry-run --older-than 30d"),
    ("Sign with a new key; the one before goes on for a month:", "peernixctl keys rotate --grace 30d"),
    ("Follow trust violations, for a program:", "peernixctl monitor --json --kind trust-violation"),
];
