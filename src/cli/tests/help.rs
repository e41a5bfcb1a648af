//! The help of every verb.

use super::golden;
use crate::cli::{args, peernixd};
use clap::{Command, CommandFactory as _};

/// The width of the pages, in characters.
const WIDTH: usize = 100;

fn pages(command: &mut Command, name: &str, pages: &mut Vec<(String, String)>) {
    pages.push((name.to_owned(), command.render_help().to_string()));
    for verb in command.get_subcommands_mut().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let name = format!("{name}-{}", verb.get_name());
        self::pages(verb, &name, pages);
    }
}

#[test]
fn the_help_of_every_verb() {
    let mut all = Vec::new();
    for (mut command, name) in [(args::command(), "peernixctl"), (peernixd::Args::command(), "peernixd")] {
        command = command.term_width(WIDTH);
        command.build();
        pages(&mut command, name, &mut all);
    }
    assert!(all.len() > 40, "{}", all.len());
    let mut names = Vec::new();
    for (name, text) in &all {
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{name}:\n{text}");
        golden(&format!("help/{name}.txt"), text);
        names.push(format!("{name}.txt"));
    }
    // A verb that is gone takes its page with it.
    let there = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/help")).unwrap();
    for file in there.map(|entry| entry.unwrap().file_name().into_string().unwrap()) {
        assert!(names.contains(&file), "tests/golden/help/{file} is of no verb");
    }
}

#[test]
fn exit_codes_are_in_the_help() {
    let help = args::command().render_help().to_string();
    for (code, _) in crate::cli::exit::CTL_CODES {
        assert!(help.contains(&format!("{code} ")), "{code}");
    }
}
