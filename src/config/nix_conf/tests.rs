//! Each case was shown to Nix 2.8.0, 2.26.3 and 2.34.8 as well (`nix config show` with `NIX_CONF_DIR`).

use super::*;
use crate::nix::PublicKey;
use std::fs;
use std::path::Path;

const KEY: &str = "6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

struct Folder(tempfile::TempDir);

impl Folder {
    fn new(nix_conf: &str) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        folder.write("nix.conf", nix_conf);
        folder
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let file = self.0.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text.replace("KEY", KEY)).unwrap();
        file
    }

    fn places(&self) -> Places {
        Places { dir: self.0.path().to_owned(), home: Some(self.0.path().join("home")), ..Places::default() }
    }

    fn read(&self) -> NixConf {
        NixConf::read_at(&self.places())
    }

    /// The names of the trusted keys, and the notices.
    fn keys(&self) -> (String, Vec<String>) {
        let trusted = self.read().trusted_keys();
        (trusted.keys.iter().map(PublicKey::name).collect::<Vec<_>>().join(" "), trusted.notices)
    }
}

fn only(notices: &[String]) -> &str {
    let [notice] = notices else { panic!("{notices:?}") };
    notice
}

#[test]
fn determinate_nix_keeps_its_settings_in_another_file() {
    let folder = Folder::new("extra-trusted-public-keys = a-1:KEY\n!include nix.custom.conf\n");
    assert_eq!(folder.keys(), ("cache.nixos.org-1 a-1".into(), vec![]));
    folder.write("nix.custom.conf", "extra-trusted-public-keys = b-1:KEY\nnetrc-file = /determinate/nix/netrc\n");
    assert_eq!(folder.keys(), ("cache.nixos.org-1 a-1 b-1".into(), vec![]));
    assert_eq!(folder.read().netrc_file.unwrap(), Path::new("/determinate/nix/netrc"));
}

#[test]
fn what_is_included_counts_where_it_stands_and_relative_to_its_file() {
    let folder =
        Folder::new("trusted-public-keys = a-1:KEY\ninclude sub/one.conf\nextra-trusted-public-keys = z-1:KEY\n");
    folder.write("sub/one.conf", "extra-trusted-public-keys = one-1:KEY\ninclude two.conf # a comment\n");
    folder.write("sub/two.conf", "extra-trusted-public-keys = two-1:KEY\n");
    assert_eq!(folder.keys(), ("a-1 one-1 two-1 z-1".into(), vec![]));
    folder.write("sub/two.conf", "trusted-public-keys = two-1:KEY\n");
    assert_eq!(folder.keys().0, "two-1 z-1", "a plain setting begins anew");
}

#[test]
fn the_home_directory_is_meant_as_lix_means_it() {
    let folder = Folder::new("trusted-public-keys = a-1:KEY\ninclude ~/keys.conf\n");
    folder.write("home/keys.conf", "extra-trusted-public-keys = home-1:KEY\n");
    assert_eq!(folder.keys(), ("a-1 home-1".into(), vec![]));
    fs::remove_file(folder.0.path().join("home/keys.conf")).unwrap();
    let (_, notices) = folder.keys();
    assert!(only(&notices).contains("home/keys.conf: not read: "), "{notices:?}");
}

#[test]
fn what_cannot_be_read_is_named() {
    let folder = Folder::new("include none.conf\n!include none.conf\ntrusted-public-keys=a-1:KEY\n");
    let (_, notices) = folder.keys();
    let [missing, line] = &notices[..] else { panic!("{notices:?}") };
    assert!(missing.contains("none.conf: not read: No such file"), "{missing}");
    assert!(line.ends_with("nix.conf:3: not `name = value`, which Nix takes for an error"), "{line}");
}

/// Makes a file that is there and that nobody can read, root included.
fn unreadable(folder: &Folder, name: &str) {
    let file = folder.0.path().join(name);
    let _ = fs::remove_file(&file);
    fs::create_dir(file).unwrap();
}

#[test]
fn what_counts_and_cannot_be_read_leaves_nobody_trusted() {
    let unknown = |folder: &Folder| {
        let trusted = folder.read().trusted_keys();
        assert_eq!((trusted.keys.len(), trusted.notices.len()), (0, 0), "{trusted:?}");
        trusted.unknown.unwrap()
    };
    let folder = Folder::new("");
    unreadable(&folder, "nix.conf");
    assert!(unknown(&folder).contains("nix.conf cannot be read ("));
    fs::remove_dir(folder.0.path().join("nix.conf")).unwrap();
    std::os::unix::fs::symlink("/nonexistent/nix.conf", folder.0.path().join("nix.conf")).unwrap();
    assert!(unknown(&folder).contains("nix.conf cannot be read (No such file"), "a link to nowhere is a file");
    let folder = Folder::new("include closed.conf\n");
    unreadable(&folder, "closed.conf");
    assert!(unknown(&folder).contains("closed.conf cannot be read ("));
    // Secrets that only root may read.
    let folder = Folder::new("trusted-public-keys = a-1:KEY\n!include closed.conf\n");
    unreadable(&folder, "closed.conf");
    assert_eq!(folder.keys(), ("a-1".into(), vec![]));
}

#[test]
fn a_file_that_is_gone_is_noticed_and_one_that_is_named_no_more_is_not() {
    let folder = Folder::new("!include more.conf\n");
    let more = folder.write("more.conf", "extra-trusted-public-keys = b-1:KEY\n");
    let before = folder.read().trusted_keys();
    assert_eq!(before.gone_since(&before), None);
    fs::remove_file(&more).unwrap();
    assert_eq!(folder.read().trusted_keys().gone_since(&before), Some(&*more));
    folder.write("nix.conf", "");
    assert_eq!(folder.read().trusted_keys().gone_since(&before), None);
    fs::remove_file(folder.0.path().join("nix.conf")).unwrap();
    assert!(folder.read().trusted_keys().gone_since(&before).is_some());
}

