//! The listeners: which sockets are served by whom, under which limits.

use crate::http::{Handler, Limits, Listener};
use crate::metrics::HttpMetrics;
use crate::peers::link::Acceptor;
use crate::system::sockets::Addresses;
use std::net::TcpListener;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Who is on the other side of a listener.
pub(super) enum Towards {
    /// The Nix of this machine.
    Nix,
    /// Other machines with Peernix.
    Peers(Acceptor),
    /// Any Nix client.
    Anyone,
}

/// Serves on each of these sockets.
pub(super) fn serve<H: Handler>(
    tasks: &TaskTracker,
    (handler, metrics): (&Arc<H>, &Arc<HttpMetrics>),
    limits: &Limits,
    towards: Towards,
    sockets: Vec<TcpListener>,
    stop: &CancellationToken,
) {
    let (tls, local_only) = match towards {
        Towards::Nix => (None, true),
        Towards::Peers(acceptor) => (Some(acceptor), false),
        Towards::Anyone => (None, false),
    };
    let (handler, metrics) = (Arc::clone(handler), Arc::clone(metrics));
    let listener = Arc::new(Listener { handler, limits: limits.clone(), metrics, tls, local_only });
    for socket in sockets {
        match tokio::net::TcpListener::from_std(socket) {
            Ok(socket) => {
                tasks.spawn(Arc::clone(&listener).serve(socket, stop.clone()));
            }
            Err(error) => log::error!("a socket cannot be served: {error}"),
        }
    }
}

/// Says where they are, and the one line that Nix needs.
pub(super) fn announce(addresses: &Addresses) {
    if let Some(share) = addresses.share {
        log::info!(address:% = share; "peers are served on {share}");
    }
    if let Some(plain) = addresses.plain {
        log::info!(address:% = plain; "any Nix is served on http://{plain}");
    }
    if let Some(gateway) = addresses.gateway {
        log::info!(address:% = gateway; "Nix is served on http://{gateway}; in nix.conf: extra-substituters = http://{gateway}");
    }
}
