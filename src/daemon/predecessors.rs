//! The ports at which machines with a predecessor are answered: as they do it themselves, the Nix of this machine is served there by the gateway, and
//! everybody else by the share.

use crate::http::gateway::Gateway;
use crate::http::{Body, Draining, Handler, Request, Route, Share, ShareHandler, reply};
use crate::nix::{NarHash, StoreHash};
use crate::peers::Predecessor;
use crate::peers::go_peernix::{self, GoPeernix, HasNar};
use crate::peers::peerix::{self, Has, Peerix};
use crate::store::Audience;
use hyper::{Response, StatusCode};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Both sockets of one of them.
struct Pair {
    questions: UdpSocket,
    listener: TcpListener,
}

impl Pair {
    fn open(name: &str, port: u16) -> Option<Self> {
        let open = || {
            let at = (Ipv4Addr::UNSPECIFIED, port);
            let (questions, listener) = (UdpSocket::bind(at)?, TcpListener::bind(at)?);
            listener.set_nonblocking(true)?;
            io::Result::Ok(Self { questions, listener })
        };
        open().map_err(|error| complain(name, port, &error)).ok()
    }
}

fn complain(name: &str, port: u16, error: &io::Error) {
    log::warn!(port = port, reason:% = error; "[discovery] peerix: port {port} of {name} cannot be had: {error}; is {name} still running?");
}

/// The sockets of both.
pub(super) struct Sockets {
    peerix: Option<Pair>,
    go: Option<Pair>,
}

impl Sockets {
    /// Takes the ports, before the walls go up; says why where they cannot be had.
    pub(super) fn open() -> Self {
        Self { peerix: Pair::open(PEERIX, peerix::PORT), go: Pair::open(GO, go_peernix::PORT) }
    }

    /// Asks over them from now on. Must be called within a tokio runtime.
    pub(super) fn start(self) -> Predecessors {
        let mut predecessors = Predecessors::default();
        if let Some(Pair { questions, listener }) = self.peerix {
            match Peerix::new(questions) {
                Ok(peerix) => predecessors.peerix = Some((peerix, listener)),
                Err(error) => complain(PEERIX, peerix::PORT, &error),
            }
        }
        if let Some(Pair { questions, listener }) = self.go {
            match GoPeernix::new(questions) {
                Ok(go) => predecessors.go = Some((go, listener)),
                Err(error) => complain(GO, go_peernix::PORT, &error),
            }
        }
        predecessors
    }
}

/// What they are called in messages.
const PEERIX: &str = "peerix";
const GO: &str = "the Peernix that is written in Go";

/// Those that are asked and answered.
#[derive(Default)]
pub(super) struct Predecessors {
    peerix: Option<(Peerix, TcpListener)>,
    go: Option<(GoPeernix, TcpListener)>,
}

impl Predecessors {
    /// Them, to be asked.
    pub(super) fn to_ask(&self) -> Vec<Predecessor> {
        let peerix = self.peerix.iter().map(|(peerix, _)| Predecessor::Peerix(peerix.clone()));
        peerix.chain(self.go.iter().map(|(go, _)| Predecessor::Go(go.clone()))).collect()
    }

    /// Answers what they ask, until `stop`, and gives what is to be served at which listener.
    pub(super) fn answer(
        self,
        gateway: &Arc<Gateway>,
        (share, plain): (&Arc<Share>, &Arc<Draining<ShareHandler>>),
        stop: &CancellationToken,
    ) -> Vec<(Arc<Face>, TcpListener)> {
        let mut faces = Vec::new();
        let face =
            |manner| Face { gateway: Arc::clone(gateway), plain: Arc::clone(plain), share: Arc::clone(share), manner };
        if let Some((peerix, listener)) = self.peerix {
            log::info!(port = peerix::PORT; "machines with {PEERIX} are asked and answered, at port {}", peerix::PORT);
            tokio::spawn(peerix.run(has(share), stop.clone()));
            faces.push((Arc::new(face(Manner::Peerix)), listener));
        }
        if let Some((go, listener)) = self.go {
            log::info!(port = go_peernix::PORT; "machines with {GO} are asked and answered, at port {}", go_peernix::PORT);
            tokio::spawn(go.run(has_nar(share), stop.clone()));
            faces.push((Arc::new(face(Manner::Go)), listener));
        }
        faces
    }
}

/// Whether a path may be given to anyone, as the share sees it.
fn has(share: &Arc<Share>) -> Has {
    let share = Arc::clone(share);
    Arc::new(move |hash| {
        let share = Arc::clone(&share);
        Box::pin(async move { share.narinfo_text(hash, Audience::Anyone).await.is_some() })
    })
}

/// The NAR hash of such a path.
fn has_nar(share: &Arc<Share>) -> HasNar {
    let share = Arc::clone(share);
    Arc::new(move |hash| {
        let share = Arc::clone(&share);
        Box::pin(async move { nar_hash(&share, hash).await })
    })
}

async fn nar_hash(share: &Arc<Share>, hash: StoreHash) -> Option<NarHash> {
    let text = share.narinfo_text(hash, Audience::Anyone).await?;
    let line = std::str::from_utf8(&text).ok()?.lines().find_map(|line| line.strip_prefix("NarHash: sha256:"))?;
    NarHash::from_nix32(line).ok()
}

/// As which of them a port answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Peerix,
    Go,
}

/// What answers there.
pub(super) struct Face {
    gateway: Arc<Gateway>,
    plain: Arc<Draining<ShareHandler>>,
    share: Arc<Share>,
    manner: Manner,
}

impl Handler for Face {
    async fn answer(&self, request: Request) -> Response<Body> {
        let is_local = request.caller.address.ip().is_loopback();
        // The gateway's other routes are for whoever asks it by its own names.
        let is_cache = matches!(request.route, Route::CacheInfo | Route::NarInfo(_) | Route::Nar(_));
        match (is_local, is_cache) {
            (true, true) => self.gateway.answer(request).await,
            (true, false) => reply::not_found(),
            (false, _) => self.to_others(request).await,
        }
    }
}

impl Face {
    async fn to_others(&self, request: Request) -> Response<Body> {
        let narinfo = match request.route {
            Route::NarInfo(hash) if self.manner == Manner::Go && !request.head => Some(hash),
            _ => None,
        };
        let answer = self.plain.answer(request).await;
        match narinfo {
            // It is to be had, and what drains or is paused was looked at.
            Some(hash) if answer.status() == StatusCode::OK => {
                self.share.narinfo_for_go(hash).await.unwrap_or_else(reply::not_found)
            }
            _ => answer,
        }
    }
}
