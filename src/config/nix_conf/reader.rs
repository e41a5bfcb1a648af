//! Walking through nix.conf and what it includes.

use super::settings::{List, NixConf};
use crate::files;
use std::io;
use std::path::{Path, PathBuf};

/// The largest file read, in bytes.
const FILE_MAX: u64 = 1024 * 1024;
/// How deep files may include each other.
const DEPTH_MAX: usize = 8;
/// How many files are read in all.
const FILES_MAX: usize = 64;
/// How many values of a list are taken.
const VALUES_MAX: usize = 1024;
/// How many things that are wrong are noted.
const NOTICES_MAX: usize = 32;

/// Who names a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    /// Nix itself: it need not be there, and if it is it counts.
    Nix,
    /// `include`: it should be there, and counts.
    Include,
    /// `!include`: where it cannot be read, it is as if it were not there. Many keep secrets in one that only root may read.
    IncludeIfThere,
}

pub(super) struct Reader<'a> {
    pub(super) conf: NixConf,
    home: Option<&'a Path>,
    /// The files that include each other, the outermost first.
    open: Vec<PathBuf>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(conf: NixConf, home: Option<&'a Path>) -> Self {
        Self { conf, home, open: Vec::new() }
    }

    /// Reads a file that nobody includes, if it is there.
    pub(super) fn top(&mut self, file: &Path) {
        self.file(file, Named::Nix);
    }

    fn file(&mut self, file: &Path, named: Named) {
        let shown = file.display();
        // The same file by another name, too.
        let real = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        if self.open.contains(&real) {
            return self
                .note(format!("{shown}: not read again: it includes itself, and newer Nix does not start then"));
        }
        if self.open.len() > DEPTH_MAX || self.conf.files.len() == FILES_MAX {
            return self.note(format!("{shown}: not read: too many files include each other"));
        }
        self.conf.files.push(file.to_owned());
        match files::read_text(file, FILE_MAX) {
            Ok(Some(text)) => {
                self.conf.read.push(file.to_owned());
                self.open.push(real);
                self.text(&text, file);
                self.open.pop();
            }
            Ok(None) => self.note(format!("{shown}: not read: larger than {FILE_MAX} bytes")),
            Err(error) => self.failed(file, named, &error),
        }
    }

    fn failed(&mut self, file: &Path, named: Named, error: &io::Error) {
        let shown = file.display();
        // A link to nowhere is a file that is not there yet.
        let is_there = error.kind() != io::ErrorKind::NotFound || file.symlink_metadata().is_ok();
        match named {
            Named::IncludeIfThere => {}
            Named::Nix if !is_there => {}
            Named::Include if !is_there => self.note(format!("{shown}: not read: {error}")),
            Named::Nix | Named::Include => self.conf.unreadable.push(format!(
                "{shown} cannot be read ({error}), so that it is not known which keys Nix trusts, and none is trusted here; let the user of peernixd read it, or set [trust] public_keys"
            )),
        }
    }

    fn text(&mut self, text: &str, file: &Path) {
        for (number, line) in (1..).zip(text.lines()) {
            let setting = line.split('#').next().unwrap_or_default();
            let words: Vec<&str> = setting.split_ascii_whitespace().collect();
            match words.as_slice() {
                [] => {}
                ["include", path] => self.file(&self.included(path, file), Named::Include),
                ["!include", path] => self.file(&self.included(path, file), Named::IncludeIfThere),
                [name, "=", values @ ..] => self.set(name, values, file),
                _ => {
                    self.note(format!("{}:{number}: not `name = value`, which Nix takes for an error", file.display()));
                }
            }
        }
    }

    /// The file that an `include` means.
    fn included(&self, path: &str, file: &Path) -> PathBuf {
        match (path.strip_prefix("~/"), self.home) {
            // As Lix does. To Nix it is a folder called "~", which nobody has.
            (Some(below), Some(home)) => home.join(below),
            // An absolute path replaces the folder.
            _ => file.parent().unwrap_or(Path::new("/")).join(path),
        }
    }

    fn set(&mut self, name: &str, values: &[&str], file: &Path) {
        let base = name.strip_prefix("extra-").unwrap_or(name);
        let conf = &mut self.conf;
        let list = match base {
            "trusted-public-keys" | "binary-cache-public-keys" => &mut conf.keys,
            "allowed-users" => &mut conf.allowed_users,
            "trusted-users" => &mut conf.trusted_users,
            "netrc-file" => return self.netrc(&values.join(" "), file),
            _ => return,
        };
        let List { values: known, sources } = list;
        if base == name {
            known.clear();
        }
        let room = VALUES_MAX.saturating_sub(known.len());
        known.extend(values.iter().take(room).map(|value| (*value).to_owned()));
        if !sources.iter().any(|source| source == file) {
            sources.push(file.to_owned());
        }
    }

    fn netrc(&mut self, path: &str, file: &Path) {
        self.conf.netrc_file = Some(PathBuf::from(path)).filter(|path| path.is_absolute());
        if self.conf.netrc_file.is_none() && !path.is_empty() {
            self.note(format!("{}: netrc-file = {path}: not an absolute path, and not looked for", file.display()));
        }
    }

    fn note(&mut self, notice: String) {
        if self.conf.notices.len() < NOTICES_MAX {
            self.conf.notices.push(notice);
        }
    }
}
