//! The man page of `peernix-notifier`, from its command line and its example.

use super::page::{heading, options, page, paragraphs, see_also, term};
use crate::notifier;
use clap::CommandFactory as _;
use clap_mangen::roff::{bold, italic, roman};

/// The page.
pub(super) fn notifier() -> String {
    let mut command = notifier::Args::command();
    command.build();
    let mut roff = page("peernix-notifier", "1", "tell the desktop of peers, and of what needs attention");
    heading(&mut roff, "SYNOPSIS");
    roff.text([bold("peernix-notifier"), roman(" ["), italic("OPTION"), roman("...]")]);
    roff.control("br", []);
    roff.text([roman("peernix-notifier.service (of each user)")]);
    heading(&mut roff, "DESCRIPTION");
    paragraphs(&mut roff, NOTIFIER);
    heading(&mut roff, "OPTIONS");
    options(&mut roff, &command, false);
    term(&mut roff, vec![bold("-h"), roman(", "), bold("--help")], "Print help.");
    term(&mut roff, vec![bold("-V"), roman(", "), bold("--version")], "Print the version.");
    heading(&mut roff, "SETTINGS");
    paragraphs(&mut roff, "Each key of the file with its meaning and its default, commented out:");
    let example = include_str!("../../../../docs/notifier.example.toml");
    // One block: a blank line in it is no new paragraph.
    roff.control("PP", []);
    roff.control("nf", []);
    for line in example.lines() {
        roff.text([roman(format!("    {line}"))]);
    }
    roff.control("fi", []);
    heading(&mut roff, "FILES");
    term(&mut roff, vec![italic("~/.config/peernix/notifier.toml")], "The settings.");
    see_also(&mut roff, &["peernixctl(1)", "peernixd(8)", "org.peernix.Peernix1(5)"]);
    roff.to_roff()
}

const NOTIFIER: &str = "\
Listens to the Peernix of this machine on the system bus, and shows notifications of machines that come and go, of keys that \
change, of a configuration that could not be read, and of machines that sent what was not what was signed. What happens at the same \
time is told of together.

It is started with the desktop session where peernix-notifier.service is enabled (on NixOS: services.peernix.notifications.enable), \
and ends with it. A service that is down is waited for.";
