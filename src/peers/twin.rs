//! Another machine with this machine's node key: a cloned image whose machine id was cloned with it.
//!
//! Both are one machine to everybody else, who sticks to one of them, and each takes the other for itself. Any hint (an
//! announcement of ours from an address that is not ours, a greeting in our name, a fixed address where our key answers) is
//! looked into: whoever answers there has to prove our key, and tells which run of the program it is.

use super::error::LinkError;
use super::fleet::Fleet;
use super::hello::Greeting;
use super::link::Target;
use super::state::Troubles;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::sync::mpsc::Receiver;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

/// How many hints may wait; the others are dropped, and come again if there is anything in them.
pub(super) const HINTS_MAX: usize = 8;
/// The least time between two looks: anybody on the link can give hints.
const PAUSE: Duration = Duration::from_secs(1);
/// How often a twin that was found is looked at again.
const AGAIN: Duration = Duration::from_secs(60);
/// After how many looks in vain it is gone.
const MISSES: u32 = 3;
/// How long its answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Who looks out for a twin.
pub(super) struct Lookout {
    /// Whoever proves our key.
    pub(super) target: Target,
    /// What we show: a twin lets in its own kind only.
    pub(super) fleet: Fleet,
    /// Which run of the program we are.
    pub(super) instance: String,
    /// Where one may be.
    pub(super) hints: Receiver<SocketAddr>,
    /// Where to say so.
    pub(super) troubles: watch::Sender<Troubles>,
}

/// A twin that was found.
#[derive(Clone, Copy)]
struct Twin {
    address: SocketAddr,
    looked: Instant,
    /// How many looks in a row were in vain.
    misses: u32,
}

impl Lookout {
    /// Looks into hints, until nobody gives any.
    pub(super) async fn run(mut self) {
        let mut twin: Option<Twin> = None;
        loop {
            let again = async {
                match twin {
                    Some(twin) => sleep_until(twin.looked + AGAIN).await,
                    None => std::future::pending().await,
                }
                twin.map(|twin| twin.address)
            };
            let address = tokio::select! {
                hint = self.hints.recv() => match hint {
                    Some(hint) => Some(hint),
                    None => return,
                },
                address = again => address,
            };
            let Some(address) = address else { continue };
            let known = twin.filter(|twin| twin.address == address);
            if known.is_some_and(|twin| twin.looked.elapsed() < AGAIN) {
                continue;
            }
            let outcome = self.is_another(address).await;
            let looked = Instant::now();
            match (&outcome, known) {
                (Ok(true), _) => twin = Some(Twin { address, looked, misses: 0 }),
                (_, Some(before)) => {
                    let misses = before.misses + 1;
                    twin = (misses < MISSES).then_some(Twin { address, looked, misses });
                }
                (_, None) => {
                    log::debug!(address:% = address, outcome:? = outcome; "no other machine with this machine's node key there");
                }
            }
            self.tell(twin.map(|twin| twin.address));
            sleep(PAUSE).await;
        }
    }

    /// Whether somebody else than we proves our key at `address`.
    async fn is_another(&self, address: SocketAddr) -> Result<bool, LinkError> {
        let mut connection = Box::pin(self.target.dial(&[address])).await?;
        // Without a port to be called back at: who answers must not look into it because of that.
        let greeting = Greeting { membership: self.fleet.told().0, ..Greeting::default() };
        let (hello, _) = Box::pin(connection.greet(&greeting, ANSWER_LIMIT)).await?;
        // A version that does not say which run it is cannot be this one.
        Ok(hello.instance != self.instance)
    }

    fn tell(&self, twin: Option<SocketAddr>) {
        self.troubles.send_if_modified(|troubles| {
            // Of several addresses of one twin the first will do.
            let news = troubles.twin.is_some() != twin.is_some();
            if news {
                troubles.twin = twin;
            }
            news
        });
    }
}