#[test]
fn a_link_leads_to_a_folder_that_counts_as_well() {
    let (folder, elsewhere) = (Folder::new(""), Folder::new("trusted-public-keys = a-1:KEY\n"));
    fs::remove_file(folder.0.path().join("nix.conf")).unwrap();
    std::os::unix::fs::symlink(elsewhere.0.path().join("nix.conf"), folder.0.path().join("nix.conf")).unwrap();
    let conf = folder.read();
    let folders: Vec<_> = conf.folders().collect();
    assert!(folders.contains(&elsewhere.0.path().canonicalize().unwrap()), "{folders:?}");
    assert!(folders.contains(&folder.0.path().to_owned()), "{folders:?}");
}

#[test]
fn the_daemon_runs_as_root_and_goes_by_roots_own_file() {
    let places = |is_root, variables: &[(&str, &str)]| {
        let variable =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).into());
        let Places { dir, more, .. } = Places::of(is_root, variable);
        let more: Vec<_> = more.iter().map(|file| file.display().to_string()).collect();
        (dir.display().to_string(), more.join(" "))
    };
    let home = [("HOME", "/root")];
    assert_eq!(places(true, &home), ("/etc/nix".into(), "/root/.config/nix/nix.conf /etc/xdg/nix/nix.conf".into()));
    assert_eq!(places(false, &home).1, "/etc/xdg/nix/nix.conf");
    let xdg = [("XDG_CONFIG_HOME", "/c"), ("XDG_CONFIG_DIRS", "/x:/y"), ("NIX_CONF_DIR", "/n")];
    assert_eq!(places(true, &xdg), ("/n".into(), "/c/nix/nix.conf /x/nix/nix.conf /y/nix/nix.conf".into()));
    let named = [("HOME", "/root"), ("NIX_USER_CONF_FILES", "/a.conf:/b.conf")];
    assert_eq!(places(true, &named).1, "/a.conf /b.conf");
}

#[test]
fn circles_end_and_are_named() {
    let folder = Folder::new("include a.conf\ntrusted-public-keys = a-1:KEY\n");
    folder.write("a.conf", "include b.conf\n");
    folder.write("b.conf", "include sub/../nix.conf\n");
    folder.write("sub/x", "");
    let (keys, notices) = folder.keys();
    assert_eq!(keys, "a-1");
    assert!(only(&notices).contains("nix.conf: not read again: it includes itself"), "{notices:?}");
    // The same file twice is no circle.
    let folder = Folder::new("include a.conf\ninclude a.conf\n");
    folder.write("a.conf", "extra-trusted-public-keys = a-1:KEY\n");
    assert_eq!(folder.keys().1, Vec::<String>::new());
    // A long chain ends as well.
    let folder = Folder::new("include 0.conf\n");
    for number in 0..20 {
        folder.write(&format!("{number}.conf"), &format!("include {}.conf\n", number + 1));
    }
    assert!(only(&folder.keys().1).contains("too many files"), "{:?}", folder.keys().1);
}

#[test]
fn files_of_the_environment_come_after_and_the_first_wins() {
    let folder = Folder::new("trusted-public-keys = a-1:KEY\nnetrc-file = /one\n");
    let first = folder.write("first.conf", "netrc-file = /first\n");
    let second = folder.write("second.conf", "netrc-file = /second\nextra-trusted-public-keys = b-1:KEY\n");
    let places = Places { more: vec![first, second, "/nonexistent".into()], ..folder.places() };
    let conf = NixConf::read_at(&places);
    assert_eq!(conf.netrc_file.as_deref(), Some(Path::new("/first")));
    assert_eq!((conf.trusted_keys().keys.len(), conf.notices), (2, vec![]));
}

#[test]
fn the_place_of_logins() {
    let netrc = |text: &str| Folder::new(text).read();
    let folder = Folder::new("");
    assert_eq!(folder.read().netrc_file.unwrap(), folder.0.path().join("netrc"), "where Nix looks by itself");
    assert_eq!(netrc("netrc-file = /run/secrets/nix netrc\n").netrc_file.unwrap(), Path::new("/run/secrets/nix netrc"));
    assert_eq!(netrc("netrc-file =\n").netrc_file, None);
    let relative = netrc("netrc-file = some/netrc\n");
    assert!(relative.netrc_file.is_none() && only(&relative.notices).contains("not an absolute path"));
}

#[test]
fn who_may_ask_the_daemon() {
    let shut_out = |text: &str| {
        let conf = Folder::new(text).read();
        conf.shuts_out_unless("peernix", |group| group == "builders")
    };
    assert_eq!(shut_out(""), None, "everybody may");
    assert_eq!(shut_out("allowed-users = root peernix\n"), None);
    assert_eq!(shut_out("allowed-users = root\nextra-allowed-users = peernix\n"), None);
    assert_eq!(shut_out("allowed-users = @wheel @builders\n"), None);
    assert_eq!(shut_out("allowed-users = root\ntrusted-users = root peernix\n"), None, "who is trusted is allowed");
    let why = shut_out("allowed-users = root @wheel\n").unwrap();
    assert!(why.starts_with("`allowed-users = root @wheel` (/") && why.contains("nix.conf)"), "{why}");
    assert!(why.ends_with("does not let the user peernix ask the Nix daemon"), "{why}");
    let nobody = Folder::new("allowed-users =\n").read();
    assert!(nobody.shuts_out("nobody").is_some() && nobody.shuts_out("root").is_none());
}
