//! Listening sockets: those that systemd hands over by name, else our own.
//!
//! Source: [sd_listen_fds(3)](https://www.freedesktop.org/software/systemd/man/sd_listen_fds.html). A socket that systemd
//! holds goes on taking connections while the service restarts; nobody is refused.

use super::control_sockets::{self, BACKLOG, BoundPath, Control};
use super::fdstore::Kept;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

pub use super::addresses::{ADDRESSES_FILE, Addresses};
pub use super::face::Face;
pub use super::socket_error::SocketError;

/// Where each face is to listen if systemd does not say otherwise.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Addresses of the gateway.
    pub gateway: &'a [SocketAddr],
    /// Addresses of the share.
    pub share: &'a [SocketAddr],
    /// Addresses of the plain share.
    pub plain: &'a [SocketAddr],
}

/// The most connections turned away at a socket: more than a backlog holds.
const TURNED_AWAY_MAX: usize = 8192;

/// Listening, non-blocking sockets, by face.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Of the gateway.
    pub gateway: Vec<TcpListener>,
    /// Of the share.
    pub share: Vec<TcpListener>,
    /// Of the plain share.
    pub plain: Vec<TcpListener>,
    /// Of Varlink, for everyone: nothing can be changed over these. See [`Self::complete_control`].
    pub varlink: Vec<UnixListener>,
    /// Of Varlink, for those whom the mode of the socket lets in.
    pub varlink_admin: Vec<UnixListener>,
    /// The files of those that systemd did not hand over; they go with this value.
    pub bound: Vec<BoundPath>,
    /// What systemd kept for this process; see [`super::fdstore`].
    pub kept: Kept,
}

impl Sockets {
    /// Takes what systemd hands over and listens itself for every face that it leaves out.
    ///
    /// # Errors
    /// See [`SocketError`]; each names the address and what to do.
    pub fn open(wanted: Wanted<'_>) -> Result<Self, SocketError> {
        let mut sockets = Self::default();
        for (fd, name) in handed_over()? {
            if let Some(face) = Face::ALL.into_iter().find(|face| face.name() == name) {
                sockets.of(face).push(adopt_tcp(fd, &name)?);
            } else if let Some(control) = Control::ALL.into_iter().find(|control| control.name() == name) {
                sockets.of_control(control).push(adopt_unix(fd, &name)?);
            } else if Kept::is_ours(&name) {
                sockets.kept.put(fd);
            } else {
                log::warn!(name:% = name; "closed a file descriptor from systemd whose name says nothing to this service");
                sockets.kept.forget(name);
            }
        }
        for (face, addresses) in
            [(Face::Gateway, wanted.gateway), (Face::Share, wanted.share), (Face::Plain, wanted.plain)]
        {
            if sockets.of(face).is_empty() {
                *sockets.of(face) = addresses.iter().map(|address| listen(face, *address)).collect::<Result<_, _>>()?;
            }
        }
        Ok(sockets)
    }

    /// Closes the sockets of the shares, as nothing is shared: also those that systemd handed over. How many it were.
    pub fn close_shares(&mut self) -> usize {
        let shares = [&mut self.share, &mut self.plain];
        shares.into_iter().map(|sockets| sockets.drain(..).count()).sum()
    }

    /// Listens for Varlink in the runtime directory, for each of the two sockets that systemd left out.
    ///
    /// # Errors
    /// See [`SocketError`]; another service that listens there is one.
    pub fn complete_control(&mut self, runtime: &Path) -> Result<(), SocketError> {
        for control in Control::ALL {
            if self.of_control(control).is_empty() {
                let (listener, bound) = control_sockets::listen(control, runtime)?;
                self.of_control(control).push(listener);
                self.bound.push(bound);
            }
        }
        Ok(())
    }

    fn of_control(&mut self, control: Control) -> &mut Vec<UnixListener> {
        match control {
            Control::Public => &mut self.varlink,
            Control::Admin => &mut self.varlink_admin,
        }
    }

    fn of(&mut self, face: Face) -> &mut Vec<TcpListener> {
        match face {
            Face::Gateway => &mut self.gateway,
            Face::Share => &mut self.share,
            Face::Plain => &mut self.plain,
        }
    }

