//! The first moments after a start, when those who have what was promised before it may not be online yet.

use crate::peers::{PeerEvent, State};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

/// How long after a start peers are waited for that may have a promised NAR. They are back within a second if they are there.
const GRACE: Duration = Duration::from_secs(5);

/// Until when that is.
#[derive(Clone, Copy)]
pub(crate) struct StartupGrace(Instant);

impl StartupGrace {
    /// Begins now.
    pub(crate) fn new() -> Self {
        Self(Instant::now() + GRACE)
    }

    /// Watches who comes online from now on.
    pub(crate) const fn watch(self, events: Receiver<PeerEvent>) -> Arrivals {
        Arrivals { until: self.0, events }
    }
}

/// Peers that come online in these moments.
pub(crate) struct Arrivals {
    until: Instant,
    events: Receiver<PeerEvent>,
}

impl Arrivals {
    /// Waits for the next one; `false` when the time is over.
    pub(crate) async fn next(&mut self) -> bool {
        // Somebody who came meanwhile is always there to be heard of.
        if Instant::now() >= self.until {
            return false;
        }
        let arrival = async {
            loop {
                match self.events.recv().await {
                    // Of what was missed, something may have been it.
                    Ok(PeerEvent::Changed { to: State::Online, .. }) | Err(RecvError::Lagged(_)) => return true,
                    Ok(_) => {}
                    Err(RecvError::Closed) => return false,
                }
            }
        };
        timeout_at(self.until, arrival).await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::NodeKey;
    use tokio::sync::broadcast;
    use tokio::time::advance;

    #[tokio::test(start_paused = true)]
    async fn whoever_comes_later_makes_nobody_wait() {
        let (peers, events) = broadcast::channel(4);
        let mut arrivals = StartupGrace::new().watch(events);
        let comes = || {
            let id = NodeKey::from_seed([1; 32]).id();
            peers.send(PeerEvent::Changed { id, name: String::new(), from: None, to: State::Online }).unwrap();
        };
        comes();
        assert!(arrivals.next().await);
        comes();
        advance(GRACE).await;
        assert!(!arrivals.next().await, "the time is over, whoever came");
    }
}
