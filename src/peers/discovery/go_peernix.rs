//! The Peernix that is written in Go, a predecessor: machines announce themselves by a broadcast on the link, and are asked one by one.
//!
//! ```text
//! has_path?HASH                        yes | not_found
//! has_path_with_narhash?HASH:NARHASH   yes | narhash_mismatch | not_found | invalid_format
//! ping                                 pong
//! {"cmd":"announce",…}                 the same, of whoever hears it
//! ```
//!
//! One message a datagram, as text. Nothing of it is signed: what comes of it counts by the signatures of narinfos alone. Whoever announces
//! itself is taken to have its HTTP server at the usual port, as the others do.

use super::link::{broadcasts, is_near, is_own};
use crate::nix::{NarHash, StoreHash};
use crate::resilience::TokenBucket;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;

/// The port, both UDP and TCP.
pub const PORT: u16 = 9999;
/// How often this machine announces itself.
const ANNOUNCE: Duration = Duration::from_secs(30);
/// How long a machine counts that was not heard of again.
const LIVES: Duration = Duration::from_secs(120);
/// How long one that was answered is not answered again: it answers in its turn.
const ANSWERED: Duration = Duration::from_secs(10);
/// How many machines are remembered.
const MACHINES_MAX: usize = 64;
/// How long answers are waited for: those of late versions come at once, and old ones say nothing of what they do not have.
const WAIT: Duration = Duration::from_millis(100);
/// How many messages of others are looked at in a second, all together.
const MESSAGES_PER_SECOND: u32 = 500;
/// The longest datagram that is read, in bytes.
const DATAGRAM_MAX: usize = 1024;
/// What it calls the version whose words these are.
const VERSION: &str = "2.0.0";

/// What machines ask each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Do you have this path?
    HasPath(StoreHash),
    /// Do you have it with this NAR?
    HasNar(StoreHash, NarHash),
    /// The same, in a form that says nothing.
    Malformed,
    /// Are you there?
    Ping,
    /// I am.
    Announce,
}

impl Message {
    /// From bytes of anybody; `None`: nothing of this.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        if let Some(rest) = text.strip_prefix("has_path_with_narhash?") {
            let read = || {
                let (hash, nar) = rest.split_once(':')?;
                Some(Self::HasNar(hash.parse().ok()?, NarHash::from_nix32(nar).ok()?))
            };
            return Some(read().unwrap_or(Self::Malformed));
        }
        if let Some(hash) = text.strip_prefix("has_path?") {
            return hash.parse().ok().map(Self::HasPath);
        }
        if text == "ping" {
            return Some(Self::Ping);
        }
        let value: Value = serde_json::from_str(text.strip_prefix('{').map(|_| text)?).ok()?;
        (value.get("cmd")? == "announce").then_some(Self::Announce)
    }
}

/// What this machine says of itself.
fn announcement() -> String {
    let platform = match std::env::consts::ARCH {
        "x86_64" => "amd64-linux",
        "aarch64" => "arm64-linux",
        other => other,
    };
    json!({ "cmd": "announce", "peernix_version": VERSION, "platform": platform, "port": PORT }).to_string()
}

/// Asks machines with it, and answers them. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct GoPeernix(Arc<Inner>);

struct Inner {
    socket: UdpSocket,
    machines: Mutex<HashMap<IpAddr, Heard>>,
    messages: Mutex<TokenBucket>,
}

/// A machine that was heard of.
struct Heard {
    last: Instant,
    answered: Option<Instant>,
}

/// The NAR hash of a path that is here and may be given to anyone.
pub type HasNar =
    Arc<dyn Fn(StoreHash) -> std::pin::Pin<Box<dyn Future<Output = Option<NarHash>> + Send>> + Send + Sync>;

