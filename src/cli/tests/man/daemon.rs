//! The man page of `peernixd`, from its command line.

use super::page::{FILES, heading, options, page, paragraphs, see_also, term};
use crate::cli::{exit, peernixd};
use clap::CommandFactory as _;
use clap_mangen::roff::{bold, italic, roman};

/// The page.
pub(super) fn daemon() -> String {
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

const DAEMON: &str = "\
Shares what is in the Nix store of this machine with other machines on the network, and is for this machine's Nix a binary cache \
that fetches from theirs. What enters is what Nix trusts: every path carries a signature of a trusted key, which is checked here and \
again by Nix.

Nix is told of it by one line in nix.conf(5):

    extra-substituters = http://127.0.0.1:7649

Take that line out first, and restart nix-daemon, before the service and its sockets are switched off: a Nix that has seen a substituter \
does not simply go on with the others when it is gone.

As peernix.service it takes its sockets from systemd (FileDescriptorName= gateway, share, plain, varlink, varlink-admin), tells systemd \
when it is ready, what it does and that it is alive, and keeps what it knows of its peers over a restart. It may be started by hand \
and without root as well; it then keeps its files below the XDG directories.";

/// Exit codes of the service.
const DAEMON_CODES: [(u8, &str); 6] = [
    (0, "It was told to stop."),
    (exit::USAGE, "The command line makes no sense."),
    (exit::UNAVAILABLE, "A socket cannot be had: the port is taken, the address is not there."),
    (exit::SOFTWARE, "Another failure."),
    (exit::CANNOT_CREATE, "A directory cannot be made."),
    (exit::CONFIG, "The configuration is wrong."),
];
