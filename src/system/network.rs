//! Changes of the network: links and addresses that come and go, as the kernel reports them over netlink, and wake-ups.
//!
//! Source: [rtnetlink(7)](https://man7.org/linux/man-pages/man7/rtnetlink.7.html). Messages are not read for what they
//! say: that something changed is all that anyone here wants to know, and looking again is the only safe answer.
#![forbid(unsafe_code)]

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, socket};
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// A burst of messages is one change; it has ended when nothing came for this long.
const QUIET: Duration = Duration::from_millis(100);
/// A burst that does not end is reported this often.
const BURST_MAX: Duration = Duration::from_millis(500);
/// The size of the receive buffer in bytes. Messages are cut to it, which does not matter to us.
const BUFFER: usize = 4096;

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR` of `linux/rtnetlink.h`.
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// Starts to count changes of links and addresses, and `wake_ups`, until `stop`. The number means nothing; that it moved does.
///
/// Where the kernel or a sandbox refuses netlink, that is logged once and the number never moves. Must be called within
/// a tokio runtime.
#[must_use]
pub fn watch(mut wake_ups: watch::Receiver<u64>, stop: CancellationToken) -> watch::Receiver<u64> {
    let (count, changes) = watch::channel(0_u64);
    tokio::spawn(async move {
        let watching = async {
            let netlink = open()?;
            loop {
                tokio::select! {
                    burst = next_burst(&netlink) => burst?,
                    Ok(()) = wake_ups.changed() => {}
                }
                log::debug!("the network changed");
                count.send_modify(|count| *count = count.wrapping_add(1));
            }
        };
        let ended: Option<io::Result<()>> = stop.run_until_cancelled(watching).await;
        if let Some(Err(error)) = ended {
            log::warn!(
                "cannot watch the network over netlink ({error}): changes are noticed later, by peers that do not answer"
            );
            // The sender stays, so that waiting for a change waits instead of failing.
            stop.cancelled().await;
        }
    });
    changes
}

/// A netlink socket as the runtime's type for datagrams: it only ever receives on it, which is the same for any family.
fn open() -> io::Result<UdpSocket> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
    UdpSocket::from_std(fd.into())
}

/// Waits for a message, and then for the end of the burst that it belongs to.
async fn next_burst(netlink: &UdpSocket) -> io::Result<()> {
    message(netlink).await?;
    let latest = Instant::now() + BURST_MAX;
    while let Ok(Ok(more)) = timeout_at(latest, timeout(QUIET, message(netlink))).await {
        more?;
    }
    Ok(())
}

async fn message(netlink: &UdpSocket) -> io::Result<()> {
    let mut buffer = [0; BUFFER];
    match netlink.recv(&mut buffer).await {
        Ok(_) => Ok(()),
        // There were more messages than the kernel keeps for us. So something changed.
        Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_ends_when_it_is_told_to() {
        let stop = CancellationToken::new();
        let mut changes = watch(watch::channel(0).1, stop.clone());
        stop.cancel();
        // The sender goes with the task.
        timeout(Duration::from_secs(5), async { while changes.changed().await.is_ok() {} }).await.unwrap();
    }

    #[tokio::test]
    async fn a_wake_up_is_a_change() {
        let stop = CancellationToken::new();
        let (wake_up, wake_ups) = watch::channel(0);
        let mut changes = watch(wake_ups, stop.clone());
        wake_up.send(1).unwrap();
        timeout(Duration::from_secs(5), changes.changed()).await.unwrap().unwrap();
        stop.cancel();
    }
}