    /// Where they listen: the first address of each face.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        let first = |listeners: &[TcpListener]| listeners.first().and_then(|listener| listener.local_addr().ok());
        Addresses { gateway: first(&self.gateway), share: first(&self.share), plain: first(&self.plain) }
    }
}

/// Closes the connections that wait in the sockets that systemd hands over, for a service that cannot start and will not be able to
/// until somebody helps it: as long as one waits, systemd starts the service for it again, and gives the sockets up in the end.
///
/// For those that nobody has taken over yet; how many connections it were.
pub fn turn_away() -> usize {
    let sockets = handed_over().unwrap_or_default().into_iter().filter_map(|(fd, name)| {
        let is_ours = Face::ALL.into_iter().any(|face| face.name() == name)
            || Control::ALL.into_iter().any(|control| control.name() == name);
        adopt(fd, &name, "is not a socket", |_| is_ours).ok()
    });
    sockets.map(|fd| (0..TURNED_AWAY_MAX).take_while(|_| SockRef::from(&fd).accept().is_ok()).count()).sum()
}

/// The file descriptors of `$LISTEN_FDS`, with their names. Empty from the second call on.
fn handed_over() -> Result<Vec<(OwnedFd, String)>, SocketError> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Ok(Vec::new());
    }
    // This also sees to it that each of them is open, and closed in child processes.
    let fds: Vec<(RawFd, String)> = sd_notify::listen_fds_with_names().map_err(SocketError::Protocol)?.collect();
    Ok(fds.into_iter().map(|(fd, name)| (own(fd), name)).collect())
}

/// Takes ownership of a file descriptor that systemd handed over.
#[allow(unsafe_code)]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: `fd` comes from `$LISTEN_FDS`, which `sd_notify` checked to be meant for this process id and to be open.
    // By the protocol the process owns these descriptors and nothing else in it uses them; `handed_over`, the only
    // caller, yields each number once in the life of the process. So there is one owner.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Makes sure that a descriptor from outside is a TCP socket that listens.
fn adopt_tcp(fd: OwnedFd, name: &str) -> Result<TcpListener, SocketError> {
    adopt(fd, name, "is not a TCP socket", |address| address.as_socket().is_some()).map(TcpListener::from)
}

/// Makes sure that a descriptor from outside is a Unix socket that listens.
fn adopt_unix(fd: OwnedFd, name: &str) -> Result<UnixListener, SocketError> {
    adopt(fd, name, "is not a Unix stream socket", SockAddr::is_unix).map(UnixListener::from)
}

fn adopt(
    fd: OwnedFd,
    name: &str,
    other: &'static str,
    family: impl Fn(&SockAddr) -> bool,
) -> Result<OwnedFd, SocketError> {
    let wrong = |what| SocketError::HandedOver { name: name.to_owned(), what };
    let socket = SockRef::from(&fd);
    let address = socket.local_addr().map_err(|_| wrong("is not a socket"))?;
    if !family(&address) || socket.r#type().map_err(|_| wrong("is not a socket"))? != Type::STREAM {
        return Err(wrong(other));
    }
    if !socket.is_listener().map_err(|_| wrong("is not a socket"))? {
        return Err(wrong("does not listen (the unit needs ListenStream= and Accept=no)"));
    }
    socket.set_nonblocking(true).map_err(|_| wrong("cannot be made non-blocking"))?;
    Ok(fd)
}

/// Listens on an address.
fn listen(face: Face, address: SocketAddr) -> Result<TcpListener, SocketError> {
    let listener = match bind(address) {
        // A kernel without IPv6 has no [::]; all of its addresses are those of IPv4.
        Err(error) if error.raw_os_error() == Some(nix::libc::EAFNOSUPPORT) && is_any_v6(address) => {
            bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())))
        }
        other => other,
    };
    listener.map_err(|source| SocketError::Listen { face, address, source })
}

