//! The sockets of port 5353, shared with whoever else speaks mDNS on this machine, and the groups they are in on each interface.

use super::responder::PORT;
use nix::libc;
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrStorage, recvmsg, sendmsg, setsockopt, sockopt,
};
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, Socket, Type};
use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll, ready};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// The groups of mDNS.
const GROUP_V4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const GROUP_V6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xfb);
/// What every mDNS packet is sent with (RFC 6762 section 11): one hop more, and it would be less at the other end.
const HOPS: u32 = 255;
/// The most sockets of one family. Linux lets one be in 20 groups of IPv4 (`net.ipv4.igmp_max_memberships`).
const SOCKETS_MAX: usize = 16;

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const BOTH: [Self; 2] = [Self::V4, Self::V6];

    pub(super) const fn is_v4(self) -> bool {
        matches!(self, Self::V4)
    }

    pub(super) const fn name(self) -> &'static str {
        if self.is_v4() { "IPv4" } else { "IPv6" }
    }
}

/// Where a packet came from. Its bytes are in the buffer that was given.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet {
    pub(super) length: usize,
    pub(super) from: SocketAddr,
    /// The number of the interface that it came in by.
    pub(super) link: u32,
}

/// The sockets that could be had.
#[derive(Default)]
pub(super) struct Sockets {
    sockets: Vec<(Family, Socket)>,
    /// Second handles of the same, as far as we are woken when something comes. None of them while we rest: under a flood the runtime
    /// would else be woken by each packet, whether or not anybody waits for it.
    watched: Vec<UdpSocket>,
    /// By which socket we are in the group on an interface.
    joined: HashMap<(u32, Family), usize>,
    /// The interfaces on which something could not be said to everybody.
    silent: HashSet<u32>,
    /// Room for what the kernel says about a packet.
    control: Vec<u8>,
    /// The socket that is asked first for the next packet: who floods one does not silence another.
    turn: usize,
}

impl Sockets {
    /// Opens the first socket of a family. False where this machine does not have the family at all.
    ///
    /// # Errors
    /// Another program has the port for itself, or we may not.
    pub(super) fn open(&mut self, family: Family) -> io::Result<bool> {
        match open(family) {
            Ok(socket) => {
                self.sockets.push((family, socket));
                self.wake()?;
                Ok(true)
            }
            Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    pub(super) fn has(&self, family: Family) -> bool {
        self.sockets.iter().any(|(of, _)| *of == family)
    }

    /// Takes part in the group on an interface.
    pub(super) fn join(&mut self, link: u32, family: Family) {
        if self.joined.contains_key(&(link, family)) || !self.has(family) {
            return;
        }
        let full = |error: &io::Error| matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENOMEM));
        let mut outcome = Err(io::Error::from_raw_os_error(libc::ENOBUFS));
        for (index, (_, socket)) in self.sockets.iter().enumerate().filter(|(_, (of, _))| *of == family) {
            outcome = join(socket, link, family).map(|()| index);
            if !outcome.as_ref().is_err_and(full) {
                break;
            }
        }
        if outcome.as_ref().is_err_and(full) && self.sockets.len() < SOCKETS_MAX {
            outcome = open(family).and_then(|socket| {
                let joined = join(&socket, link, family);
                self.sockets.push((family, socket));
                self.wake()?;
                joined.map(|()| self.sockets.len() - 1)
            });
        }
        match outcome {
            Ok(index) => drop(self.joined.insert((link, family), index)),
            // It may have gone since we looked.
            Err(error) => log::debug!(interface = link, reason:% = error; "no multicast over {} there", family.name()),
        }
    }

