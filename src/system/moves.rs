//! Moves: the machine has other addresses than before, a link that carries one went or came, or it slept. Connections, and what
//! is known of failures, are of the place before.
//!
//! Not every change of the network is one: containers come and go on many a machine, every few seconds.
#![forbid(unsafe_code)]

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use std::collections::BTreeSet;
use std::net::IpAddr;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Marks every move as a change, until `stop`. The value is how many of them were wake-ups.
///
/// `network` moves with every change, and after each of `wake_ups`. Must be called within a tokio runtime.
#[must_use]
pub fn watch(
    mut network: watch::Receiver<u64>,
    wake_ups: watch::Receiver<u64>,
    stop: CancellationToken,
) -> watch::Receiver<u64> {
    let (moved, moves) = watch::channel(*wake_ups.borrow());
    tokio::spawn(async move {
        let mut before = Place::now();
        while let Some(Ok(())) = stop.run_until_cancelled(network.changed()).await {
            let (now, slept) = (Place::now(), *wake_ups.borrow());
            if slept != *moved.borrow() || now.is_none() || now != before {
                log::debug!("connections and failures of before count no more: the machine is elsewhere, or slept");
                moved.send_replace(slept);
            }
            before = now;
        }
        // The sender stays, so that waiting for a move waits instead of failing.
        stop.cancelled().await;
    });
    moves
}

/// Where the machine is: its addresses beyond each link, by interface, and whether that is connected.
#[derive(Debug, PartialEq, Eq)]
struct Place(BTreeSet<(String, IpAddr, bool)>);

impl Place {
    /// `None` if it cannot be told.
    fn now() -> Option<Self> {
        let addresses = getifaddrs().ok()?.filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
            let ip = v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))?;
            let connected = interface.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING);
            counts(ip).then_some((interface.interface_name, ip, connected))
        });
        Some(Self(addresses.collect()))
    }
}

/// Whether connections beyond a link may have this address. (Every link has one for itself, those of containers too.)
fn counts(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => !v4.is_loopback(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_wake_up_is_a_move_and_a_change_that_left_all_as_it_was_is_none() {
        let stop = CancellationToken::new();
        let (change, network) = watch::channel(0);
        let (wake_up, wake_ups) = watch::channel(0);
        let mut moves = watch(network, wake_ups, stop.clone());
        for count in 1..=3 {
            change.send(count).unwrap();
            tokio::task::yield_now().await;
        }
        wake_up.send(1).unwrap();
        change.send(4).unwrap();
        moves.changed().await.unwrap();
        assert_eq!(*moves.borrow_and_update(), 1, "the first move was the wake-up");
        stop.cancel();
    }

    #[test]
    fn addresses_of_one_link_do_not_count() {
        for ip in ["10.0.0.1", "2001:db8::1", "fd00::1", "169.254.1.1"] {
            assert!(counts(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["127.0.0.1", "::1", "fe80::1"] {
            assert!(!counts(ip.parse().unwrap()), "{ip}");
        }
    }
}
