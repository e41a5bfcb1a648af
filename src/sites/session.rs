//! What a machine does while NATS is there: it reads what other sites have, says where it is, and speaks for its site if nobody else does.

use super::board::SITES_MAX;
use super::connection::{Buckets, NODE_KEPT, connect};
use super::error::SiteError;
use super::lease::{Lease, Step};
use super::message::{INDEX, Kind, LEASES, NODES, Node};
use super::name::SiteName;
use super::reading::Reading;
use super::shared::Shared;
use super::speaker;
use crate::resilience::{Backoff, Schedule};
use async_nats::jetstream::kv::{CreateErrorKind, UpdateErrorKind};
use async_nats::{Client, Event, connection};
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::task::AbortOnDropHandle;

/// How long the pauses are after NATS said no.
const PAUSES: Schedule =
    Schedule { first: Duration::from_millis(500), factor: 2, most: Duration::from_secs(30), spread: true };
/// How many events of the connection may wait.
const EVENTS_MAX: usize = 16;
/// How often a machine says where it is.
const ANNOUNCED: Duration = Duration::from_secs(20);
/// For how long something may be missing that a site told before everything is read anew.
const BEHIND_MAX: Duration = Duration::from_secs(60);

/// How much of what all sites told is kept until it is put together, in bytes.
const WEIGHT_MAX: usize = 32 * 1024 * 1024;

const _: () = assert!(ANNOUNCED.as_secs() * 2 < NODE_KEPT.as_secs());

