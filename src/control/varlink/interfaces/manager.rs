//! `org.peernix.Manager`: the service as a whole, its events, and its jobs.

use super::answer::{Answer, Answered, Part, changed, done, list, many, one};
use super::jobs;
use crate::control::varlink::protocol::{About as _, Call, Refusal};
use crate::control::{Control, EventFilter, EventItem, EventKind, Events, Feed, LogLevel, Outcome};
use async_trait::async_trait;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The fields of a [`Status`](crate::control::Status) that say what was configured; the others say what is.
pub(crate) const CONTEXT: &[&str] = &["hostName", "storeDir", "listen", "sharePolicy", "configuration", "logLevel"];

pub(super) async fn answer(call: &Call, control: &Arc<dyn Control>) -> Answered {
    match call.method.as_str() {
        "Describe" => {
            call.parameters(&[])?;
            let Value::Object(status) = json!(control.status().await?) else { return Err(Refusal::MethodNotFound) };
            let (context, runtime): (Map<_, _>, Map<_, _>) =
                status.into_iter().partition(|(name, _)| CONTEXT.contains(&name.as_str()));
            Ok(Answer::One(json!({ "context": context, "runtime": runtime })))
        }
        "DumpStatistics" => {
            call.parameters(&[])?;
            one("statistics", control.statistics().await?)
        }
        "ListTransfers" => {
            call.parameters(&[])?;
            list(call, "transfer", control.transfers().await)
        }
        "ListHistory" => {
            call.parameters(&[])?;
            list(call, "day", control.history().await)
        }
        "ResetStatistics" => {
            call.parameters(&[])?;
            done(control.reset_statistics().await)
        }
        "Drain" => {
            let limit = call.parameters(&["limitUSec"])?.optional("limitUSec")?.map(Duration::from_micros);
            changed(control.drain(limit).await.about("limitUSec"))
        }
        "Undrain" => {
            call.parameters(&[])?;
            changed(control.undrain().await.map_err(Refusal::from))
        }
        "SetOffline" => {
            let offline = call.parameters(&["offline"])?.required("offline")?;
            changed(control.set_offline(offline).await.map_err(Refusal::from))
        }
        "Reload" => {
            call.parameters(&[])?;
            one("reload", control.reload().await?)
        }
        "GetLogLevel" => {
            call.parameters(&[])?;
            one("level", control.log_level().await?)
        }
        "SetLogLevel" => {
            let level: LogLevel = call.parameters(&["level"])?.required("level")?;
            done(control.set_log_level(level).await)
        }
        "SubscribeEvents" => {
            many(call)?;
            let parameters = call.parameters(&["kinds", "after"])?;
            let kinds: Vec<EventKind> = parameters.optional("kinds")?.unwrap_or_default();
            let filter = EventFilter { kinds, after: parameters.optional("after")? };
            Ok(Answer::Feed(Box::new(Telling(control.events(filter).await.about("kinds")?))))
        }
        _ => jobs::answer(call, control).await,
    }
}

/// Events as replies.
struct Telling(Events);

#[async_trait]
impl Feed<Part> for Telling {
    async fn next(&mut self) -> Option<Outcome<Part>> {
        let part = |item| Part { parameters: event_item(&item), last: false };
        Some(self.0.next().await?.map(part))
    }
}

/// What a subscriber is told: `{ready, cursor}` first, then events, and `{dropped}` where some are gone.
fn event_item(item: &EventItem) -> Value {
    match item {
        EventItem::Ready { cursor } => json!({ "ready": true, "cursor": cursor }),
        EventItem::Event(event) => json!(event),
        EventItem::Dropped { count } => json!({ "dropped": count }),
    }
}
