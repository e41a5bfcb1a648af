//! Man pages: those of the programs from their command lines, that of the configuration from its example, the rest by hand.

mod interfaces;

use crate::cli::{exit, peernixctl, peernixd};
use crate::config;
use clap::builder::PossibleValue;
use clap::{Arg, Command, CommandFactory as _};
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// What stands at the bottom of every page.
const MANUAL: &str = "Peernix";

/// Every page: its file name and its text.
pub(crate) fn pages() -> Vec<(String, String)> {
    let pages = [
        ("peernixctl.1", tool()),
        ("peernixd.8", daemon()),
        ("peernix.toml.5", configuration()),
        ("org.peernix.Peernix1.5", interfaces::dbus()),
        ("org.peernix.varlink.7", interfaces::varlink()),
    ];
    pages.map(|(name, text)| (name.to_owned(), text)).into()
}

/// A page that begins.
fn page(name: &str, section: &str, about: &str) -> Roff {
    let mut roff = Roff::new();
    let source = concat!("peernix ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", [name, section, "", source, MANUAL]);
    heading(&mut roff, "NAME");
    roff.text([roman(format!("{name} - {about}"))]);
    roff
}

fn heading(roff: &mut Roff, text: &str) {
    roff.control("SH", [text]);
}

/// Paragraphs, a blank line between them. Lines that begin with blanks stay as they are.
fn paragraphs(roff: &mut Roff, text: &str) {
    for paragraph in text.split("\n\n") {
        roff.control("PP", []);
        if paragraph.starts_with("    ") {
            roff.control("nf", []);
            for line in paragraph.lines() {
                roff.text([roman(line)]);
            }
            roff.control("fi", []);
        } else {
            roff.text([roman(paragraph.lines().map(str::trim).collect::<Vec<_>>().join(" "))]);
        }
    }
}

/// A term and what it means.
fn term(roff: &mut Roff, term: Vec<Inline>, meaning: &str) {
    roff.control("TP", []);
    roff.text(term);
    roff.text([roman(meaning)]);
}

fn see_also(roff: &mut Roff, pages: &[&str]) {
    heading(roff, "SEE ALSO");
    let mut line = Vec::new();
    for (index, page) in pages.iter().enumerate() {
        let (name, section) = page.split_once('(').unwrap_or((page, ""));
        line.push(bold(name));
        let comma = if index + 1 < pages.len() { ", " } else { "" };
        line.push(roman(format!("({section}{comma}")));
    }
    roff.text(line);
}

/// An option as it is written: `-n, --dry-run`, `--max-freed SIZE`.
fn written(arg: &Arg) -> Vec<Inline> {
    let mut line = Vec::new();
    if let Some(short) = arg.get_short() {
        line.push(bold(format!("-{short}")));
    }
    if let Some(long) = arg.get_long() {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.push(bold(format!("--{long}")));
    }
    let values: Vec<&str> = arg.get_value_names().into_iter().flatten().map(clap::builder::Str::as_str).collect();
    if arg.get_action().takes_values() && !values.is_empty() {
        let optional = arg.is_require_equals_set();
        line.push(roman(if line.is_empty() {
            ""
        } else if optional {
            "[="
        } else {
            " "
        }));
        line.push(italic(values.join(" ")));
        line.push(roman(if optional { "]" } else { "" }));
    }
    line
}

fn options(roff: &mut Roff, command: &Command, global: bool) {
    for arg in command.get_arguments().filter(|arg| !arg.is_hide_set() && arg.is_global_set() == global) {
        if ["help", "version"].contains(&arg.get_id().as_str()) {
            continue;
        }
        let mut help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        let values = arg.get_possible_values();
        let values: Vec<&str> =
            values.iter().filter(|value| !value.is_hide_set()).map(PossibleValue::get_name).collect();
        if arg.get_action().takes_values() && !values.is_empty() {
            help.push_str(&format!(" (one of {})", values.join(", ")));
        }
        let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        if arg.get_action().takes_values() && !arg.is_hide_default_value_set() && !defaults.is_empty() {
            help.push_str(&format!("; the default is {}", defaults.join(", ")));
        }
        help.push('.');
        term(roff, written(arg), &help);
    }
}

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

