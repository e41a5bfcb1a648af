//! Questions to other sites, many in one message: what is asked while a message is on its way goes with the next one.
//!
//! A site answers with more than it was asked for: a path's references will be looked up next, and what is known of them already costs no
//! message.

use super::board::{Board, Outcome};
use super::connection::ANSWER_LIMIT;
use super::envelope::Envelope;
use super::error::SiteError;
use super::message::{Found, Part, parse_answer, relay_subject, reply_place, request, subject};
use super::name::SiteName;
use crate::metrics::Metrics;
use crate::nix::StoreHash;
use crate::peers::narinfo_batch::HASHES_MAX;
use async_nats::client::{RequestError, RequestErrorKind};
use async_nats::{Client, Request, connection};
use bytes::Bytes;
use moka::sync::Cache;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout};

/// How long questions are gathered.
const GATHER: Duration = Duration::from_millis(2);
/// How many messages to one site are on their way at a time.
const UNDER_WAY: usize = 2;
/// How long a part of a NAR may take, which others may be before.
const PART_LIMIT: Duration = Duration::from_secs(4);
/// How long what nobody asked for is kept, and how much of it, in bytes.
const KEPT: Duration = Duration::from_secs(60);
const KEPT_BYTES: u64 = 4 * 1024 * 1024;
/// What is not text in what is kept, in bytes.
const KEPT_OVERHEAD: usize = 512;

/// Signs what is asked, and judges who answers.
pub(super) trait Credentials: Send + Sync {
    /// A message to `place`.
    fn seal(&self, place: &str, payload: &[u8]) -> Bytes;

    /// What was found at `place`, by a machine that may speak for `site`.
    ///
    /// # Errors
    /// It may not, or that is no message.
    fn open_spoken(&self, site: &SiteName, place: &str, message: &Bytes) -> Result<Envelope, SiteError>;
}

type Said = Result<Option<Found>, SiteError>;

/// What is asked of other sites at the moment.
pub(super) struct Asker {
    board: Arc<RwLock<Board>>,
    credentials: Arc<dyn Credentials>,
    metrics: Arc<Metrics>,
    client: RwLock<Option<Client>>,
    sites: Mutex<HashMap<SiteName, Asked>>,
    kept: Cache<(SiteName, StoreHash), Found>,
}

#[derive(Default)]
struct Asked {
    under_way: usize,
    /// Somebody sees to it that what waits is sent.
    gathers: bool,
    waiting: HashMap<StoreHash, Vec<oneshot::Sender<Said>>>,
}

impl Asker {
    pub(super) fn new(board: Arc<RwLock<Board>>, credentials: Arc<dyn Credentials>, metrics: Arc<Metrics>) -> Self {
        let weight = |_: &(SiteName, StoreHash), found: &Found| {
            u32::try_from(found.narinfo.text.len() + KEPT_OVERHEAD).unwrap_or(u32::MAX)
        };
        let kept = Cache::builder().weigher(weight).max_capacity(KEPT_BYTES).time_to_live(KEPT).build();
        let (client, sites) = Default::default();
        Self { board, credentials, metrics, client, sites, kept }
    }

    /// Asks over this connection from now on.
    pub(super) fn over(&self, client: Client) {
        *self.client.write() = Some(client);
    }

    /// The connection, if it stands.
    fn connected(&self) -> Option<Client> {
        let client = self.client.read().clone()?;
        (client.connection_state() == connection::State::Connected).then_some(client)
    }

    /// The longest payload that the server takes.
    pub(super) fn payload_max(&self) -> usize {
        self.client.read().as_ref().map_or(0, Client::max_payload)
    }

    /// Whether there is anybody to ask.
    pub(super) fn is_connected(&self) -> bool {
        self.connected().is_some()
    }

    /// Asks `site` for a path.
    ///
    /// # Errors
    /// It could not be asked, or said nothing that counts.
    pub(super) async fn ask(self: &Arc<Self>, site: &SiteName, hash: StoreHash) -> Said {
        if let Some(found) = self.kept.remove(&(site.clone(), hash)) {
            self.metrics.sites_foreseen.add(1);
            return Ok(Some(found));
        }
        let (sender, receiver) = oneshot::channel();
        {
            let mut sites = self.sites.lock();
            let asked = sites.entry(site.clone()).or_default();
            asked.waiting.entry(hash).or_default().push(sender);
            if !asked.gathers && asked.under_way < UNDER_WAY {
                asked.gathers = true;
                let (asker, site) = (Arc::clone(self), site.clone());
                tokio::spawn(async move {
                    sleep(GATHER).await; // pace
                    asker.send(site).await;
                });
            }
        }
        receiver.await.unwrap_or(Err(SiteError::Silent))
    }

