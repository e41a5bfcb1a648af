//! How fast the line to a peer is: bytes that mean nothing, for two seconds.

use super::error::{LinkError, PeersError};
use super::handle::Peers;
use super::identity::NodeId;
use super::link;
use http_body_util::BodyExt as _;
use hyper::StatusCode;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

/// Where they are asked for, before how many.
pub const TARGET: &str = link::MEASURE;
/// The most bytes of one request: more than ten gigabits a second bring in the time.
pub const BYTES_MAX: u64 = 4 << 30;
/// How often the peer is greeted; the shortest time counts.
const GREETINGS: u32 = 5;
/// How long the line may take to come up to its speed.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long it is measured from then on.
const MEASURED: Duration = Duration::from_secs(2);
/// How long the peer may take for the first of it.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What a line does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Measured {
    /// The shortest time to an answer.
    pub latency: Duration,
    /// How many bytes came in the time that counts.
    pub bytes: u64,
    /// How long that was.
    pub took: Duration,
}

impl Peers {
    /// Greets a peer a few times, and then has it send as fast as it can for some seconds.
    ///
    /// # Errors
    /// The peer is not known, is blocked, does not answer, is busy, or is too old to be measured.
    pub async fn measure(&self, id: NodeId) -> Result<Measured, PeersError> {
        let mut latency = Duration::MAX;
        for _ in 0..GREETINGS {
            latency = latency.min(self.ping(id).await?);
        }
        let peer = self.get(id).ok_or_else(|| PeersError::NoSuchPeer(id.to_string()))?;
        let target = format!("{TARGET}{BYTES_MAX}");
        let time = |step| LinkError::Time { step, limit: ANSWER_LIMIT };
        let answer = timeout(ANSWER_LIMIT, peer.get_nar(&target, (0, None), None)).await;
        let answer = answer.map_err(|_| time("a measurement"))??;
        match answer.status() {
            StatusCode::OK => {}
            StatusCode::NOT_FOUND => return Err(PeersError::TooOld(peer.name())),
            status => return Err(PeersError::NotMeasured(peer.name(), status.as_u16())),
        }
        let mut body = answer.into_body();
        let mut next = async |until| {
            let frame = timeout_at(until, body.frame()).await.ok()??;
            Some(frame.map(|frame| frame.data_ref().map_or(0, |data| data.len() as u64)))
        };
        let broken = |error: hyper::Error| PeersError::from(LinkError::from(error));
        let warm = Instant::now() + WARM_UP;
        while let Some(came) = next(warm).await {
            came.map_err(broken)?;
        }
        let (begun, mut last, mut bytes) = (Instant::now(), Instant::now(), 0);
        while let Some(came) = next(begun + MEASURED).await {
            bytes += came.map_err(broken)?;
            last = Instant::now();
        }
        Ok(Measured { latency, bytes, took: last - begun })
    }
}
