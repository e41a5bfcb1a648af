//! The man page of the configuration file, from its example.

use super::page::{heading, page, paragraphs, see_also, term};
use crate::config;
use clap_mangen::roff::{bold, italic, roman};

/// The page of the configuration: the example says everything, in a form that is easily read.
pub(super) fn configuration() -> String {
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

const CONFIGURATION: &str = "\
One TOML file: that of the machine, else that of the user who starts peernixd(8); no file is fine. Every key is optional. A key that \
is not listed here is refused, and so is the whole file: peernixd --check-config says all that is wrong with it. peernixctl reload has it \
read again; a wrong file changes nothing.

Sizes are written as \"64MiB\", \"2GB\", or a number of bytes, times as \"300ms\", \"5s\", \"2min\". The values below are the \
defaults.";
