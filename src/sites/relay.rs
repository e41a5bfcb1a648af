//! NARs that go over NATS, in parts, where the direct way to this site is closed: off unless both sides allow it, and bounded: no NAR is
//! larger than `[nats] relay`, and a site sends [`RATE`] bytes a second of them, whoever asks.

use super::error::SiteError;
use super::message::{Part, QUEUE, relay_subject, reply_place};
use super::options::Desk;
use super::shared::Shared;
use async_nats::{Client, Message, Subject};
use bytes::Bytes;
use futures_util::StreamExt as _;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep_until, timeout};

/// How many bytes a second a site sends.
const RATE: u64 = 4 * 1024 * 1024;
/// How many questions wait: what would come after them is given up by whoever asked before it is its turn.
const WAITING: usize = 32;
/// How long a machine of the site may take for a part.
const PART_LIMIT: Duration = Duration::from_secs(2);

/// Sends other sites what they ask for, one part after the other.
pub(super) async fn relay(inner: &Arc<Shared>, client: &Client, desk: &Arc<dyn Desk>) -> Result<(), SiteError> {
    if inner.options.relay == 0 {
        return Ok(());
    }
    let place = relay_subject(&inner.options.site);
    let subscription = client.queue_subscribe(place.clone(), QUEUE.to_owned()).await;
    let mut questions = subscription.map_err(|error| SiteError::nats(&error))?;
    let (sender, mut waiting) = mpsc::channel(WAITING);
    let reading = async {
        while let Some(message) = questions.next().await {
            // Whoever is too many asks again, or elsewhere.
            let _ = sender.try_send(message);
        }
    };
    let sending = async {
        while let Some(message) = waiting.recv().await {
            let begun = Instant::now();
            let Some((to, answer)) = respond(inner, desk, &place, message).await else { continue };
            let takes = Duration::from_millis(answer.len() as u64 * 1000 / RATE);
            // Whoever asked may be gone.
            let _ = client.publish(to, answer).await;
            sleep_until(begun + takes).await; // pace
        }
    };
    tokio::select! {
        () = reading => {}
        () = sending => {}
    }
    Err(SiteError::Nats("what is to be relayed is asked for no longer".to_owned()))
}

/// The answer to a question, and where it goes; `None`: it deserves none.
async fn respond(inner: &Arc<Shared>, desk: &Arc<dyn Desk>, place: &str, message: Message) -> Option<(Subject, Bytes)> {
    let to = message.reply?;
    let asked = inner.open_from_anyone(place, &message.payload).and_then(|told| Part::parse_request(&told.payload));
    let part = match asked {
        Ok(part) => part,
        Err(error) => {
            log::debug!(reason:% = error; "a question of another site is not answered: {error}");
            return None;
        }
    };
    let fits = part.size <= inner.options.relay && part.length() <= inner.answer_max() as u64;
    let bytes = if fits { timeout(PART_LIMIT, desk.part(&part)).await.ok().flatten() } else { None };
    // An empty answer is a no.
    let bytes = bytes.filter(|bytes| bytes.len() as u64 == part.length()).unwrap_or_default();
    inner.metrics.sites_relayed.add(bytes.len() as u64);
    let (inner, payload) = (Arc::clone(inner), message.payload);
    // To sign so much takes about a millisecond. It fails only when the program is being stopped.
    let sealed = spawn_blocking(move || inner.seal(&reply_place(&payload), &bytes)).await.ok()?;
    Some((to, sealed))
}
