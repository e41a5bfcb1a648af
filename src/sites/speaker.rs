//! The gateway of a site: tells what the machines of the site have, and answers others for them.

use super::connection::Buckets;
use super::error::SiteError;
use super::gathering::Gathering;
use super::message::{
    ANSWER_MAX, Answer, Answered, Found, INDEX, NODES, Node, QUEUE, parse_request, references, reply_place, subject,
};
use super::options::Desk;
use super::relay::relay;
use super::shared::Shared;
use crate::nix::StoreHash;
use crate::peers::holders::{HOLDERS_MAX, Holder};
use crate::peers::narinfo_batch::HASHES_MAX;
use crate::peers::{NodeId, State};
use async_nats::{Client, Message};
use bytes::Bytes;
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};

/// How long changes are gathered before others are told.
const GATHER: Duration = Duration::from_millis(500);
/// The least time from one change that is told to the next.
const GAP: Duration = Duration::from_millis(1500);
/// How often a site says that it is there.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How many questions are answered at once; NATS keeps the others.
const ANSWERS: usize = 16;
/// How many paths that nobody asked for go with an answer: the references of those that were, and theirs.
const FORESEEN: usize = 160;
/// And how long all that may be, in bytes.
const FORESEEN_BYTES: usize = 160 * 1024;

/// Of how many machines of the site it is noted where they are.
const NODES_MAX: usize = 4096;

/// Speaks for the site, for as long as this is polled.
pub(super) async fn speak(inner: Arc<Shared>, client: Client, buckets: Buckets) -> Result<(), SiteError> {
    let desk = inner.desk().ok_or_else(|| SiteError::Nats("this machine cannot answer yet".to_owned()))?;
    let nodes = Arc::<Nodes>::default();
    tokio::try_join!(
        tell(&inner, &buckets),
        answer(&inner, &client, &desk, &nodes),
        relay(&inner, &client, &desk),
        watch_nodes(&inner, &buckets, &nodes),
    )?;
    Ok(())
}

/// Tells what the machines of the site have, whenever that changes, and that the site is there.
async fn tell(inner: &Arc<Shared>, buckets: &Buckets) -> Result<(), SiteError> {
    let epoch = getrandom::u64().map_err(|error| SiteError::nats(&error))?;
    let mut gathering = Gathering::new(epoch);
    let mut changes = inner.index.changes();
    let mut is_news = true;
    loop {
        changes.mark_unchanged();
        let index = inner.index.clone();
        let (name, machines, now) = (inner.options.name.clone(), inner.machines() as u64, Instant::now());
        // Millions of entries may have to be put in order. It fails only when the program is being stopped.
        let told = tokio::task::spawn_blocking(move || {
            let puts = gathering.tell(is_news.then(|| index.everything()), &name, machines, now);
            (gathering, puts)
        });
        let puts;
        (gathering, puts) = told.await.map_err(|error| SiteError::nats(&error))?;
        for (kind, payload) in puts {
            let key = kind.key(&inner.options.site);
            let message = inner.seal(&format!("{INDEX}/{key}"), &payload);
            buckets.index.put(&key, message).await.map_err(|error| SiteError::nats(&error))?;
        }
        sleep(GAP).await; // pace
        is_news = timeout(HEARTBEAT.saturating_sub(GAP), changes.changed()).await.is_ok();
        if is_news {
            sleep(GATHER).await; // pace
        }
    }
}

/// Where the machines of the site say that they are.
type Nodes = Mutex<BTreeMap<NodeId, Vec<SocketAddr>>>;

async fn watch_nodes(inner: &Arc<Shared>, buckets: &Buckets, nodes: &Nodes) -> Result<(), SiteError> {
    let prefix = format!("{}.", inner.options.site);
    let watch = buckets.nodes.watch_with_history(format!("{prefix}*")).await;
    let mut watch = watch.map_err(|error| SiteError::nats(&error))?;
    while let Some(entry) = watch.next().await {
        let entry = entry.map_err(|error| SiteError::nats(&error))?;
        let id = entry.key.strip_prefix(&prefix).and_then(|id| id.parse::<NodeId>().ok());
        let place = format!("{NODES}/{}", entry.key);
        let told = inner.open(&inner.options.site, &place, &entry.value);
        if let (Some(id), Ok(told)) = (id, told)
            && told.from == id
            && let Ok(node) = Node::parse(&told.payload)
        {
            let mut nodes = nodes.lock();
            if nodes.len() < NODES_MAX || nodes.contains_key(&id) {
                nodes.insert(id, node.addresses);
            }
        }
    }
    Err(SiteError::Nats("the machines of the site are told no longer".to_owned()))
}

