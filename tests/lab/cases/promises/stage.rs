//! Where these cases play: a host whose Nix asks its gateway, and the caches that the gateway asks.

use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use peernix::nix::PathInfo;

use crate::byte_server::{Asked, Reply, Request, Respond, Servers};
use crate::ctx::Ctx;
use crate::host::Host;
use crate::internet::{Change, changed, flat_cache};
use crate::needs::Need;
use crate::network::Network;
use crate::process::sh;
use crate::store::{Signed, StoreSet};

/// Sets up the caches of one case.
pub(super) type Play = Box<dyn Fn(&mut Stage<'_>) -> Result<Scene> + Send>;

/// What a cache answers instead of what is right.
pub(super) type Fault = fn() -> Reply;

/// One way in which caches behave.
pub(super) struct Act {
    /// Its line in the list of promises, and what happens.
    pub(super) name: String,
    pub(super) needs: Vec<Need>,
    pub(super) play: Play,
}

impl Act {
    pub(super) fn new(
        name: impl Into<String>,
        play: impl Fn(&mut Stage<'_>) -> Result<Scene> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), needs: vec![], play: Box::new(play) }
    }

    pub(super) fn needing(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }
}

/// What Nix is to fetch, and from where.
pub(super) struct Scene {
    pub(super) paths: Vec<PathInfo>,
    /// Those of the gateway, best first.
    pub(super) upstreams: Vec<String>,
    /// Nix's own substituters after the gateway; only where the gateway may leave a path to them.
    pub(super) beside: Vec<String>,
    /// Nix has them within this time.
    pub(super) limit: Duration,
}

impl Scene {
    pub(super) fn new(paths: &[PathInfo], upstreams: Vec<String>) -> Self {
        Self { paths: paths.to_vec(), upstreams, beside: vec![], limit: Duration::from_secs(20) }
    }
}

/// The hosts of one case.
pub(super) struct Stage<'a> {
    pub(super) ctx: &'a Ctx,
    pub(super) network: Network<'a>,
    /// Where Nix and the gateway are.
    pub(super) host: Arc<Host>,
    /// Whose Nix writes the files of the caches.
    maker: Arc<Host>,
    /// Hosts that only have to be there.
    others: Vec<Arc<Host>>,
    servers: Servers,
    caches: usize,
}

impl<'a> Stage<'a> {
    pub(super) fn new(ctx: &'a Ctx) -> Result<Self> {
        let network = ctx.network()?;
        let (host, maker) = (network.host("b")?, network.host("maker")?);
        Ok(Self { ctx, network, host, maker, others: vec![], servers: Servers::new()?, caches: 0 })
    }

    /// Lets a host live as long as the case.
    pub(super) fn keep(&mut self, host: Arc<Host>) {
        self.others.push(host);
    }

    /// Paths by name, which the caches of this case then have.
    pub(super) fn pieces(&self, names: &[&str]) -> Result<Vec<PathInfo>> {
        let set = self.ctx.world.pieces()?;
        let infos = names.iter().map(|name| set.named(name)).collect::<Result<Vec<_>>>()?;
        self.take(set, &infos)
    }

    /// So many small paths of one closure.
    pub(super) fn many(&self, count: usize) -> Result<Vec<PathInfo>> {
        let set = self.ctx.world.many()?;
        self.take(set, &set.closure_of(set.paths.iter().take(count)))
    }

    fn take(&self, set: &StoreSet, infos: &[&PathInfo]) -> Result<Vec<PathInfo>> {
        set.install_some(&self.maker, infos, Signed::Yes)?;
        Ok(infos.iter().map(|info| (*info).clone()).collect())
    }

    /// The files of a cache of `paths`, as Nix itself writes them.
    pub(super) fn files(&mut self, compression: &str, paths: &[PathInfo]) -> Result<PathBuf> {
        self.caches += 1;
        let paths: Vec<String> = paths.iter().map(|info| format!("/nix/store/{}", info.path)).collect();
        flat_cache(&self.maker, &format!("cache-{}", self.caches), compression, &paths)
    }

    /// A cache of `paths` on the Internet, whose answers are changed.
    pub(super) fn cache(&mut self, compression: &str, paths: &[PathInfo], change: Change) -> Result<String> {
        let dir = self.files(compression, paths)?;
        self.serve(changed(&dir, change)).map(|(url, _)| url)
    }

    /// A cache of `paths` that does nothing wrong.
    pub(super) fn good_cache(&mut self, compression: &str, paths: &[PathInfo]) -> Result<String> {
        self.cache(compression, paths, Arc::new(|_, honest| honest))
    }

    /// A server on the Internet.
    pub(super) fn serve(&mut self, respond: Respond) -> Result<(String, Asked)> {
        self.serve_at(&self.network.outside_address(), respond)
    }

    /// A server on another machine beside it.
    pub(super) fn serve_beside(&mut self, respond: Respond) -> Result<(String, Asked)> {
        const BESIDE: &str = "10.77.0.253";
        sh(&format!("ip -n {} addr add {BESIDE}/24 dev br0", self.network.outside.0))?;
        self.serve_at(BESIDE, respond)
    }

    fn serve_at(&self, address: &str, respond: Respond) -> Result<(String, Asked)> {
        let listener = self.network.outside.enter(|| TcpListener::bind((address, 0)).context("a cache"))?;
        let url = format!("http://{address}:{}", listener.local_addr()?.port());
        Ok((url, self.servers.plain(listener, respond)?))
    }

    /// A server on the machine of Nix itself.
    pub(super) fn serve_locally(&mut self, respond: Respond) -> Result<(String, Asked)> {
        let listener = self.host.enter(|| TcpListener::bind("127.0.0.1:0").context("a local cache"))?;
        let url = format!("http://127.0.0.1:{}", listener.local_addr()?.port());
        Ok((url, self.servers.plain(listener, respond)?))
    }

    /// A cache of `paths` behind TLS and so far away; this host, and no other, trusts its certificate.
    pub(super) fn distant_cache(&mut self, paths: &[PathInfo], round_trip: Duration) -> Result<String> {
        let dir = self.files("none", paths)?;
        let address = self.network.outside_address();
        let tls = crate::tls::server(&self.host.dir.join("etc"), &address)?;
        let listener = self.network.outside.enter(|| TcpListener::bind((address.as_str(), 0)).context("a cache"))?;
        let url = format!("https://{address}:{}", listener.local_addr()?.port());
        self.servers.distant(listener, tls, round_trip, changed(&dir, Arc::new(|_, honest| honest)))?;
        Ok(url)
    }
}

/// Whether a NAR is asked for.
pub(super) fn is_nar(request: &Request) -> bool {
    request.target.contains("/nar/")
}

/// Whether a narinfo is asked for.
pub(super) fn is_narinfo(request: &Request) -> bool {
    request.target.ends_with(".narinfo")
}

/// A narinfo with another value behind `field`.
pub(super) fn rewrite(narinfo: Reply, field: &str, value: impl Fn(&str) -> String) -> Reply {
    let text = String::from_utf8_lossy(&narinfo.body);
    let lines = text.lines().map(|line| match line.strip_prefix(field) {
        Some(old) => format!("{field} {}\n", value(old.trim())),
        None => format!("{line}\n"),
    });
    let body: String = lines.collect();
    Reply { body: body.into(), ..narinfo }
}
