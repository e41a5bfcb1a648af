//! The one who asks: the real Nix where it is installed, else a small client of our own that checks the same things.

use super::http;
use super::store::Closure;
use anyhow::{Context as _, bail, ensure};
use http_body_util::BodyExt as _;
use peernix::nix::nar::Reader;
use peernix::nix::narinfo::NARINFO_MAX;
use peernix::nix::{Compression, NarHash, NarInfo, PublicKey, StoreDir, TrustedKeys};
use sha2::{Digest as _, Sha256};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use tokio::process::Command;

/// Words of Nix that mean that something went wrong, even if it got better.
const COMPLAINTS: [&str; 4] = ["error", "retrying", "unable to download", "HTTP error"];
/// How many characters of Nix's complaints are repeated.
const COMPLAINT_SHOWN: usize = 400;

/// Who asks.
pub(super) enum Client {
    /// `nix-store`, with the version that it tells.
    Nix(String),
    /// Our own.
    Own,
}

impl Client {
    /// Takes Nix if it is there.
    pub(super) async fn find(own: bool) -> Self {
        if own {
            return Self::Own;
        }
        let version = Command::new("nix-store").arg("--version").stdin(Stdio::null()).output().await;
        match version {
            Ok(output) if output.status.success() => {
                Self::Nix(String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or("nix-store").to_owned())
            }
            _ => Self::Own,
        }
    }

    /// What it is called in the report.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Nix(version) => version,
            Self::Own => "the client of Peernix itself",
        }
    }

    /// Fetches the whole closure. Nix puts it into the store; our own client keeps nothing.
    pub(super) async fn fetch(&self, options: &Options<'_>, closure: &Closure) -> anyhow::Result<()> {
        match self {
            Self::Nix(_) => nix_fetch(options, closure).await,
            Self::Own => own_fetch(options, closure).await,
        }
    }

    /// Reads everything that was fetched once more and returns how many paths are right; `None` if nothing was kept.
    pub(super) async fn verify(&self, options: &Options<'_>, closure: &Closure) -> anyhow::Result<Option<usize>> {
        match self {
            Self::Nix(_) => nix_verify(options, closure).await.map(Some),
            Self::Own => Ok(None),
        }
    }
}

/// Where from, where to, and whom to trust.
pub(super) struct Options<'a> {
    /// The only substituter.
    pub(super) gateway: SocketAddr,
    /// The only key that is trusted.
    pub(super) key: &'a PublicKey,
    /// The chroot store of the machine that asks.
    pub(super) store: &'a Path,
    /// A directory for Nix's configuration, home and cache.
    pub(super) home: &'a Path,
}

impl Options<'_> {
    /// `nix-store` on that store, with that configuration and nothing of the user's.
    fn nix_store(&self) -> anyhow::Result<Command> {
        let conf = self.home.join("nix.conf");
        std::fs::create_dir_all(self.home)?;
        std::fs::write(
            &conf,
            format!(
                "substituters = http://{}\ntrusted-public-keys = {}\nrequire-sigs = true\nbuild-users-group =\n\
                 sandbox = false\nfallback = false\nmax-jobs = 0\n",
                self.gateway, self.key
            ),
        )?;
        let path: PathBuf = self.home.to_owned();
        let mut command = Command::new("nix-store");
        command
            .arg("--store")
            .arg(self.store)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C.UTF-8")
            .env("HOME", &path)
            .env("XDG_CACHE_HOME", path.join("cache"))
            .env("NIX_CONF_DIR", &path)
            .env("NIX_USER_CONF_FILES", &conf)
            .stdin(Stdio::null())
            .kill_on_drop(true);
        Ok(command)
    }
}

fn root_path(closure: &Closure) -> anyhow::Result<String> {
    Ok(StoreDir::default().join(&closure.root().context("the closure is empty")?.path))
}

/// Succeeds only if Nix does and has nothing to complain of.
fn content(what: &str, output: &Output) -> anyhow::Result<String> {
    let said = String::from_utf8_lossy(&output.stderr);
    let complaint = said.lines().find(|line| COMPLAINTS.iter().any(|word| line.contains(word)));
    if !output.status.success() || complaint.is_some() {
        let complaint = complaint.unwrap_or_else(|| said.lines().last().unwrap_or_default());
        bail!("{what}: {} ({})", complaint.chars().take(COMPLAINT_SHOWN).collect::<String>(), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn nix_fetch(options: &Options<'_>, closure: &Closure) -> anyhow::Result<()> {
    let output = options.nix_store()?.arg("--realise").arg(root_path(closure)?).output().await?;
    content("nix-store --realise", &output).map(drop)
}

async fn nix_verify(options: &Options<'_>, closure: &Closure) -> anyhow::Result<usize> {
    let output = options.nix_store()?.args(["--verify", "--check-contents"]).output().await?;
    content("nix-store --verify --check-contents", &output)?;
    let output = options.nix_store()?.args(["--query", "--requisites"]).arg(root_path(closure)?).output().await?;
    Ok(content("nix-store --query --requisites", &output)?.lines().count())
}

/// Asks for each path as Nix does, and checks signature, size, hash and form. Keeps nothing.
async fn own_fetch(options: &Options<'_>, closure: &Closure) -> anyhow::Result<()> {
    let dir = StoreDir::default();
    let trusted: TrustedKeys = [options.key.clone()].into_iter().collect();
    for wanted in &closure.paths {
        let hash = wanted.path.hash();
        let text = http::get_whole(options.gateway, &format!("/{hash}.narinfo"), NARINFO_MAX).await?;
        let text = std::str::from_utf8(&text).with_context(|| format!("{hash}.narinfo"))?;
        let narinfo = NarInfo::parse(text, &dir).with_context(|| format!("{hash}.narinfo"))?;
        ensure!(narinfo.info.path == wanted.path, "{hash}.narinfo is of another path");
        ensure!(trusted.voucher(&narinfo.info, &dir).is_some(), "{hash}.narinfo has no signature that counts");
        ensure!(narinfo.compression == Compression::None, "{hash}: compressed, which peers never do");
        let mut body = http::get(options.gateway, &format!("/{}", narinfo.url)).await?.into_body();
        let mut hasher = Sha256::new();
        let mut reader = Reader::new(narinfo.info.nar_size);
        while let Some(frame) = body.frame().await {
            let frame = frame.with_context(|| format!("{} was cut off", narinfo.url))?;
            if let Ok(bytes) = frame.into_data() {
                hasher.update(&bytes);
                reader.feed(&bytes, &mut |_| {}).with_context(|| narinfo.url.clone())?;
            }
        }
        let size = reader.finish().with_context(|| narinfo.url.clone())?;
        ensure!(size == narinfo.info.nar_size, "{}: {size} bytes, not {}", narinfo.url, narinfo.info.nar_size);
        let got = NarHash::new(hasher.finalize().into());
        ensure!(got == narinfo.info.nar_hash, "{}: its hash is {got}", narinfo.url);
    }
    Ok(())
}