fn is_any_v6(address: SocketAddr) -> bool {
    address.is_ipv6() && address.ip().is_unspecified()
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if is_any_v6(address) {
        // [::] is for IPv4 as well, whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    // Connections of the last run that are not quite over must not keep this one from starting.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

#[cfg(test)]
mod tests {
    use super::super::{fdstore, notify::Notifier};
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    fn open(gateway: &[SocketAddr], share: &[SocketAddr]) -> Result<Sockets, SocketError> {
        Sockets::open(Wanted { gateway, share, plain: &[] })
    }

    #[test]
    fn listens_for_both_families_and_tells_where() {
        let sockets = open(&["127.0.0.1:0".parse().unwrap()], &["[::]:0".parse().unwrap()]).unwrap();
        let addresses = sockets.addresses();
        assert_eq!(addresses.plain, None);
        let port = addresses.share.unwrap().port();
        assert_ne!(port, 0);
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(b"x").unwrap();
    }

    #[test]
    fn errors_say_what_to_do() {
        let taken = open(&["127.0.0.1:0".parse().unwrap()], &[]).unwrap();
        let address = taken.addresses().gateway.unwrap();
        let error = open(&[address], &[]).unwrap_err().to_string();
        let expected = format!("gateway: cannot listen on {address}: ");
        assert!(
            error.starts_with(&expected) && error.contains("ss -ltnp") && error.contains("[gateway] listen"),
            "{error}"
        );
        // 192.0.2.0/24 is for documentation; no interface has it.
        let error = open(&[], &["192.0.2.1:0".parse().unwrap()]).unwrap_err().to_string();
        assert!(error.contains("no interface has this address") && error.contains("[share] listen"), "{error}");
    }

    #[test]
    fn only_listening_tcp_sockets_are_adopted() {
        let refusal = |fd: OwnedFd| adopt_tcp(fd, "share").unwrap_err().to_string();
        assert!(
            refusal(std::fs::File::open("/dev/null").unwrap().into()).contains("'share' from systemd is not a socket")
        );
        assert!(refusal(std::net::UdpSocket::bind("127.0.0.1:0").unwrap().into()).contains("not a TCP socket"));
        let unix = std::os::unix::net::UnixDatagram::unbound().unwrap();
        assert!(refusal(unix.into()).contains("not a TCP socket"));
        let idle = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        assert!(refusal(idle.into()).contains("does not listen"));

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let adopted = adopt_tcp(listener.into(), "share").unwrap();
        assert_eq!(adopted.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut client = TcpStream::connect(address).unwrap();
        let (mut server, _) = adopted.accept().unwrap();
        server.write_all(b"hello").unwrap();
        let mut heard = [0; 5];
        client.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"hello");
    }

    #[test]
    fn sockets_are_taken_over_from_a_manager_by_name() {
        // The variables must be there from the start of a process: this test is a process for itself.
        if std::env::var_os("PEERNIX_TEST_HANDED_OVER").is_some() {
            let sockets = open(&["127.0.0.1:1".parse().unwrap()], &[]).unwrap();
            assert_eq!((sockets.gateway.len(), sockets.share.len()), (1, 1));
            assert_eq!((sockets.varlink.len(), sockets.varlink_admin.len()), (0, 1));
            assert!(open(&[], &[]).unwrap().gateway.is_empty(), "nothing is taken twice");
            // What was kept is no socket, and comes back as it was.
            assert_eq!(sockets.kept.read(&Notifier::default()).pop().unwrap().unwrap(), b"state");
            return;
        }
        let this = std::env::current_exe().unwrap();
        // A shell opens no sockets; it passes on what it has.
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let admin = UnixListener::bind(dir.path().join("admin")).unwrap();
        let state = fdstore::tests::sealed(b"state");
        let status = std::process::Command::new("sh")
            .arg("-c")
            .arg("export LISTEN_PID=$$; exec \"$0\" \"$@\" 3<&0 4<&0 5</dev/null 6<&1 7<&2 </dev/null >/dev/null 2>&1")
            .arg(this)
            .args(["--exact", "system::sockets::tests::sockets_are_taken_over_from_a_manager_by_name"])
            .env("PEERNIX_TEST_HANDED_OVER", "1")
            .env("LISTEN_FDS", "5")
            .env("LISTEN_FDNAMES", "gateway:share:other:varlink-admin:peernix-state")
            .stdin(OwnedFd::from(listener))
            .stdout(OwnedFd::from(admin))
            .stderr(state)
            .status()
            .unwrap();
        assert!(status.success());
    }
}