/// Answers whoever asks the site.
async fn answer(
    inner: &Arc<Shared>,
    client: &Client,
    desk: &Arc<dyn Desk>,
    nodes: &Arc<Nodes>,
) -> Result<(), SiteError> {
    let place = subject(&inner.options.site);
    let subscription = client.queue_subscribe(place.clone(), QUEUE.to_owned()).await;
    let mut questions = subscription.map_err(|error| SiteError::nats(&error))?;
    let places = Arc::new(Semaphore::new(ANSWERS));
    let mut answering = tokio::task::JoinSet::new();
    while let Some(message) = questions.next().await {
        let Ok(permit) = Arc::clone(&places).acquire_owned().await else { break };
        while answering.try_join_next().is_some() {}
        let (inner, client) = (Arc::clone(inner), client.clone());
        let (desk, nodes, place) = (Arc::clone(desk), Arc::clone(nodes), place.clone());
        answering.spawn(async move {
            if let Some((to, answer)) = respond(&inner, &desk, &nodes, &place, message).await {
                // Whoever asked may be gone.
                let _ = client.publish(to, answer).await;
            }
            drop(permit);
        });
    }
    Err(SiteError::Nats("questions come no longer".to_owned()))
}

/// The answer to a question, and where it goes; `None`: it deserves none.
async fn respond(
    inner: &Shared,
    desk: &Arc<dyn Desk>,
    nodes: &Nodes,
    place: &str,
    message: Message,
) -> Option<(async_nats::Subject, Bytes)> {
    let to = message.reply?;
    let hashes = match inner.open_from_anyone(place, &message.payload).and_then(|told| parse_request(&told.payload)) {
        Ok(hashes) => hashes,
        Err(error) => {
            log::debug!(reason:% = error; "a question of another site is not answered: {error}");
            return None;
        }
    };
    let most = ANSWER_MAX.min(inner.answer_max());
    let mut answer = Answer::within(most);
    let mut seen: HashSet<StoreHash> = hashes.iter().copied().collect();
    let (mut next, mut foreseen, mut bytes, mut is_first) = (hashes, 0, 0, true);
    while !next.is_empty() {
        let asked = std::mem::take(&mut next);
        let mut known: BTreeMap<StoreHash, Answered> =
            desk.about(asked.clone()).await.into_iter().map(|one| (one.hash, one)).collect();
        for hash in asked {
            let found = known.remove(&hash).map(|one| found(inner, desk, nodes, one));
            if found.is_none() && !is_first {
                continue;
            }
            if !answer.add(hash, found.as_ref()) {
                return Some((to, inner.seal(&reply_place(&message.payload), &answer.into_bytes())));
            }
            let Some(found) = found else { continue };
            if !is_first {
                (foreseen, bytes) = (foreseen + 1, bytes + found.narinfo.text.len());
            }
            if foreseen + next.len() < FORESEEN && bytes < FORESEEN_BYTES {
                let references = references(hash, &found.narinfo.text, FORESEEN - foreseen - next.len());
                next.extend(references.into_iter().filter(|reference| seen.insert(*reference)));
            }
        }
        next.truncate(HASHES_MAX);
        is_first = false;
    }
    Some((to, inner.seal(&reply_place(&message.payload), &answer.into_bytes())))
}

/// What is told of a path: who has it, and where they can be reached.
fn found(inner: &Shared, desk: &Arc<dyn Desk>, nodes: &Nodes, answered: Answered) -> Found {
    let Answered { narinfo, holders, .. } = answered;
    let nodes = nodes.lock();
    let holder = |id: NodeId| {
        let addresses = if id == inner.options.key.id() { inner.addresses() } else { Vec::new() };
        let told = || nodes.get(&id).cloned().unwrap_or_default();
        let addresses = [addresses].into_iter().chain([told()]).find(|addresses| !addresses.is_empty());
        Holder { id, addresses: addresses.unwrap_or_else(|| desk.addresses(id)) }
    };
    let holders = holders.into_iter().take(HOLDERS_MAX).map(holder).filter(|holder| !holder.addresses.is_empty());
    Found { narinfo, holders: holders.collect() }
}

/// How many other machines come before this one when somebody has to speak for the site.
pub(super) fn place(inner: &Shared) -> usize {
    let us = inner.options.key.id();
    let peers = inner.peers.snapshot();
    peers.iter().filter(|peer| peer.state == State::Online && peer.id < us).count()
}
