//! A small HTTP/1.1 client that sees what Nix would see, and when: statuses, headers, the pauses between bytes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use peernix::nix::NarHash;
use sha2::{Digest, Sha256};

use crate::ctx::Ctx;
use crate::host::Host;

/// Longer than anything a gateway may keep us waiting.
const READ_LIMIT: Duration = Duration::from_secs(60);

/// Where a gateway listens by default.
pub(crate) const GATEWAY: &str = "127.0.0.1:7649";

/// A connection that is kept alive over requests.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
    /// For the Host header: a gateway answers to its own names only.
    address: String,
    /// For the run's traffic; only gateways' answers count there.
    traffic: Option<(std::sync::Arc<crate::report::Traffic>, String)>,
    /// When the last request went out.
    sent: Instant,
}

/// The head of an answer.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    /// From the request to the end of the head.
    pub(crate) time: Duration,
}

impl Head {
    /// The value of a header.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// What Content-Length says.
    pub(crate) fn length(&self) -> Option<u64> {
        self.header("content-length")?.parse().ok()
    }
}

/// What came of a body.
#[derive(Debug)]
pub(crate) struct Body {
    pub(crate) bytes: u64,
    pub(crate) hash: NarHash,
    /// The longest time without a byte, from the request on.
    pub(crate) longest_pause: Duration,
    /// How many bytes were there before that pause.
    pub(crate) pause_at: u64,
    /// From the request to the end.
    pub(crate) time: Duration,
    /// Whether everything came that the head announced.
    pub(crate) complete: bool,
}

impl Client {
    /// Connects from a host to its own gateway.
    pub(crate) fn gateway(ctx: &Ctx, host: &Host) -> Result<Self> {
        let mut client = Self::connect(host, GATEWAY)?;
        client.traffic = Some((std::sync::Arc::clone(&ctx.traffic), format!("{} (client)", ctx.name)));
        Ok(client)
    }

    /// Connects from a host to anywhere.
    pub(crate) fn connect(host: &Host, address: &str) -> Result<Self> {
        let stream = host.enter(|| TcpStream::connect(address).with_context(|| format!("connecting to {address}")))?;
        stream.set_read_timeout(Some(READ_LIMIT))?;
        stream.set_nodelay(true)?;
        let stream = BufReader::with_capacity(256 << 10, stream);
        Ok(Self { stream, address: address.to_owned(), traffic: None, sent: Instant::now() })
    }

    /// Sends a request and reads the head of the answer.
    pub(crate) fn request(&mut self, method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Head> {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: {}\r\n", self.address);
        for (name, value) in headers {
            text += &format!("{name}: {value}\r\n");
        }
        text += "\r\n";
        self.sent = Instant::now();
        self.stream.get_mut().write_all(text.as_bytes())?;
        self.head().with_context(|| format!("{method} {target}"))
    }

    fn head(&mut self) -> Result<Head> {
        let mut line = String::new();
        self.stream.read_line(&mut line).context("no answer")?;
        let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|code| code.parse().ok());
        let status = status.with_context(|| format!("not a status line: {line:?}"))?;
        let mut headers = Vec::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            let (name, value) = text.split_once(':').with_context(|| format!("not a header: {text:?}"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if let Some((traffic, place)) = &self.traffic {
            traffic.saw(place, status, 1);
        }
        Ok(Head { status, headers, time: self.sent.elapsed() })
    }

    /// Reads the body that `head` announces, handing its bytes to `see` with their offset. A body that ends early is not an
    /// error here: see [`Body::complete`].
    pub(crate) fn body(&mut self, head: &Head, mut see: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<Body> {
        let length = head.length();
        if length.is_none() && head.header("transfer-encoding").is_some() {
            bail!("a chunked body where Content-Length is promised");
        }
        let mut hash = Sha256::new();
        let (mut bytes, mut pause_at, mut longest_pause) = (0, 0, Duration::ZERO);
        let mut last = self.sent;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let left = length.map_or(buffer.len() as u64, |length| length - bytes).min(buffer.len() as u64);
            if left == 0 {
                break;
            }
            let room = &mut buffer[..usize::try_from(left)?];
            // Whatever ends the body early ends it; the caller judges whether it may.
            let Ok(count @ 1..) = self.stream.read(room) else { break };
            if last.elapsed() > longest_pause {
                (longest_pause, pause_at) = (last.elapsed(), bytes);
            }
            last = Instant::now();
            hash.update(&room[..count]);
            see(bytes, &room[..count])?;
            bytes += count as u64;
        }
        let complete = length.is_none_or(|length| length == bytes);
        let hash = NarHash::new(hash.finalize().into());
        Ok(Body { bytes, hash, longest_pause, pause_at, time: self.sent.elapsed(), complete })
    }

    /// GETs something small as a whole.
    pub(crate) fn get(&mut self, target: &str) -> Result<(Head, Vec<u8>)> {
        let head = self.request("GET", target, &[])?;
        let mut content = Vec::new();
        let body = self.body(&head, |_, bytes| {
            content.extend_from_slice(bytes);
            Ok(())
        })?;
        if !body.complete {
            bail!("{target}: {} of {:?} bytes", body.bytes, head.length());
        }
        Ok((head, content))
    }

    /// GETs something and throws it away, with the times of its bytes.
    pub(crate) fn time(&mut self, target: &str) -> Result<(Head, Body)> {
        let head = self.request("GET", target, &[])?;
        let body = self.body(&head, |_, _| Ok(()))?;
        Ok((head, body))
    }
}

/// GETs something small from a host's gateway, on a new connection.
pub(crate) fn gateway_get(ctx: &Ctx, host: &Host, target: &str) -> Result<(Head, Vec<u8>)> {
    Client::gateway(ctx, host)?.get(target)
}

/// The value at a share of the sorted values: `percentile(&mut times, 0.99)`.
pub(crate) fn percentile(times: &mut [Duration], share: f64) -> Duration {
    times.sort();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small index")]
    let index = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len().max(1)) - 1;
    times.get(index).copied().unwrap_or_default()
}
