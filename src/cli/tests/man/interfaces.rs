//! The man pages of the two interfaces: what they have in common with the code is taken from it.

use super::page::{heading, page, paragraphs, see_also, term};
use crate::control::varlink::DESCRIPTIONS;
use crate::control::{Action, ErrorKind, EventKind};
use clap_mangen::roff::{Roff, bold, italic, roman};

/// The D-Bus interface.
pub(super) fn dbus() -> String {
    let mut roff = page("org.peernix.Peernix1", "5", "the D-Bus interface of peernixd");
    heading(&mut roff, "INTRODUCTION");
    paragraphs(&mut roff, DBUS);
    heading(&mut roff, "OBJECTS");
    for (object, meaning) in OBJECTS {
        term(&mut roff, vec![italic(object)], meaning);
    }
    heading(&mut roff, "CONVENTIONS");
    paragraphs(&mut roff, CONVENTIONS);
    heading(&mut roff, "RIGHTS");
    paragraphs(&mut roff, RIGHTS);
    for action in Action::ALL {
        term(&mut roff, vec![bold(action.id())], &format!("{}.", action.description()));
    }
    heading(&mut roff, "ERRORS");
    paragraphs(&mut roff, DBUS_ERRORS);
    errors(&mut roff, "org.peernix.Peernix1.Error.");
    events(&mut roff);
    heading(&mut roff, "EXAMPLES");
    paragraphs(&mut roff, DBUS_EXAMPLES);
    see_also(&mut roff, &["peernixd(8)", "peernixctl(1)", "org.peernix.varlink(7)", "busctl(1)", "polkit(8)"]);
    roff.to_roff()
}

/// The Varlink interfaces.
pub(super) fn varlink() -> String {
    let mut roff = page("org.peernix.varlink", "7", "the Varlink interfaces of peernixd");
    heading(&mut roff, "INTRODUCTION");
    paragraphs(&mut roff, VARLINK);
    heading(&mut roff, "SOCKETS");
    for (socket, meaning) in SOCKETS {
        term(&mut roff, vec![italic(socket)], meaning);
    }
    heading(&mut roff, "INTERFACES");
    for (interface, meaning) in INTERFACES {
        term(&mut roff, vec![bold(interface)], meaning);
    }
    heading(&mut roff, "CONVENTIONS");
    paragraphs(&mut roff, CONVENTIONS);
    heading(&mut roff, "ERRORS");
    paragraphs(&mut roff, VARLINK_ERRORS);
    errors(&mut roff, "");
    events(&mut roff);
    heading(&mut roff, "EXAMPLES");
    paragraphs(&mut roff, VARLINK_EXAMPLES);
    heading(&mut roff, "DESCRIPTIONS");
    for (name, description) in DESCRIPTIONS.iter().filter(|(name, _)| *name != "org.varlink.service") {
        roff.control("SS", [*name]);
        roff.control("nf", []);
        for line in description.lines() {
            // An empty line of its own would be a paragraph, and swallow the lines around it.
            roff.text([roman(if line.is_empty() { " " } else { line })]);
        }
        roff.control("fi", []);
    }
    see_also(&mut roff, &["peernixd(8)", "peernixctl(1)", "org.peernix.Peernix1(5)", "varlinkctl(1)"]);
    roff.to_roff()
}

fn errors(roff: &mut Roff, prefix: &str) {
    for kind in ErrorKind::ALL {
        // These have names that everybody knows already, and one of them only clients make.
        let elsewhere = matches!(kind, ErrorKind::AccessDenied | ErrorKind::InvalidArgument | ErrorKind::NotRunning);
        if !elsewhere {
            term(roff, vec![bold(format!("{prefix}{}", kind.name()))], kind.help());
        }
    }
}

fn events(roff: &mut Roff) {
    heading(roff, "EVENTS");
    let kinds = |frequent| {
        let fit = EventKind::ALL.iter().filter(|kind| kind.is_frequent() == frequent).map(|kind| kind.as_str());
        fit.collect::<Vec<_>>().join(", ")
    };
    roff.text([roman(format!(
        "The kinds of events are {}; and those that may happen very often: {}.",
        kinds(false),
        kinds(true)
    ))]);
}