/// Goes on until it is dropped.
pub(super) async fn run(inner: Arc<Shared>) {
    let (sender, mut events) = mpsc::channel(EVENTS_MAX);
    let options = &inner.options;
    let client = match connect(&options.servers, options.credential.as_ref(), &options.name, sender).await {
        Ok(client) => client,
        Err(error) => {
            log::error!(reason:% = error; "other sites cannot be reached: {error}; look at [nats] servers");
            inner.trouble(Some(error.to_string()));
            return;
        }
    };
    inner.asker.over(client.clone());
    let connected = Notify::new();
    let telling = async {
        while let Some(event) = events.recv().await {
            tell(&inner, &event);
            if event == Event::Connected {
                connected.notify_one();
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = keep(&inner, &client, &connected) => {}
        () = telling => {}
    }
}

fn tell(inner: &Shared, event: &Event) {
    match event {
        Event::Connected => {
            log::info!(site:% = inner.options.site; "connected to NATS: this machine is of the site {}", inner.options.site);
            inner.trouble(None);
        }
        Event::Disconnected => {
            log::warn!("the connection to NATS is lost: this site works on alone until it is back");
            inner.trouble(Some("there is no connection".to_owned()));
        }
        // Once for each attempt.
        Event::ClientError(error) => {
            log::debug!(reason:% = error; "NATS: {error}");
            inner.trouble(Some(error.to_string()));
        }
        Event::ServerError(error) => {
            log::warn!(reason:% = error; "NATS refuses something: {error}; look at the permissions of this user in docs/sites.md");
            inner.refused(error.to_string());
        }
        other => log::debug!("NATS: {other}"),
    }
}

/// One session after the other: whatever is lost on the server is made anew.
async fn keep(inner: &Arc<Shared>, client: &Client, connected: &Notify) {
    let mut backoff = Backoff::new(PAUSES);
    loop {
        if client.connection_state() == connection::State::Connected {
            let begun = Instant::now();
            let Err(error) = session(inner, client).await;
            if begun.elapsed() > BEHIND_MAX {
                backoff.reset();
            }
            let is_lost = client.connection_state() != connection::State::Connected;
            let level = if is_lost { log::Level::Debug } else { log::Level::Warn };
            let reason = inner.failed(&error);
            log::log!(level, reason:% = reason; "what joins sites is set up anew: {reason}");
        }
        tokio::select! {
            () = sleep(backoff.next_pause()) => {} // backoff
            // Whatever was wrong, this is another connection: however long there was none.
            () = connected.notified() => backoff.reset(),
        }
    }
}

async fn session(inner: &Arc<Shared>, client: &Client) -> Result<std::convert::Infallible, SiteError> {
    let buckets = Buckets::open(client).await?;
    inner.trouble(None);
    inner.board.write().clear();
    tokio::select! {
        ended = follow(inner, &buckets) => ended,
        ended = announce(inner, &buckets) => ended,
        ended = lead(inner, client, &buckets) => ended,
    }
}

/// Reads what other sites have.
async fn follow(inner: &Arc<Shared>, buckets: &Buckets) -> Result<std::convert::Infallible, SiteError> {
    let watch = buckets.index.watch_with_history(">").await;
    let mut watch = watch.map_err(|error| SiteError::nats(&error))?;
    let mut sites: HashMap<SiteName, (Reading, Option<Instant>)> = HashMap::new();
    while let Some(entry) = watch.next().await {
        let entry = entry.map_err(|error| SiteError::nats(&error))?;
        let Some((site, kind)) = Kind::of(&entry.key).filter(|(site, _)| *site != inner.options.site) else { continue };
        let weight: usize = sites.values().map(|(reading, _)| reading.weight()).sum();
        if weight + entry.value.len() > WEIGHT_MAX || (sites.len() >= SITES_MAX && !sites.contains_key(&site)) {
            log::debug!(site:% = site; "there are too many sites, or they tell too much: what {site} tells is not taken");
            continue;
        }
        let told = inner.open_spoken(&site, &format!("{INDEX}/{}", entry.key), &entry.value);
        let told = match told {
            Ok(told) => told,
            Err(error) => {
                log::debug!(site:% = site, reason:% = error; "what a site tells does not count: {error}");
                continue;
            }
        };
        let (mut reading, behind) = sites.remove(&site).unwrap_or_default();
        let said_by = (told.from, told.serial);
        let taken = reading.take(kind, said_by, told.payload);
        if let Some((gateway, name, machines)) = reading.gateway().filter(|_| kind == Kind::Meta && taken == Ok(true)) {
            inner.board.write().heard(&site, (gateway, name), machines, Instant::now());
        }
        let may_be_news = taken == Ok(true);
        let mut outcome = taken.map(drop);
        if may_be_news {
            // Up to two million entries: not on the reactor. It fails only when the program is being stopped.
            let advanced = tokio::task::spawn_blocking(move || {
                let before = reading.set().map(|set| set.state());
                let outcome = reading.advance();
                let is_news = reading.set().map(|set| set.state()) != before;
                (reading, outcome, is_news)
            });
            let is_news;
            (reading, outcome, is_news) = advanced.await.map_err(|error| SiteError::nats(&error))?;
            if is_news {
                if !inner.board.write().put(&site, reading.set().cloned(), Instant::now()) {
                    log::warn!(site:% = site; "what the site {site} has does not fit into memory: it is not asked");
                }
                inner.index.more_elsewhere();
            }
        }
        if let Err(error) = outcome {
            log::warn!(site:% = site, reason:% = error; "the index of the site {site} is not taken: {error}");
        }
        let behind = reading.is_behind().then(|| behind.unwrap_or_else(Instant::now));
        if behind.is_some_and(|since| since.elapsed() > BEHIND_MAX) {
            return Err(SiteError::Malformed("what a site told was missed"));
        }
        sites.insert(site, (reading, behind));
    }
    Err(SiteError::Nats("the index is told no longer".to_owned()))
}

/// Says where this machine is.
async fn announce(inner: &Arc<Shared>, buckets: &Buckets) -> Result<std::convert::Infallible, SiteError> {
    let key = Node::key(&inner.options.site, inner.options.key.id());
    loop {
        let node = Node { name: inner.options.name.clone(), addresses: inner.addresses() };
        if !node.addresses.is_empty() {
            let message = inner.seal(&format!("{NODES}/{key}"), &node.to_bytes());
            buckets.nodes.put(&key, message).await.map_err(|error| SiteError::nats(&error))?;
        }
        sleep(ANNOUNCED).await; // pace
    }
}

/// Takes the lease of the site where nobody has it, and speaks for the site as long as it is held.
async fn lead(inner: &Arc<Shared>, client: &Client, buckets: &Buckets) -> Result<std::convert::Infallible, SiteError> {
    let _ends = Ends(inner);
    let site = &inner.options.site;
    let mut lease = Lease::new(Instant::now());
    let mut speaking: Option<Speaking> = None;
    loop {
        let ends = lease.ends().filter(|_| speaking.is_some());
        tokio::select! {
            () = sleep_until(lease.next()) => {}
            () = async { sleep_until(ends.unwrap_or_else(Instant::now)).await }, if ends.is_some() => {}
        }
        let now = Instant::now();
        if !lease.holds(now) {
            fall_silent(inner, &mut speaking);
        }
        if let Some(ended) = speaking.as_mut().filter(|speaking| speaking.is_finished()) {
            return Err(match ended.await {
                Ok(Err(error)) => error,
                Ok(Ok(())) => SiteError::Nats("speaking for the site ended".to_owned()),
                Err(error) => SiteError::nats(&error),
            });
        }
        if now < lease.next() {
            continue;
        }
        if speaking.is_none() && !inner.may_speak() {
            lease.refused(now);
            continue;
        }
        lease.place(speaker::place(inner));
        let message = inner.seal(&format!("{LEASES}/{site}"), inner.options.name.as_bytes());
        match lease.step(now) {
            Step::Take => match buckets.leases.create(site.as_str(), message).await {
                Ok(revision) => lease.granted(revision, now),
                Err(error) if error.kind() == CreateErrorKind::AlreadyExists => lease.refused(Instant::now()),
                Err(error) => return Err(SiteError::nats(&error)),
            },
            Step::Renew(revision) => match buckets.leases.update(site.as_str(), message, revision).await {
                Ok(revision) => lease.granted(revision, now),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => lease.refused(Instant::now()),
                Err(error) => {
                    log::debug!(reason:% = error; "the lease of the site is not renewed: {error}");
                    lease.unanswered(Instant::now());
                }
            },
        }
        if !lease.holds(Instant::now()) {
            fall_silent(inner, &mut speaking);
        } else if speaking.is_none() {
            log::info!(site:% = site; "this machine speaks for the site {site}");
            inner.speaks(true);
            let speak = speaker::speak(Arc::clone(inner), client.clone(), buckets.clone());
            speaking = Some(AbortOnDropHandle::new(tokio::spawn(speak)));
        }
    }
}

/// Whoever speaks for a site, as a task.
type Speaking = AbortOnDropHandle<Result<(), SiteError>>;

/// Speaks for the site no longer, at once.
fn fall_silent(inner: &Shared, speaking: &mut Option<Speaking>) {
    if speaking.take().is_some() {
        inner.speaks(false);
        log::warn!(site:% = inner.options.site; "another machine may speak for the site {} from now on", inner.options.site);
    }
}

/// However it ends, this machine speaks for nobody any more.
struct Ends<'a>(&'a Shared);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.speaks(false);
    }
}