    /// Sends what waits, until nothing does.
    async fn send(self: Arc<Self>, site: SiteName) {
        loop {
            let waiting = {
                let mut sites = self.sites.lock();
                let Some(asked) = sites.get_mut(&site) else { return };
                asked.gathers = false;
                let hashes: Vec<StoreHash> = asked.waiting.keys().copied().take(HASHES_MAX).collect();
                if hashes.is_empty() {
                    if asked.under_way == 0 {
                        sites.remove(&site);
                    }
                    return;
                }
                asked.under_way += 1;
                let waiting = hashes.into_iter().filter_map(|hash| asked.waiting.remove_entry(&hash));
                waiting.collect::<HashMap<_, _>>()
            };
            let hashes: Vec<StoreHash> = waiting.keys().copied().collect();
            let mut answer = self.exchange(&site, &hashes).await;
            for (hash, senders) in waiting {
                let said = match &mut answer {
                    Ok(found) => match found.remove(&hash) {
                        Some(said) => Ok(said),
                        // It did not fit, or cannot be read at the moment.
                        None => Err(SiteError::Silent),
                    },
                    Err(error) => Err(error.clone()),
                };
                for sender in senders {
                    // Nobody may be waiting any more.
                    let _ = sender.send(said.clone());
                }
            }
            // What came besides will be asked for.
            for (hash, found) in answer.into_iter().flatten().filter_map(|(hash, found)| Some((hash, found?))) {
                self.kept.insert((site.clone(), hash), found);
            }
            if let Some(asked) = self.sites.lock().get_mut(&site) {
                asked.under_way -= 1;
            }
        }
    }

    /// Asks for several paths in one message.
    async fn exchange(
        &self,
        site: &SiteName,
        hashes: &[StoreHash],
    ) -> Result<HashMap<StoreHash, Option<Found>>, SiteError> {
        let client = self.connected().ok_or_else(not_connected)?;
        let place = subject(site);
        let message = self.credentials.seal(&place, &request(nonce()?, hashes));
        let reply_place = reply_place(&message);
        let begun = Instant::now();
        self.metrics.sites_messages.add(1);
        self.metrics.sites_asked.add(hashes.len() as u64);
        let asking = timeout(ANSWER_LIMIT, client.request(place, message));
        let answered = match asking.await {
            Ok(Ok(answer)) => self
                .credentials
                .open_spoken(site, &reply_place, &answer.payload)
                .and_then(|envelope| parse_answer(envelope.payload)),
            Ok(Err(error)) => Err(why(&error)),
            Err(_) => Err(SiteError::Silent),
        };
        let mut board = self.board.write();
        match answered {
            Ok(found) => {
                board.took(site, begun.elapsed());
                Ok(found.into_iter().collect())
            }
            Err(error) => {
                board.tried(site, Outcome::Silent, Instant::now());
                Err(error)
            }
        }
    }

    /// Asks `site` for a part of a NAR. Nothing of it is proved.
    ///
    /// # Errors
    /// It could not be asked, or does not send it.
    pub(super) async fn part(&self, site: &SiteName, part: &Part) -> Result<Bytes, SiteError> {
        let client = self.connected().ok_or_else(not_connected)?;
        let place = relay_subject(site);
        let message = self.credentials.seal(&place, &part.request(nonce()?));
        let reply_place = reply_place(&message);
        let request = Request::new().payload(message).timeout(Some(PART_LIMIT));
        let answer = match client.send_request(place, request).await {
            Ok(answer) => answer,
            // Nobody there listens for that.
            Err(error) if error.kind() == RequestErrorKind::NoResponders => return Err(SiteError::NotRelayed),
            Err(error) => return Err(why(&error)),
        };
        // To verify so much takes about a millisecond. It fails only when the program is being stopped.
        let (credentials, site) = (Arc::clone(&self.credentials), site.clone());
        let opened = tokio::task::spawn_blocking(move || credentials.open_spoken(&site, &reply_place, &answer.payload));
        let bytes = opened.await.map_err(|error| SiteError::nats(&error))??.payload;
        match bytes.len() as u64 {
            0 => Err(SiteError::NotRelayed),
            length if length == part.length() => Ok(bytes),
            _ => Err(SiteError::Malformed("a part of another length")),
        }
    }
}

fn not_connected() -> SiteError {
    SiteError::Nats("there is no connection".to_owned())
}

/// What makes a request like no other.
fn nonce() -> Result<[u8; 16], SiteError> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| SiteError::nats(&error))?;
    Ok(nonce)
}

/// Why a request has no answer.
fn why(error: &RequestError) -> SiteError {
    match error.kind() {
        RequestErrorKind::NoResponders => SiteError::Offline,
        RequestErrorKind::TimedOut => SiteError::Silent,
        _ => SiteError::nats(error),
    }
}