const DBUS: &str = "\
peernixd(8) owns the name org.peernix.Peernix1 on the system bus, and is started by the bus when somebody calls it. What is here can \
be done over Varlink as well; see org.peernix.varlink(7).

The interfaces are described, with every member and type, in the XML files of share/dbus-1/interfaces, and by the service itself:

    busctl introspect org.peernix.Peernix1 /org/peernix/Peernix1";

const OBJECTS: [(&str, &str); 5] = [
    (
        "/org/peernix/Peernix1",
        "The service: org.peernix.Peernix1.Manager, and org.freedesktop.DBus.ObjectManager for all objects below.",
    ),
    ("/org/peernix/Peernix1/peer/ID", "A peer: org.peernix.Peernix1.Peer."),
    ("/org/peernix/Peernix1/key/FINGERPRINT", "A key that signs, or did: org.peernix.Peernix1.Key."),
    ("/org/peernix/Peernix1/job/NUMBER", "Work that takes its time: org.peernix.Peernix1.Job."),
    (
        "/org/freedesktop/LogControl1",
        "What is logged: org.freedesktop.LogControl1, which systemctl service-log-level speaks.",
    ),
];

const CONVENTIONS: &str = "\
Points in time are microseconds since 1970 (...Timestamp), durations microseconds (...USec), sizes bytes, states and kinds words in \
lower case. What is not known is left out. Store paths are full store paths or base names; peers are named by their id, by the \
beginning of it, or by a name that only one has.";

const RIGHTS: &str = "\
Everybody may ask. What changes something asks polkit(8), which lets a caller authenticate if the call allows it (the flag \
ALLOW_INTERACTIVE_AUTHORIZATION). Where there is no polkit, root may do everything and others nothing. The actions:";

const DBUS_ERRORS: &str = "\
Beside org.freedesktop.DBus.Error.AccessDenied and .InvalidArgs, calls may end with one of these errors, whose message says what, where, \
and what to do:";

const DBUS_EXAMPLES: &str = "\
    busctl get-property org.peernix.Peernix1 /org/peernix/Peernix1 org.peernix.Peernix1.Manager State

    busctl call org.peernix.Peernix1 /org/peernix/Peernix1 org.peernix.Peernix1.Manager Reload";

const VARLINK: &str = "\
peernixd(8) speaks Varlink (https://varlink.org): JSON objects, each ended by a NUL byte, over a stream socket. What is here can be done \
over D-Bus as well; see org.peernix.Peernix1(5).

The interfaces are described, with every method and type, in the files of share/peernix/varlink, and by the service itself:

    varlinkctl introspect /run/peernix/org.peernix org.peernix.Manager";

const SOCKETS: [(&str, &str); 2] = [
    (
        "/run/peernix/org.peernix",
        "For everybody, and only to ask; what changes something ends with org.varlink.service.PermissionDenied.",
    ),
    ("/run/peernix/org.peernix.admin", "For root and the group peernix-admin, to do everything."),
];

const INTERFACES: [(&str, &str); 5] = [
    ("org.peernix.Manager", "The service as a whole: state, statistics, drain, reload, events."),
    ("org.peernix.Peers", "The other machines."),
    ("org.peernix.Store", "Paths, pins, and the jobs that fetch and collect."),
    ("org.peernix.Keys", "Keys that sign, and keys that are trusted."),
    ("io.systemd.service", "What systemd's own services have: ping, reload, log level."),
];

const VARLINK_ERRORS: &str = "\
Beside org.varlink.service.PermissionDenied and .InvalidParameter, calls may end with one of these errors, each in the interface that \
was called, with a message that says what, where, and what to do:";

const VARLINK_EXAMPLES: &str = "\
    varlinkctl call /run/peernix/org.peernix org.peernix.Manager.Describe {}

    varlinkctl call --more /run/peernix/org.peernix org.peernix.Peers.List {}";