impl GoPeernix {
    /// Listens at this socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(socket: std::net::UdpSocket) -> io::Result<Self> {
        socket.set_broadcast(true)?;
        socket.set_nonblocking(true)?;
        let messages = Mutex::new(TokenBucket::new(MESSAGES_PER_SECOND));
        Ok(Self(Arc::new(Inner { socket: UdpSocket::from_std(socket)?, machines: Mutex::default(), messages })))
    }

    /// Announces this machine and answers what comes, until `stop`, by what `has` says is here.
    pub async fn run(self, has: HasNar, stop: CancellationToken) {
        let mut announce = interval(ANNOUNCE);
        announce.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = [0; DATAGRAM_MAX];
        loop {
            tokio::select! {
                _ = announce.tick() => self.announce().await,
                received = self.0.socket.recv_from(&mut buffer) => match received {
                    Ok((length, from)) => self.heard(&buffer[..length], from, &has).await,
                    // Word of a datagram that nobody took, on some systems.
                    Err(error) => log::debug!(reason:% = error; "Go peernix: {error}"),
                },
                () = stop.cancelled() => return,
            }
        }
    }

    async fn announce(&self) {
        let words = announcement();
        for link in broadcasts() {
            // A link that is down has nobody on it.
            if let Err(error) = self.0.socket.send_to(words.as_bytes(), SocketAddrV4::new(link, PORT)).await {
                log::debug!(address:% = link, reason:% = error; "Go peernix: nothing can be sent to {link}: {error}");
            }
        }
    }

    async fn heard(&self, bytes: &[u8], from: SocketAddr, has: &HasNar) {
        if !is_near(from.ip()) || !self.0.messages.lock().permits() || is_own(from.ip()) {
            return;
        }
        match Message::parse(bytes) {
            Some(Message::Announce) if self.is_to_be_answered(from.ip()) => {
                self.say(announcement().as_bytes(), from).await;
            }
            Some(Message::Ping) => self.say(b"pong", from).await,
            Some(Message::Malformed) => self.say(b"invalid_format", from).await,
            Some(Message::HasPath(hash)) => self.answer(hash, None, from, has),
            Some(Message::HasNar(hash, nar)) => self.answer(hash, Some(nar), from, has),
            Some(Message::Announce) | None => {}
        }
    }

    fn answer(&self, hash: StoreHash, nar: Option<NarHash>, from: SocketAddr, has: &HasNar) {
        let (this, has) = (self.clone(), Arc::clone(has));
        tokio::spawn(async move {
            let words: &[u8] = match (has(hash).await, nar) {
                (None, _) => b"not_found",
                (Some(here), Some(nar)) if here != nar => b"narhash_mismatch",
                (Some(_), _) => b"yes",
            };
            this.say(words, from).await;
        });
    }

    async fn say(&self, words: &[u8], to: SocketAddr) {
        // Whoever asked asks somebody else if this is lost.
        let _ = self.0.socket.send_to(words, to).await;
    }

    /// Remembers a machine, and tells whether it is to hear of this one.
    fn is_to_be_answered(&self, ip: IpAddr) -> bool {
        let now = Instant::now();
        let mut machines = self.0.machines.lock();
        machines.retain(|_, heard| now - heard.last < LIVES);
        if machines.len() >= MACHINES_MAX && !machines.contains_key(&ip) {
            return false;
        }
        let heard = machines.entry(ip).or_insert(Heard { last: now, answered: None });
        heard.last = now;
        let is_due = heard.answered.is_none_or(|answered| now - answered >= ANSWERED);
        if is_due {
            heard.answered = Some(now);
        }
        is_due
    }

    /// The machines that were heard of lately.
    fn machines(&self) -> Vec<IpAddr> {
        let now = Instant::now();
        self.0.machines.lock().iter().filter(|(_, heard)| now - heard.last < LIVES).map(|(ip, _)| *ip).collect()
    }

    /// Who has a path, as whoever answers first says: where its HTTP server is.
    pub async fn ask(&self, hash: StoreHash) -> Option<SocketAddr> {
        let machines = self.machines();
        if machines.is_empty() {
            return None;
        }
        let deadline = Instant::now() + WAIT;
        // A socket of its own, as an answer does not say what it answers.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await.ok()?;
        let mut silent = Vec::new();
        for ip in machines {
            if socket.send_to(format!("has_path?{hash}").as_bytes(), (ip, PORT)).await.is_ok() {
                silent.push(ip);
            }
        }
        let mut buffer = [0; DATAGRAM_MAX];
        while !silent.is_empty() {
            let (length, from) = timeout_at(deadline, socket.recv_from(&mut buffer)).await.ok()?.ok()?;
            // Only who was asked, and once.
            let Some(place) = silent.iter().position(|ip| *ip == from.ip() && from.port() == PORT) else { continue };
            silent.swap_remove(place);
            if &buffer[..length] == b"yes" {
                return Some(from);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HASH: &str = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi";
    const NAR: &str = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s";

    #[test]
    fn messages_are_read_as_the_real_one_writes_them() {
        let hash = HASH.parse().unwrap();
        let nar = NarHash::from_nix32(NAR).unwrap();
        let announce = r#"{"cmd":"announce","peernix_version":"2.0.0","nix_version":"nix (Nix) 2.18.1","platform":"amd64-linux","features":["compression"],"public_key":"peernix-1:AAAA","port":9999}"#;
        for (text, message) in [
            (format!("has_path?{HASH}"), Some(Message::HasPath(hash))),
            (format!("has_path_with_narhash?{HASH}:{NAR}"), Some(Message::HasNar(hash, nar))),
            (format!("has_path_with_narhash?{HASH}"), Some(Message::Malformed)),
            ("has_path?--help".to_owned(), None),
            ("ping".to_owned(), Some(Message::Ping)),
            (announce.to_owned(), Some(Message::Announce)),
            (r#"{"cmd":"other"}"#.to_owned(), None),
            ("pong".to_owned(), None),
        ] {
            assert_eq!(Message::parse(text.as_bytes()), message, "{text}");
        }
        assert_eq!(Message::parse(announcement().as_bytes()), Some(Message::Announce));
    }

    #[tokio::test(start_paused = true)]
    async fn two_machines_do_not_answer_each_other_for_ever_and_many_are_not_remembered() {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let go = GoPeernix::new(socket).unwrap();
        let ip = |number: u8| IpAddr::V4(Ipv4Addr::new(10, 0, 0, number));
        assert!(go.is_to_be_answered(ip(1)));
        assert!(!go.is_to_be_answered(ip(1)));
        tokio::time::advance(ANSWERED).await;
        assert!(go.is_to_be_answered(ip(1)));
        for number in 2..=255 {
            go.is_to_be_answered(ip(number));
        }
        assert_eq!(go.machines().len(), MACHINES_MAX);
        tokio::time::advance(LIVES).await;
        assert!(go.machines().is_empty());
    }

    proptest! {
        #[test]
        fn nothing_of_a_stranger_panics(bytes: Vec<u8>) {
            let _ = Message::parse(&bytes);
        }
    }
}
