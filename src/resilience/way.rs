//! Whether the way that a connection took is still there, by asking the kernel: no packet is sent.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

/// The way of a connection, after the network may have changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// A connection made now would come from the same address.
    Same,
    /// One made now would come from another address, or could not be made; what is under way may yet arrive.
    Moved,
    /// The address is no longer this machine's: nothing that is sent to it arrives, and nobody says so.
    Gone,
}

impl Way {
    /// The way of the connection from `local` to `remote`. Takes microseconds.
    #[must_use]
    pub fn of(local: SocketAddr, remote: SocketAddr) -> Self {
        if !is_ours(local) {
            return Self::Gone;
        }
        match source_towards(remote) {
            Some(source) if source == local.ip().to_canonical() => Self::Same,
            _ => Self::Moved,
        }
    }
}

/// Whether an address is on one of this machine's interfaces. Should the kernel not let us ask, it is taken to be.
fn is_ours(local: SocketAddr) -> bool {
    let mut free = local;
    free.set_port(0);
    UdpSocket::bind(free).map_or_else(|error| error.kind() != std::io::ErrorKind::AddrNotAvailable, |_| true)
}

/// The address from which this machine would talk to `remote` now; `None` if there is no way to it.
fn source_towards(remote: SocketAddr) -> Option<IpAddr> {
    let any: IpAddr = if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip().to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_stay_move_and_go() {
        let way = |local: &str, remote: &str| Way::of(local.parse().unwrap(), remote.parse().unwrap());
        assert_eq!(way("127.0.0.1:40000", "127.0.0.1:80"), Way::Same);
        assert_eq!(way("127.0.0.3:40000", "127.0.0.1:80"), Way::Moved);
        // Set aside for documentation: nobody has it.
        assert_eq!(way("192.0.2.1:40000", "127.0.0.1:80"), Way::Gone);
    }
}
