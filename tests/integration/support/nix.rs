//! A store made by the installed Nix, in a directory of its own, with everything in it that a share may be asked for.

use parking_lot::Mutex;
use peernix::http::{Limits, Share, ShareCompression, ShareOptions};
use peernix::keys::Signing;
use peernix::nix::{NarHash, PublicKey, StoreDir, StorePath, TrustedKeys};
use peernix::resilience::Versioned;
use peernix::store::{PolicyOptions, SharePolicy, SharePolicyMode, Store, StoreOptions};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Weak};
use tempfile::TempDir;

/// The build id of the debug path.
pub(crate) const BUILD_ID: &str = "0123456789abcdef0123456789abcdef01234567";

/// The length of the one file of the path `huge`, in bytes: more than all socket buffers hold.
pub(crate) const HUGE: u64 = 20_000_000;

/// What is built. Paths get their names from their attributes.
const EXPRESSION: &str = r#"
let
  make = name: script: more: derivation ({
    inherit name;
    system = builtins.currentSystem;
    builder = "/bin/sh";
    args = [ "-c" script ];
    PATH = "/bin:/usr/bin";
  } // more);
in rec {
  dep = make "dep" "mkdir $out $out/empty; echo dep > $out/file; ln -s file $out/link; echo exit > $out/run; chmod +x $out/run; echo built dep" { };
  app = make "app" ''
    mkdir -p $out/bin; echo $dep $out > $out/bin/app; head -c 3000000 /dev/urandom > $out/large
    i=0; while [ $i -lt 300 ]; do echo $i > $out/$i; i=$((i+1)); done; echo built app
  '' { inherit dep; };
  unsigned = make "unsigned" "echo secret > $out; echo built unsigned" { };
  huge = make "huge" "head -c 20000000 /dev/zero > $out" { };
  stranger = make "stranger" "echo stranger > $out" { };
  denied = make "top-secret" "echo denied > $out" { };
  debug = make "tool-debug" "mkdir -p $out/lib/debug/.build-id/01; echo symbols > $out/lib/debug/.build-id/01/23456789abcdef0123456789abcdef01234567.debug" { };
  addressed = make "addressed" "echo addressed > $out" { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
  untraced = make "untraced" "echo untraced > $out" { __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
}
"#;

/// A directory with a store, its state, a key that the share's policy counts and one that it does not.
pub(crate) struct NixStore {
    directory: TempDir,
    /// The paths by the names of their attributes.
    pub(crate) paths: BTreeMap<&'static str, StorePath>,
    pub(crate) key: PublicKey,
}

static LAST: Mutex<Weak<NixStore>> = Mutex::new(Weak::new());

impl NixStore {
    /// One store for all tests that run at the same time; it is not to be changed.
    pub(crate) fn shared() -> Arc<Self> {
        let mut last = LAST.lock();
        last.upgrade().unwrap_or_else(|| {
            let store = Arc::new(Self::make());
            *last = Arc::downgrade(&store);
            store
        })
    }

    /// A store of the test's own.
    pub(crate) fn make() -> Self {
        let directory = TempDir::with_prefix("peernix-http-").unwrap();
        let root = directory.path();
        fs::write(root.join("default.nix"), EXPRESSION).unwrap();
        let conf = "experimental-features = nix-command ca-derivations\nsubstituters =\nbuild-users-group =\nsandbox = false\n";
        fs::write(root.join("nix.conf"), conf).unwrap();
        let mut store = Self { paths: BTreeMap::new(), key: other_key(), directory };
        for name in ["counts", "other"] {
            let secret = store.run("nix", &["key", "generate-secret", "--key-name", name]);
            fs::write(store.root().join(name), secret.stdout).unwrap();
        }
        let secret: peernix::nix::SecretKey = fs::read_to_string(store.root().join("counts")).unwrap().parse().unwrap();
        store.key = secret.public();
        for name in ["dep", "app", "huge", "unsigned", "stranger", "denied", "debug", "addressed", "untraced"] {
            let expression = store.root().join("default.nix");
            let mut arguments = vec![text(&expression), "-A", name, "--no-out-link"];
            let key = store.root().join("counts");
            if name == "addressed" {
                // Has its realisation signed, for which there is no command afterwards.
                arguments.extend(["--option", "secret-key-files", text(&key)]);
            }
            let built = store.run("nix-build", &arguments);
            let path = String::from_utf8(built.stdout).unwrap();
            store.paths.insert(name, store.dir().parse(path.trim_end()).unwrap());
        }
        store.sign("counts", &["dep", "app", "huge", "denied", "debug", "addressed", "untraced"]);
        store.sign("other", &["stranger"]);
        store
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn dir(&self) -> StoreDir {
        StoreDir::new(text(&self.root().join("store"))).unwrap()
    }

    /// The full text of a path.
    pub(crate) fn full(&self, name: &str) -> String {
        self.dir().join(&self.paths[name])
    }

    pub(crate) fn sign(&self, key: &str, names: &[&str]) {
        let file = self.root().join(key);
        for name in names {
            self.run("nix", &["store", "sign", "-k", text(&file), &self.full(name)]);
        }
    }

    /// Runs a program of Nix on this store, successfully.
    pub(crate) fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let output = self.command(program).args(arguments).output().expect("Nix is installed");
        assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        output
    }

    pub(crate) fn command(&self, program: &str) -> Command {
        let root = self.root();
        let mut command = Command::new(program);
        command.env("NIX_CONF_DIR", root).env("HOME", root).env("XDG_CACHE_HOME", root.join("cache"));
        command.env("NIX_STORE_DIR", root.join("store")).env("NIX_STATE_DIR", root.join("var/nix"));
        command.env("NIX_LOG_DIR", root.join("var/log/nix")).env("NIX_REMOTE", "local").env_remove("NIX_PATH");
        command
    }

    /// The bytes of a NAR, as Nix writes them.
    pub(crate) fn dump(&self, name: &str) -> Vec<u8> {
        self.run("nix-store", &["--dump", &self.full(name)]).stdout
    }

    /// The NAR hash, as Nix says.
    pub(crate) fn nar_hash(&self, name: &str) -> NarHash {
        let output = self.run("nix-store", &["--query", "--hash", &self.full(name)]);
        String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
    }

    /// The derivation of a path.
    pub(crate) fn deriver(&self, name: &str) -> StorePath {
        let output = self.run("nix-store", &["--query", "--deriver", &self.full(name)]);
        self.dir().parse(String::from_utf8(output.stdout).unwrap().trim()).unwrap()
    }

    /// Opens it as the share does.
    pub(crate) async fn open(&self) -> Store {
        let options = StoreOptions {
            dir: self.dir(),
            state_dir: self.root().join("var/nix"),
            root: PathBuf::from("/"),
            ..StoreOptions::default()
        };
        Store::open(options).await.unwrap()
    }

    /// A share of it.
    pub(crate) async fn share(&self, mode: SharePolicyMode, upload_limit: u64) -> Arc<Share> {
        self.share_with(mode, upload_limit, Limits::share()).await
    }

    pub(crate) async fn share_with(&self, mode: SharePolicyMode, upload_limit: u64, limits: Limits) -> Arc<Share> {
        let (policy, signing) = (Versioned::new(self.policy(mode, &["*-secret*"])), Versioned::default());
        let (store, compression) = (self.open().await, ShareCompression { peers: true, plain: false });
        Share::new(ShareOptions { store, policy, signing, upload_limit, limits, compression })
    }

    /// A share of it that follows what changes.
    pub(crate) async fn share_following(
        &self,
        policy: &Versioned<SharePolicy>,
        signing: &Versioned<Signing>,
    ) -> Arc<Share> {
        let (store, policy, signing) = (self.open().await, policy.clone(), signing.clone());
        let (upload_limit, limits, compression) = (0, Limits::share(), ShareCompression::default());
        Share::new(ShareOptions { store, policy, signing, upload_limit, limits, compression })
    }

    /// A policy in which this store's key counts.
    pub(crate) fn policy(&self, mode: SharePolicyMode, deny: &[&str]) -> SharePolicy {
        let options = PolicyOptions {
            mode,
            public_keys: [self.key.clone()].into_iter().collect(),
            own_keys: TrustedKeys::default(),
            deny: deny.iter().map(ToString::to_string).collect(),
        };
        SharePolicy::new(options, self.dir()).unwrap()
    }
}

impl Drop for NixStore {
    fn drop(&mut self) {
        // Directories in a store are read-only, which is in the way of whoever is not root.
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(self.root()).status();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("temporary directories have plain names")
}

/// Stands in until the real one was made.
fn other_key() -> PublicKey {
    peernix::nix::SecretKey::from_seed("none", [1; 32]).unwrap().public()
}