    /// Leaves the groups on an interface, which may be gone.
    pub(super) fn leave(&mut self, link: u32) {
        for family in Family::BOTH {
            let Some(index) = self.joined.remove(&(link, family)) else { continue };
            let Some((_, socket)) = self.sockets.get(index) else { continue };
            // The kernel forgets it with the interface; what counts is that it does not count towards the limit any more.
            let _ = match family {
                Family::V4 => socket.leave_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(link)),
                Family::V6 => socket.leave_multicast_v6(&GROUP_V6, link),
            };
        }
    }

    /// Sends to everybody on an interface, over each family in whose group we are there.
    pub(super) fn tell(&mut self, link: u32, message: &[u8]) {
        for family in Family::BOTH {
            if let Some((_, socket)) = self.joined.get(&(link, family)).and_then(|index| self.sockets.get(*index)) {
                let to = match family {
                    Family::V4 => SocketAddrV4::new(GROUP_V4, PORT).into(),
                    Family::V6 => SocketAddrV6::new(GROUP_V6, PORT, 0, link).into(),
                };
                if !send(socket, link, to, message) {
                    self.silent.insert(link);
                }
            }
        }
    }

    /// The interfaces on which something could not be said to everybody, since this was last asked: an IPv6 address that is new
    /// cannot be used in its first second or two, while the kernel looks whether it is somebody else's.
    pub(super) fn take_silent(&mut self) -> HashSet<u32> {
        std::mem::take(&mut self.silent)
    }

    /// Sends to one on an interface.
    pub(super) fn answer(&self, link: u32, to: SocketAddr, message: &[u8]) {
        let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
        if let Some((_, socket)) = self.sockets.iter().find(|(of, _)| *of == family) {
            send(socket, link, to, message);
        }
    }

    /// Lets what comes wait in the kernel, until [`Self::wake`].
    pub(super) fn rest(&mut self) {
        self.watched.clear();
    }

    /// Takes notice of what comes.
    ///
    /// # Errors
    /// There are too many open files, or the kernel has no memory to tell us.
    pub(super) fn wake(&mut self) -> io::Result<()> {
        for (_, socket) in self.sockets.iter().skip(self.watched.len()) {
            self.watched.push(UdpSocket::from_std(socket.try_clone()?.into())?);
        }
        Ok(())
    }

    /// Waits for a packet, for ever without a socket. Whoever drops the future loses nothing.
    pub(super) async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Packet> {
        poll_fn(|context| self.poll_receive(context, buffer)).await
    }

    fn poll_receive(&mut self, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<Packet>> {
        let (count, first) = (self.sockets.len(), self.turn);
        for index in (0..count).map(|offset| (first + offset) % count) {
            if let Poll::Ready(packet) = self.poll_one(index, context, buffer) {
                self.turn = index + 1;
                return Poll::Ready(packet);
            }
        }
        Poll::Pending
    }

    fn poll_one(&mut self, index: usize, context: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<Packet>> {
        let Self { sockets, watched, control, .. } = self;
        let (Some((family, socket)), Some(watch)) = (sockets.get(index), watched.get(index)) else {
            return Poll::Pending;
        };
        loop {
            ready!(watch.poll_recv_ready(context))?;
            match watch.try_io(Interest::READABLE, || receive(socket, *family, control, buffer)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                outcome => return Poll::Ready(outcome),
            }
        }
    }

    /// A packet that is there already.
    pub(super) fn try_receive(&mut self, buffer: &mut [u8]) -> Option<Packet> {
        let Self { sockets, control, .. } = self;
        sockets.iter().find_map(|(family, socket)| receive(socket, *family, control, buffer).ok())
    }
}

fn open(family: Family) -> io::Result<Socket> {
    let domain = if family.is_v4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
    // What mDNS programs on one machine agree on; who does not set either has the port for itself.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    let address: SocketAddr = match family {
        Family::V4 => {
            // Only what is sent to the groups that this socket joined, not those of every program on the machine.
            socket.set_multicast_all_v4(false)?;
            socket.set_multicast_loop_v4(true)?;
            socket.set_multicast_ttl_v4(HOPS)?;
            socket.set_ttl_v4(HOPS)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT).into()
        }
        Family::V6 => {
            socket.set_only_v6(true)?;
            socket.set_multicast_all_v6(false)?;
            socket.set_multicast_loop_v6(true)?;
            socket.set_multicast_hops_v6(HOPS)?;
            socket.set_unicast_hops_v6(HOPS)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, PORT, 0, 0).into()
        }
    };
    socket.bind(&address.into())?;
    Ok(socket)
}

fn join(socket: &Socket, link: u32, family: Family) -> io::Result<()> {
    match family {
        Family::V4 => socket.join_multicast_v4_n(&GROUP_V4, &InterfaceIndexOrAddress::Index(link)),
        Family::V6 => socket.join_multicast_v6(&GROUP_V6, link),
    }
}

/// Sends a message, if it can be done now.
fn send(socket: &Socket, link: u32, to: SocketAddr, message: &[u8]) -> bool {
    let sent = match to {
        SocketAddr::V4(v4) => {
            let any = libc::in_addr { s_addr: 0 };
            let index = libc::c_int::try_from(link).unwrap_or_default();
            let by = libc::in_pktinfo { ipi_ifindex: index, ipi_spec_dst: any, ipi_addr: any };
            let (parts, control) = ([IoSlice::new(message)], [ControlMessage::Ipv4PacketInfo(&by)]);
            let to = SockaddrIn::from(v4);
            sendmsg(socket.as_raw_fd(), &parts, &control, MsgFlags::MSG_NOSIGNAL, Some(&to)).map_err(io::Error::from)
        }
        SocketAddr::V6(mut v6) => {
            if v6.ip().is_unicast_link_local() || v6.ip().is_multicast() {
                v6.set_scope_id(link);
            }
            socket.send_to(message, &v6.into())
        }
    };
    if let Err(error) = &sent {
        // An interface that has just gone, or a full queue: it is said again, or was not worth it.
        log::debug!(interface = link, to:% = to, reason:% = error; "an mDNS message was not sent");
    }
    sent.is_ok()
}

/// A packet from `socket`, with the interface that it came in by.
fn receive(socket: &Socket, family: Family, control: &mut Vec<u8>, buffer: &mut [u8]) -> io::Result<Packet> {
    if control.capacity() == 0 {
        *control = nix::cmsg_space!(libc::in6_pktinfo);
    }
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(control), MsgFlags::empty())?;
    let link = message.cmsgs()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(by) => u32::try_from(by.ipi_ifindex).ok(),
        ControlMessageOwned::Ipv6PacketInfo(by) => Some(by.ipi6_ifindex),
        _ => None,
    });
    let from = message.address.and_then(|from| match family {
        Family::V4 => from.as_sockaddr_in().map(|v4| SocketAddr::new(IpAddr::V4(v4.ip()), v4.port())),
        Family::V6 => from.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())),
    });
    let from = from.ok_or(ErrorKind::InvalidData)?;
    Ok(Packet { length: message.bytes, from, link: link.unwrap_or_default() })
}
