//! The room against the real Nix: chroot stores in temporary directories, its own programs to fill and to compare.

mod access;
mod bytes;
mod collection;
mod faults;
mod figures;
mod garbage;
mod kept;
mod offered;
mod pins;
mod prefetch;
mod trees;

use super::{Access, ByteStream, Store, StoreError, StoreOptions, ValidPath};
use crate::nix::{StoreDir, StorePath};
use http_body_util::BodyExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

/// A chroot store of its own, and the real Nix to work on it.
struct Host {
    directory: tempfile::TempDir,
}

impl Host {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("peernix-store-").tempdir().unwrap();
        for sub in ["conf", "home", "root"] {
            std::fs::create_dir(directory.path().join(sub)).unwrap();
        }
        let conf = "experimental-features = nix-command ca-derivations\nsandbox = false\nbuild-users-group =\n\
                    substituters =\nkeep-build-log = true\n";
        std::fs::write(directory.path().join("conf/nix.conf"), conf).unwrap();
        Self { directory }
    }

    /// A host with an empty store.
    fn with_store() -> Self {
        let host = Self::new();
        host.nix("nix-store", &["--init"]);
        host
    }

    fn path(&self, sub: &str) -> PathBuf {
        self.directory.path().join(sub)
    }

    fn root(&self) -> PathBuf {
        self.path("root")
    }

    fn state(&self) -> PathBuf {
        self.path("root/nix/var/nix")
    }

    fn socket(&self) -> PathBuf {
        self.path("root/nix/var/nix/daemon-socket/socket")
    }

    fn options(&self) -> StoreOptions {
        StoreOptions { root: self.root(), ..StoreOptions::default() }
    }

    async fn open(&self) -> Store {
        Store::open(self.options()).await.unwrap()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("NIX_CONF_DIR", self.path("conf"))
            .env("HOME", self.path("home"))
            .env("NIX_REMOTE", format!("local?root={}", self.root().display()))
            .env("NIX_DAEMON_SOCKET_PATH", self.socket())
            .env_remove("NIX_PATH");
        command
    }

    /// Runs one of Nix's programs on this store and returns what it printed.
    fn nix(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output().unwrap_or_else(|error| {
            panic!("{program}: {error}; these tests need the real Nix (Debian: apt-get install nix-bin)")
        });
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Adds a file or tree to the store.
    fn add(&self, tree: &Path) -> StorePath {
        StoreDir::default().parse(&self.nix("nix", &["store", "add-path", tree.to_str().unwrap()])).unwrap()
    }

    /// Adds a text as a file of this name.
    fn add_text(&self, name: &str, text: &str) -> StorePath {
        let file = self.path(name);
        std::fs::write(&file, text).unwrap();
        self.add(&file)
    }

    /// Adds files of these names and sizes at once.
    fn add_files(&self, files: impl IntoIterator<Item = (String, usize)>) -> Vec<StorePath> {
        let directory = self.path("files");
        std::fs::create_dir_all(&directory).unwrap();
        let files: Vec<String> = files
            .into_iter()
            .map(|(name, size)| {
                let file = directory.join(&name);
                // The name makes it another content, and so another path, for each test and file.
                std::fs::write(&file, [name.as_bytes(), &trees::noise(size)].concat()).unwrap();
                file.to_str().unwrap().to_owned()
            })
            .collect();
        let mut arguments = vec!["--add"];
        arguments.extend(files.iter().map(String::as_str));
        self.nix("nix-store", &arguments).lines().map(|path| StoreDir::default().parse(path).unwrap()).collect()
    }

    /// Adds a text that refers to `references`.
    fn add_referrer(&self, name: &str, references: &[&StorePath]) -> StorePath {
        let references: Vec<String> = references
            .iter()
            .map(|path| format!("${{builtins.storePath \"{}\"}}", StoreDir::default().join(path)))
            .collect();
        let expression = format!("builtins.toFile \"{name}\" \"{}\"", references.join(" "));
        let path = self.nix("nix-instantiate", &["--eval", "--read-write-mode", "-E", &expression]);
        StoreDir::default().parse(path.trim_matches('"')).unwrap()
    }

    /// Makes a path a root.
    fn root_path(&self, path: &StorePath) {
        let link = self.state().join("gcroots").join(path.to_string());
        std::os::unix::fs::symlink(StoreDir::default().join(path), link).unwrap();
    }

    /// Signs a path with the key of `tests/golden/keys`.
    fn sign(&self, path: &StorePath) {
        let key = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/keys/test-1.secret");
        self.nix("nix", &["store", "sign", "-k", key, &StoreDir::default().join(path)]);
    }

    /// Where a path's files really are.
    fn real(&self, path: &StorePath) -> PathBuf {
        self.root().join("nix/store").join(path.to_string())
    }

    /// Starts a daemon for this store and waits until it listens.
    fn daemon(&self) -> Daemon {
        std::fs::create_dir_all(self.socket().parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(self.socket());
        let child = self.command("nix-daemon").stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let daemon = Daemon { child };
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while std::os::unix::net::UnixStream::connect(self.socket()).is_err() {
            assert!(std::time::Instant::now() < deadline, "nix-daemon does not listen");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        daemon
    }

    /// The bytes that the real Nix makes of a path's files.
    fn dump(&self, file: &Path) -> Vec<u8> {
        let output = self.command("nix-store").arg("--dump").arg(file).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }
}

/// A running nix-daemon; ended when dropped. Its connections are processes of their own, which end with their clients.
struct Daemon {
    child: Child,
}

impl Daemon {
    /// Ends the processes of all connections, as a restart of the service does.
    fn kill_connections(&self) {
        let children = Command::new("pgrep").args(["-P", &self.child.id().to_string()]).output().unwrap();
        for child in String::from_utf8(children.stdout).unwrap().lines() {
            let child = ::nix::unistd::Pid::from_raw(child.parse().unwrap());
            // It may have ended by itself.
            let _ = ::nix::sys::signal::kill(child, ::nix::sys::signal::Signal::SIGKILL);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All bytes of a stream.
async fn collect(stream: ByteStream) -> Result<Vec<u8>, StoreError> {
    Ok(stream.collect().await?.to_bytes().to_vec())
}

async fn valid(store: &Store, path: &StorePath) -> Arc<ValidPath> {
    store.path_info(path.hash()).await.unwrap().expect("a valid path")
}

/// The whole NAR of a path.
async fn nar(store: &Store, path: &StorePath) -> Result<Vec<u8>, StoreError> {
    let layout = store.layout(&*valid(store, path).await).await?;
    collect(store.nar(&layout, 0..layout.nar_size()).await?).await
}
