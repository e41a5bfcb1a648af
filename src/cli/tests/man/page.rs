//! What pages are made of.

use clap::builder::PossibleValue;
use clap::{Arg, Command};
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

/// When the pages were last read as a whole.
const DATE: &str = "2026-11-30";
/// What stands at the bottom of every page.
const MANUAL: &str = "Peernix";

/// A page that begins.
pub(super) fn page(name: &str, section: &str, about: &str) -> Roff {
    let mut roff = Roff::new();
    let source = concat!("peernix ", env!("CARGO_PKG_VERSION"));
    roff.control("TH", [name, section, DATE, source, MANUAL]);
    heading(&mut roff, "NAME");
    roff.text([roman(format!("{name} - {about}"))]);
    roff
}

pub(super) fn heading(roff: &mut Roff, text: &str) {
    roff.control("SH", [text]);
}

/// Paragraphs, a blank line between them. Lines that begin with blanks stay as they are.
pub(super) fn paragraphs(roff: &mut Roff, text: &str) {
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
pub(super) fn term(roff: &mut Roff, term: Vec<Inline>, meaning: &str) {
    roff.control("TP", []);
    roff.text(term);
    roff.text([roman(meaning)]);
}

pub(super) fn see_also(roff: &mut Roff, pages: &[&str]) {
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

pub(super) fn options(roff: &mut Roff, command: &Command, global: bool) {
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

/// The files that the programs have in common.
pub(super) const FILES: [(&str, &str); 4] = [
    ("/etc/peernix/config.toml", "The configuration; see peernix.toml(5)."),
    ("/run/peernix/org.peernix", "The Varlink socket on which everybody may ask."),
    (
        "/run/peernix/org.peernix.admin",
        "The Varlink socket on which root and the group peernix-admin may do everything.",
    ),
    ("/var/lib/peernix/", "Identity, keys, peers, trust and pins of this machine."),
];
