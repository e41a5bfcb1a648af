//! This machine's name, also after it was changed.
//!
//! In the service's own UTS namespace (`ProtectHostname=`) the kernel goes on saying the name that the machine had when the service
//! started ([systemd.exec](https://www.freedesktop.org/software/systemd/man/systemd.exec.html#ProtectHostname=)). The file in which
//! the machine keeps its name changes all the same.
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

/// Where the machine keeps its name; see hostname(5).
const FILE: &str = "/etc/hostname";

/// What the kernel says.
#[must_use]
pub fn of_kernel() -> String {
    nix::unistd::gethostname().map_or_else(|_| "unknown".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// The name, as it changes.
#[derive(Debug)]
pub struct HostName {
    file: PathBuf,
    /// What kernel and file said when it was last looked.
    before: (String, Option<String>),
}

impl HostName {
    /// Notes what there is now, so that what is found later can be told from it. Blocks, on a small file.
    #[must_use]
    pub fn now() -> Self {
        Self::of(FILE.into(), of_kernel())
    }

    fn of(file: PathBuf, kernel: String) -> Self {
        let kept = read(&file);
        Self { file, before: (kernel, kept) }
    }

    /// The name, if it is another one than when it was last looked. Blocks, on a small file.
    pub fn changed(&mut self) -> Option<String> {
        self.changed_to(of_kernel())
    }

    fn changed_to(&mut self, kernel: String) -> Option<String> {
        let now = (kernel, read(&self.file));
        let before = std::mem::replace(&mut self.before, now);
        let (kernel, kept) = &self.before;
        if *kernel != before.0 {
            return Some(kernel.clone());
        }
        kept.clone().filter(|_| *kept != before.1)
    }
}

/// The name in a file: its first line that is no comment.
fn read(file: &Path) -> Option<String> {
    let text = std::fs::read_to_string(file).ok()?;
    text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_news_once() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hostname");
        std::fs::write(&file, "tower\n").unwrap();
        let mut name = HostName::of(file.clone(), "tower.lan".into());
        assert_eq!(name.changed_to("tower.lan".into()), None, "that they differ is nothing new");
        std::fs::write(&file, "# a comment\n\n attic \n").unwrap();
        assert_eq!(name.changed_to("tower.lan".into()).as_deref(), Some("attic"));
        assert_eq!(name.changed_to("tower.lan".into()), None);
        assert_eq!(name.changed_to("cellar".into()).as_deref(), Some("cellar"));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(name.changed_to("cellar".into()), None, "no name is none to take");
    }
}
