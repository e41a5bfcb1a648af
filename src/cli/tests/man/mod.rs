//! The man pages in `docs/man/` are what is written here: those of the programs from their command lines, that of the configuration
//! from its example, the rest by hand. `UPDATE_GOLDEN=1` writes them anew.

mod configuration;
mod daemon;
mod interfaces;
mod notifier;
mod page;
mod tool;

use super::golden;
use crate::cli::args;
use crate::config;

/// Every page: its file name and its text.
fn pages() -> Vec<(String, String)> {
    let pages = [
        ("peernixctl.1", tool::tool()),
        ("peernixd.8", daemon::daemon()),
        ("peernix-notifier.1", notifier::notifier()),
        ("peernix.toml.5", configuration::configuration()),
        ("org.peernix.Peernix1.5", interfaces::dbus()),
        ("org.peernix.varlink.7", interfaces::varlink()),
    ];
    pages.map(|(name, text)| (name.to_owned(), tidy(&text))).into()
}

/// Without the beginnings of paragraphs where a heading has begun one.
fn tidy(text: &str) -> String {
    let mut tidy = String::with_capacity(text.len());
    let mut is_heading = false;
    for line in text.lines() {
        if !(is_heading && line == ".PP") {
            tidy += line;
            tidy.push('\n');
        }
        is_heading = line.starts_with(".SH") || line.starts_with(".SS");
    }
    tidy
}

#[test]
fn the_pages_are_those_in_the_documents() {
    for (name, text) in pages() {
        golden(&format!("../../docs/man/{name}"), &text);
    }
}

#[test]
fn every_verb_and_key_has_its_place() {
    let tool = tool::tool();
    let mut command = args::command();
    command.build();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        assert!(
            tool.contains(&format!(".SS \"{}", verb.get_name())) || tool.contains(&format!(".SS {}", verb.get_name())),
            "{}",
            verb.get_name()
        );
    }
    assert!(!tool.contains("__complete"));
    let configuration = configuration::configuration();
    for section in config::SECTIONS {
        for key in config::keys_of(section).unwrap() {
            assert!(configuration.contains(&format!("\\fB{key}\\fR")), "[{section}] {key}");
        }
    }
}
