//! What changes, as it changes: server-sent events, each an object with the parts of the page that are new.
//!
//! Source: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use super::Page;
use super::sections::Sections;
use crate::http::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame};
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{MissedTickBehavior, interval};

/// How often it is looked what changed.
const LOOKED: Duration = Duration::from_secs(1);
/// After so many looks at which nothing had changed, that is said: so that whoever is gone is noticed.
const QUIET_MAX: u32 = 15;

/// The body of an answer that goes on until the reader is gone or the service stops.
pub(super) fn body(page: Page, place: OwnedSemaphorePermit) -> Body {
    // One that does not read has one that waits, and no more is made for it.
    let (send, events) = mpsc::channel(1);
    tokio::spawn(async move {
        let stop = page.0.stop.clone();
        stop.run_until_cancelled(tell(page, send)).await;
        drop(place);
    });
    Body::stream(None, Events(events))
}

async fn tell(page: Page, send: mpsc::Sender<Bytes>) {
    let mut clock = interval(LOOKED); // pace
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut quiet) = (Arc::<Sections>::default(), 0);
    loop {
        clock.tick().await;
        let Ok(sections) = page.sections().await else { return };
        let event = match sections.since(&told) {
            Some(changed) => format!("data: {changed}\n\n"),
            None if quiet >= QUIET_MAX => ": nothing new\n\n".to_owned(),
            None => {
                quiet += 1;
                if send.is_closed() {
                    return;
                }
                continue;
            }
        };
        (told, quiet) = (sections, 0);
        if send.send(event.into()).await.is_err() {
            return;
        }
    }
}

struct Events(mpsc::Receiver<Bytes>);

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|event| event.map(|event| Ok(Frame::data(event))))
    }
}