fn tool() -> String {
    let mut command = peernixctl::command();
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

fn daemon() -> String {
    let mut command = peernixd::Args::command();
    command.build();
    let mut roff = page("peernixd", "8", "share the Nix store of this machine with others, and fetch from theirs");
    heading(&mut roff, "SYNOPSIS");
    roff.text([bold("peernixd"), roman(" ["), italic("OPTION"), roman("...]")]);
    roff.control("br", []);
    roff.text([roman("peernix.service")]);
    heading(&mut roff, "DESCRIPTION");
    paragraphs(&mut roff, DAEMON);
    heading(&mut roff, "OPTIONS");
    options(&mut roff, &command, false);
    term(&mut roff, vec![bold("-h"), roman(", "), bold("--help")], "Print help.");
    term(&mut roff, vec![bold("-V"), roman(", "), bold("--version")], "Print the version.");
    heading(&mut roff, "SIGNALS");
    term(
        &mut roff,
        vec![bold("SIGTERM"), roman(", "), bold("SIGINT")],
        "No new work; what is under way may end, for at most 30 seconds.",
    );
    term(
        &mut roff,
        vec![bold("SIGHUP")],
        "The configuration is read again; a wrong one changes nothing and is logged.",
    );
    heading(&mut roff, "EXIT STATUS");
    for (code, meaning) in DAEMON_CODES {
        term(&mut roff, vec![bold(code.to_string())], meaning);
    }
    heading(&mut roff, "FILES");
    for (file, meaning) in FILES {
        term(&mut roff, vec![italic(file)], meaning);
    }
    see_also(
        &mut roff,
        &[
            "peernixctl(1)",
            "peernix.toml(5)",
            "org.peernix.Peernix1(5)",
            "org.peernix.varlink(7)",
            "nix.conf(5)",
            "systemd(1)",
        ],
    );
    roff.to_roff()
}

/// The page of the configuration: the example says everything, in a form that is easily read.
fn configuration() -> String {
    let mut roff = page("peernix.toml", "5", "configuration of Peernix");
    heading(&mut roff, "SYNOPSIS");
    roff.text([italic("/etc/peernix/config.toml")]);
    roff.control("br", []);
    roff.text([italic("$XDG_CONFIG_HOME/peernix/config.toml")]);
    heading(&mut roff, "DESCRIPTION");
    paragraphs(&mut roff, CONFIGURATION);
    heading(&mut roff, "SECTIONS");
    let mut comment: Vec<&str> = Vec::new();
    let mut inside = false;
    for line in config::EXAMPLE.lines() {
        let key = line.strip_prefix('#').filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase()));
        if let Some(section) = line.strip_prefix('[') {
            roff.control("SS", [format!("[{section}").as_str()]);
            inside = true;
            comment.clear();
        } else if let Some((key, value)) = key.and_then(|rest| rest.split_once(" = ")) {
            term(&mut roff, vec![bold(key), roman(format!(" = {value}"))], &comment.join("\n"));
            comment.clear();
        } else if let Some(text) = line.strip_prefix("# ").filter(|_| inside) {
            comment.push(text);
        }
    }
    see_also(&mut roff, &["peernixd(8)", "peernixctl(1)", "nix.conf(5)"]);
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

const DAEMON: &str = "\
Shares what is in the Nix store of this machine with other machines on the network, and is for this machine's Nix a binary cache \
that fetches from theirs. What enters is what Nix trusts: every path carries a signature of a trusted key, which is checked here and \
again by Nix.

Nix is told of it by one line in nix.conf(5):

    extra-substituters = http://127.0.0.1:7649

As peernix.service it takes its sockets from systemd (FileDescriptorName= gateway, share, plain, varlink, varlink-admin), tells systemd \
when it is ready, what it does and that it is alive, and keeps what it knows of its peers over a restart. It may be started by hand \
and without root as well; it then keeps its files below the XDG directories.";

const CONFIGURATION: &str = "\
One TOML file: that of the machine, else that of the user who starts peernixd(8); no file is fine. Every key is optional. A key that \
is not listed here is refused, and so is the whole file: peernixd --check-config says all that is wrong with it. peernixctl reload has it \
read again; a wrong file changes nothing.

Sizes are written as \"64MiB\", \"2GB\", or a number of bytes, times as \"300ms\", \"5s\", \"2min\". The values below are the \
defaults.";

/// Exit codes of the service.
const DAEMON_CODES: [(u8, &str); 6] = [
    (0, "It was told to stop."),
    (exit::USAGE, "The command line makes no sense."),
    (exit::UNAVAILABLE, "A socket cannot be had: the port is taken, the address is not there."),
    (exit::SOFTWARE, "Another failure."),
    (exit::CANNOT_CREATE, "A directory cannot be made."),
    (exit::CONFIG, "The configuration is wrong."),
];

const ENVIRONMENT: [(&str, &str); 4] = [
    (
        "SYSTEMD_COLORS NO_COLOR CLICOLOR CLICOLOR_FORCE",
        "Whether there are colours; without them, there are on a terminal.",
    ),
    ("SYSTEMD_PAGER PAGER", "The pager for long texts on a terminal; empty or cat for none. Else less or more."),
    ("SYSTEMD_LESS", "Options for less instead of FRSXMK."),
    ("NIX_STORE_DIR", "Where the store is in which paths are looked up by their hash."),
];

const FILES: [(&str, &str); 4] = [
    ("/etc/peernix/config.toml", "The configuration; see peernix.toml(5)."),
    ("/run/peernix/org.peernix", "The Varlink socket on which everybody may ask."),
    (
        "/run/peernix/org.peernix.admin",
        "The Varlink socket on which root and the group peernix-admin may do everything.",
    ),
    ("/var/lib/peernix/", "Identity, keys, peers, trust and pins of this machine."),
];

const EXAMPLES: [(&str, &str); 6] = [
    ("Which machines are there, and how fast are they?", "peernixctl peers"),
    ("Why does nobody get this path from here?", "peernixctl query ./result"),
    ("Get a system into the store before it is needed:", "peernixctl fetch /nix/store/HASH-nixos-system-tower-26.05"),
    ("What would go if everything older than a month did?", "peernixctl gc --dry-run --older-than 30d"),
    ("Sign with a new key; the one before goes on for a month:", "peernixctl keys rotate --grace 30d"),
    ("Follow trust violations, for a program:", "peernixctl monitor --json --kind trust-violation"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::golden;

    #[test]
    fn the_pages_are_those_in_the_documents() {
        for (name, text) in pages() {
            golden(&format!("../../docs/man/{name}"), &text);
        }
    }

    #[test]
    fn every_verb_and_key_has_its_place() {
        let tool = tool();
        let mut command = peernixctl::command();
        command.build();
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
            assert!(
                tool.contains(&format!(".SS \"{}", verb.get_name()))
                    || tool.contains(&format!(".SS {}", verb.get_name())),
                "{}",
                verb.get_name()
            );
        }
        assert!(!tool.contains("__complete"));
        let configuration = configuration();
        for section in config::SECTIONS {
            for key in config::keys_of(section).unwrap() {
                assert!(configuration.contains(&format!("\\fB{key}\\fR")), "[{section}] {key}");
            }
        }
    }
}
