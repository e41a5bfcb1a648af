//! What goes on telling, over D-Bus: events and the progress of a job, as the client reads them.

use super::bus::{BUS_NAME, Bus};
use super::call::call;
use super::dict::{Dict, from_dict, to_dict};
use super::errors;
use super::methods::MANAGER;
use super::owner::Owner;
use super::paths::{ROOT, job_path};
use super::stream::next;
use crate::control::{ControlError, ErrorKind, EventFilter, EventItem, Feed, Job, JobState, Outcome};
use async_trait::async_trait;
use zbus::message::Type;
use zbus::{Connection, MatchRule, MessageStream, OwnedObjectPath};

/// What the service says between two looks.
pub(super) struct Signals {
    connection: Connection,
    signals: MessageStream,
    owner: Owner,
}

impl Signals {
    /// On a connection of its own: what its reader does not read holds up nobody else, and when it is dropped, the bus tells the
    /// service.
    async fn open(bus: &Bus, rule: zbus::match_rule::Builder<'_>) -> Outcome<Self> {
        // It answers pings, which is how the service knows that its events are read.
        let connection = bus.connect_and_serve().await.map_err(|error| errors::received(&error))?;
        let owner = async {
            let rule = rule.msg_type(Type::Signal).sender(BUS_NAME).build()?;
            let signals = MessageStream::for_match_rule(rule, &connection, None).await?;
            Ok((signals, Owner::watch(&connection).await?))
        };
        let (signals, owner) = owner.await.map_err(|error: zbus::Error| errors::received(&error))?;
        if !owner.is_there() {
            return Err(ControlError::new(ErrorKind::NotRunning, errors::NOBODY));
        }
        Ok(Self { connection, signals, owner })
    }

    /// The next signal; an error when the service or the bus is gone.
    async fn next(&mut self) -> Outcome<zbus::Message> {
        loop {
            tokio::select! {
                signal = next(&mut self.signals) => match signal {
                    Some(Ok(signal)) if self.owner.sent(&signal) => return Ok(signal),
                    // Somebody addressed it to us who is not the service.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Err(errors::received(&error)),
                    None => return Err(ControlError::new(ErrorKind::NotRunning, "the bus went away")),
                },
                _ = self.owner.changed() => {
                    return Err(ControlError::new(ErrorKind::NotRunning, "peernixd went away"));
                }
            }
        }
    }
}

/// Events as they happen.
pub(super) struct EventFeed {
    signals: Signals,
    first: Option<u64>,
    ended: bool,
}

impl EventFeed {
    pub(super) async fn open(bus: &Bus, filter: &EventFilter) -> Outcome<Self> {
        let rule = MatchRule::builder().path(ROOT).interface(MANAGER);
        let signals = Signals::open(bus, rule).await?;
        let mut options: Dict = to_dict(filter)?;
        if filter.kinds.is_empty() {
            options.remove("Kinds");
        }
        let cursor = call(&signals.connection, ROOT, "Manager", "Subscribe", &(options,)).await?;
        Ok(Self { signals, first: Some(cursor), ended: false })
    }

    async fn read(&mut self) -> Outcome<EventItem> {
        if let Some(cursor) = self.first.take() {
            return Ok(EventItem::Ready { cursor });
        }
        loop {
            let signal = self.signals.next().await?;
            let header = signal.header();
            let body = signal.body();
            let wrong = |error: zbus::Error| ControlError::new(ErrorKind::Failed, error);
            match header.member().map(zbus::names::MemberName::as_str) {
                Some("Event") => {
                    let (event,): (Dict,) = body.deserialize().map_err(wrong)?;
                    return Ok(EventItem::Event(from_dict(&event)?));
                }
                Some("EventsDropped") => {
                    let (count,): (u64,) = body.deserialize().map_err(wrong)?;
                    return Ok(EventItem::Dropped { count });
                }
                // What everybody is told.
                _ => {}
            }
        }
    }
}

#[async_trait]
impl Feed<EventItem> for EventFeed {
    async fn next(&mut self) -> Option<Outcome<EventItem>> {
        if self.ended {
            return None;
        }
        let item = self.read().await;
        self.ended = item.is_err();
        Some(item)
    }
}

/// A job as it goes on.
pub(super) struct JobFeed {
    signals: Signals,
    id: u64,
    last: Option<Job>,
    ended: bool,
}

impl JobFeed {
    pub(super) async fn open(bus: &Bus, id: u64) -> Outcome<Self> {
        let path = job_path(id);
        let rule = MatchRule::builder().path(path.into_inner()).interface("org.freedesktop.DBus.Properties");
        // First the signals, then the look, so that nothing is missed between them.
        let signals = Signals::open(bus, rule).await?;
        Ok(Self { signals, id, last: None, ended: false })
    }

    async fn look(&self) -> Outcome<Job> {
        let (_, job): (OwnedObjectPath, Dict) =
            call(&self.signals.connection, ROOT, "Manager", "GetJob", &(self.id,)).await?;
        from_dict(&job)
    }

    async fn read(&mut self) -> Outcome<Job> {
        loop {
            let job = self.look().await?;
            if self.last.as_ref() != Some(&job) {
                self.last = Some(job.clone());
                return Ok(job);
            }
            self.signals.next().await?;
        }
    }
}

#[async_trait]
impl Feed<Job> for JobFeed {
    async fn next(&mut self) -> Option<Outcome<Job>> {
        if self.ended {
            return None;
        }
        let job = self.read().await;
        self.ended = job.as_ref().map_or(true, |job| job.state != JobState::Running);
        Some(job)
    }
}
