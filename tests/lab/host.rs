//! One host: a network namespace, a mount namespace with its own `/nix` and `/run`, and a folder for the rest.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};

use crate::ctx::Ctx;
use crate::network::{NetNs, Port};
use crate::process::{output, sh};
use crate::real_nix::Generation;

/// Where a host finds its own folder; the same in the root trees of the other Nix versions.
pub(crate) const HERE: &str = "/run/host";

/// A machine of the lab.
pub(crate) struct Host {
    /// As the case calls it.
    pub(crate) name: String,
    /// Its network.
    pub(crate) ns: NetNs,
    /// Its cable.
    pub(crate) port: Port,
    /// The end of its addresses: 10.77.0.N and fd77::N (in decimal digits).
    pub(crate) index: usize,
    /// Its folder, as seen from outside: `nix/`, `home/`, `etc/`, `tmp/` and what the programs keep.
    pub(crate) dir: PathBuf,
    /// A short path to the same, because the path of a socket may have 107 bytes only.
    pub(crate) short: PathBuf,
    /// Where the logs of its programs go.
    pub(crate) logs: PathBuf,
    /// A process that does nothing but live in the mount namespace. (A file that stands for the namespace would be tidier, but
    /// kernels since 6.18 refuse to bind one at random: they compare numbers that each CPU hands out by itself.)
    keeper: Child,
}

impl Host {
    pub(crate) fn new(ctx: &Ctx, name: &str, ns: NetNs, port: Port, index: usize) -> Result<Arc<Self>> {
        let dir = ctx.tmp.join(name);
        for sub in ["nix/store", "nix/var/nix", "home", "etc/nix", "tmp"] {
            std::fs::create_dir_all(dir.join(sub)).with_context(|| format!("{dir:?}/{sub}"))?;
        }
        let short = Path::new("/run/lab").join(&ns.0);
        std::os::unix::fs::symlink(&dir, &short)?;
        let roots: Vec<String> =
            Generation::ALL.iter().filter_map(|g| g.root()).map(|root| format!("'{}'", root.display())).collect();
        // sysfs is of the network namespace in which it is mounted. The root trees are shared by all hosts; what is
        // mounted into them is this host's own, and seen by nobody else.
        let setup = format!(
            "mount -t sysfs sysfs /sys
             mount --bind '{dir}/nix' /nix
             mount -t tmpfs -o mode=755 tmpfs /run
             mkdir -p {HERE} /run/bin
             mount --bind '{dir}' {HERE}
             touch /run/bin/peernixd /run/bin/peernixctl
             mount --bind '{peernixd}' /run/bin/peernixd
             mount --bind '{peernixctl}' /run/bin/peernixctl
             for root in {roots}; do
               for dir in /proc /dev /nix /run; do mount --rbind $dir $root$dir; done
             done
             echo made
             exec cat",
            dir = dir.display(),
            peernixd = ctx.peernixd.display(),
            peernixctl = env!("CARGO_BIN_EXE_peernixctl"),
            roots = roots.join(" "),
        );
        let mut keeper = Command::new("nsenter")
            .arg(format!("--net={}", ns.file().display()))
            .args(["unshare", "--mount", "--propagation", "private", "sh", "-ec", &setup])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut said = String::new();
        BufReader::new(keeper.stdout.take().context("no output")?).read_line(&mut said)?;
        ensure!(said == "made\n", "making host {name}: see what the shell wrote above");
        let host = Self { name: name.into(), ns, port, index, dir, short, logs: ctx.logs.clone(), keeper };
        host.nix_conf(&["http://127.0.0.1:7649"], &ctx.world.public_key())?;
        Ok(Arc::new(host))
    }

    /// Its IPv4 address.
    pub(crate) fn address(&self) -> String {
        format!("10.77.0.{}", self.index)
    }

    /// Runs `action` in its network; see [`NetNs::enter`].
    pub(crate) fn enter<T: Send>(&self, action: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.ns.enter(action)
    }

    /// A program on this host, in a clean environment. The process becomes the program itself, so signals reach it.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("LANG", "C.UTF-8")
            .env("HOME", format!("{HERE}/home"))
            .env("TMPDIR", format!("{HERE}/tmp"))
            .env("NIX_CONF_DIR", format!("{HERE}/etc/nix"))
            .arg(format!("--net={}", self.ns.file().display()))
            .arg(format!("--mount=/proc/{}/ns/mnt", self.keeper.id()))
            .arg("--")
            .arg(program);
        command
    }

    /// A program of one generation of Nix on this host's store.
    pub(crate) fn nix_command(&self, generation: Generation, program: &str) -> Command {
        match generation.root() {
            None => self.command(program),
            Some(root) => {
                let mut command = self.command("chroot");
                command.arg(root).arg(program);
                command
            }
        }
    }

    /// Runs a shell script on this host.
    pub(crate) fn sh(&self, script: &str) -> Result<String> {
        output(self.command("sh").args(["-ec", script])).with_context(|| format!("on host {}", self.name))
    }

    /// Deletes a path from its store. Among processes of its own: Nix keeps what any process has open that it sees, and hosts
    /// have paths of the same names.
    pub(crate) fn delete(&self, path: &str) -> Result<()> {
        self.sh(&format!("unshare --pid --fork --mount-proc nix-store --delete {path}")).map(drop)
    }

    /// Deletes whatever its store has and nothing holds, among processes of its own as well.
    pub(crate) fn collect(&self) -> Result<()> {
        self.sh("unshare --pid --fork --mount-proc nix-store --gc >/dev/null 2>&1").map(drop)
    }

    /// Writes its `nix.conf`: who is asked, and whose signatures count.
    pub(crate) fn nix_conf(&self, substituters: &[&str], trusted_key: &str) -> Result<()> {
        let text = format!(
            "experimental-features = nix-command\nsandbox = false\nbuild-users-group =\n\
             substituters = {}\ntrusted-public-keys = {trusted_key}\nrequire-sigs = true\n\
             narinfo-cache-negative-ttl = 0\n",
            substituters.join(" ")
        );
        std::fs::write(self.dir.join("etc/nix/nix.conf"), text).context("nix.conf")
    }

    /// Limits what it can send, in megabits per second.
    pub(crate) fn slow(&self, mbit: u32) -> Result<()> {
        self.sh(&format!("tc qdisc replace dev eth0 root tbf rate {mbit}mbit burst 64k latency 50ms")).map(drop)
    }

    /// Lifts that limit.
    pub(crate) fn fast(&self) -> Result<()> {
        self.sh("tc qdisc del dev eth0 root").map(drop)
    }

    /// Loses `percent` of what arrives.
    pub(crate) fn lose(&self, percent: u32) -> Result<()> {
        // nft knows 0 to 99 only.
        let which = if percent < 100 { format!("numgen random mod 100 '<' {percent}") } else { String::new() };
        self.sh(&format!(
            "nft add table inet lab
             nft 'add chain inet lab in {{ type filter hook input priority 0; }}'
             nft add rule inet lab in iifname eth0 {which} drop"
        ))
        .map(drop)
    }

    /// Bytes that it has sent through its cable so far.
    pub(crate) fn sent(&self) -> Result<u64> {
        self.ns.sent("eth0")
    }

    /// A path on the host, as seen from outside.
    pub(crate) fn outside(&self, path: &str) -> PathBuf {
        let path = path.strip_prefix(HERE).unwrap_or(path);
        self.dir.join(path.trim_start_matches('/'))
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // All of it ends with the run at the latest.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
        let _ = sh(&format!("rm -f '{}'; ip netns del {}", self.short.display(), self.ns.0));
    }
}
