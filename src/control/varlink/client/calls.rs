//! Each thing that can be asked for, as the call that it is.

use super::Client;
use crate::control::varlink::interfaces::{FLEET, KEYS, MANAGER, PEERS, STORE};
use crate::control::{
    Control, ControlError, Day, Enrolment, ErrorKind, Event, EventFilter, EventItem, Events, FleetStatus,
    GarbageOptions, Invitation, Job, JobPath, JobUpdates, Key, LogLevel, Measurement, Outcome, PathReport, Peer,
    PeerFilter, Pin, PinRequest, Reload, Rotation, Statistics, Status, Transfer, TrustedKey, microseconds,
};
use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Takes an answer for what it has to be.
fn read<T: DeserializeOwned>(value: Value) -> Outcome<T> {
    serde_json::from_value(value).map_err(|error| {
        ControlError::new(ErrorKind::Failed, format!("the service answers something strange: {error}"))
    })
}

/// Takes one field of an answer.
fn field<T: DeserializeOwned>(name: &str, mut answer: Value) -> Outcome<T> {
    read(answer.get_mut(name).map(Value::take).unwrap_or_default())
}

/// Leaves out what is not given.
fn given(parameters: Value) -> Value {
    match parameters {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into(),
        other => other,
    }
}

fn job(answer: Value) -> Outcome<Job> {
    field("job", answer)
}

fn event_item(answer: Value) -> Outcome<EventItem> {
    if answer.get("ready").is_some_and(|ready| *ready == true) {
        return Ok(EventItem::Ready { cursor: field("cursor", answer)? });
    }
    if answer.get("dropped").is_some_and(Value::is_u64) {
        return Ok(EventItem::Dropped { count: field("dropped", answer)? });
    }
    Ok(EventItem::Event(read::<Event>(answer)?))
}

impl Client {
    async fn get<T: DeserializeOwned>(
        &self,
        interface: &str,
        method: &str,
        parameters: Value,
        name: &str,
    ) -> Outcome<T> {
        field(name, self.one(&format!("{interface}.{method}"), given(parameters)).await?)
    }

    async fn changes(&self, interface: &str, method: &str, parameters: Value) -> Outcome<bool> {
        self.get(interface, method, parameters, "changed").await
    }

    async fn does(&self, interface: &str, method: &str, parameters: Value) -> Outcome<()> {
        self.one(&format!("{interface}.{method}"), given(parameters)).await.map(drop)
    }

    async fn list<T: DeserializeOwned>(
        &self,
        interface: &str,
        method: &str,
        parameters: Value,
        name: &str,
    ) -> Outcome<Vec<T>> {
        let answers = self.all(&format!("{interface}.{method}"), given(parameters)).await?;
        let some = answers.into_iter().filter(|answer| answer.get(name).is_some_and(|value| !value.is_null()));
        some.map(|answer| field(name, answer)).collect()
    }
}

#[async_trait]
impl Control for Client {
    async fn status(&self) -> Outcome<Status> {
        let answer = self.one(&format!("{MANAGER}.Describe"), json!({})).await?;
        let mut status: Map<String, Value> = field("runtime", answer.clone())?;
        status.append(&mut field("context", answer)?);
        read(Value::Object(status))
    }

    async fn statistics(&self) -> Outcome<Statistics> {
        self.get(MANAGER, "DumpStatistics", json!({}), "statistics").await
    }

    async fn transfers(&self) -> Outcome<Vec<Transfer>> {
        self.list(MANAGER, "ListTransfers", json!({}), "transfer").await
    }

    async fn history(&self) -> Outcome<Vec<Day>> {
        self.list(MANAGER, "ListHistory", json!({}), "day").await
    }

    async fn reset_statistics(&self) -> Outcome<()> {
        self.does(MANAGER, "ResetStatistics", json!({})).await
    }

    async fn drain(&self, limit: Option<Duration>) -> Outcome<bool> {
        self.changes(MANAGER, "Drain", json!({ "limitUSec": limit.map(microseconds) })).await
    }

    async fn undrain(&self) -> Outcome<bool> {
        self.changes(MANAGER, "Undrain", json!({})).await
    }

    async fn set_offline(&self, offline: bool) -> Outcome<bool> {
        self.changes(MANAGER, "SetOffline", json!({ "offline": offline })).await
    }

    async fn reload(&self) -> Outcome<Reload> {
        self.get(MANAGER, "Reload", json!({}), "reload").await
    }

    async fn log_level(&self) -> Outcome<LogLevel> {
        self.get(MANAGER, "GetLogLevel", json!({}), "level").await
    }

    async fn set_log_level(&self, level: LogLevel) -> Outcome<()> {
        self.does(MANAGER, "SetLogLevel", json!({ "level": level })).await
    }

    async fn events(&self, filter: EventFilter) -> Outcome<Events> {
        self.feed(&format!("{MANAGER}.SubscribeEvents"), json!(filter), event_item).await
    }

    async fn peers(&self, filter: PeerFilter) -> Outcome<Vec<Peer>> {
        self.list(PEERS, "List", json!(filter), "peer").await
    }

    async fn peer(&self, peer: &str) -> Outcome<Peer> {
        self.get(PEERS, "List", json!({ "id": peer }), "peer").await
    }

    async fn add_peer(&self, uri: &str) -> Outcome<bool> {
        self.changes(PEERS, "Add", json!({ "uri": uri })).await
    }

    async fn forget_peer(&self, peer: &str) -> Outcome<bool> {
        self.changes(PEERS, "Forget", json!({ "id": peer })).await
    }

    async fn block_peer(&self, peer: &str, reason: &str) -> Outcome<bool> {
        self.changes(PEERS, "Block", json!({ "id": peer, "reason": reason })).await
    }

    async fn unblock_peer(&self, peer: &str) -> Outcome<bool> {
        self.changes(PEERS, "Unblock", json!({ "id": peer })).await
    }

    async fn ping_peer(&self, peer: &str) -> Outcome<Duration> {
        Ok(Duration::from_micros(self.get(PEERS, "Ping", json!({ "id": peer }), "rttUSec").await?))
    }

    async fn measure_peer(&self, peer: &str) -> Outcome<Measurement> {
        self.get(PEERS, "Measure", json!({ "id": peer }), "measurement").await
    }

    async fn refresh_peers(&self) -> Outcome<()> {
        self.does(PEERS, "Refresh", json!({})).await
    }

    async fn query_path(&self, path: &str) -> Outcome<PathReport> {
        self.get(STORE, "QueryPath", json!({ "path": path }), "report").await
    }

    async fn prefetch(&self, paths: Vec<String>) -> Outcome<Job> {
        self.get(STORE, "Prefetch", json!({ "paths": paths }), "job").await
    }

    async fn collect_garbage(&self, options: GarbageOptions) -> Outcome<Job> {
        self.get(STORE, "CollectGarbage", json!(options), "job").await
    }

    async fn pin(&self, request: PinRequest) -> Outcome<bool> {
        self.changes(STORE, "Pin", json!(request)).await
    }

    async fn unpin(&self, path: &str) -> Outcome<bool> {
        self.changes(STORE, "Unpin", json!({ "path": path })).await
    }

    async fn pins(&self) -> Outcome<Vec<Pin>> {
        self.list(STORE, "ListPins", json!({}), "pin").await
    }

    async fn jobs(&self) -> Outcome<Vec<Job>> {
        self.list(MANAGER, "ListJobs", json!({}), "job").await
    }

    async fn job(&self, id: u64) -> Outcome<Job> {
        self.get(MANAGER, "ListJobs", json!({ "id": id }), "job").await
    }

    async fn job_paths(&self, id: u64, offset: u64, limit: u32) -> Outcome<Vec<JobPath>> {
        let parameters = json!({ "id": id, "offset": offset, "limit": limit });
        self.list(MANAGER, "ListJobPaths", parameters, "path").await
    }

    async fn watch_job(&self, id: u64) -> Outcome<JobUpdates> {
        self.feed(&format!("{MANAGER}.WatchJob"), json!({ "id": id }), job).await
    }

    async fn cancel_job(&self, id: u64) -> Outcome<bool> {
        self.changes(MANAGER, "CancelJob", json!({ "id": id })).await
    }

    async fn keys(&self) -> Outcome<Vec<Key>> {
        self.list(KEYS, "List", json!({}), "key").await
    }

    async fn rotate_key(&self, grace: Option<Duration>) -> Outcome<Rotation> {
        let parameters = given(json!({ "graceUSec": grace.map(microseconds) }));
        read(self.one(&format!("{KEYS}.Rotate"), parameters).await?)
    }

    async fn revoke_key(&self, fingerprint: &str, reason: &str) -> Outcome<bool> {
        self.changes(KEYS, "Revoke", json!({ "fingerprint": fingerprint, "reason": reason })).await
    }

    async fn trusted_keys(&self) -> Outcome<Vec<TrustedKey>> {
        self.list(KEYS, "ListTrusted", json!({}), "key").await
    }

    async fn trust(&self, public_key: &str, comment: &str) -> Outcome<bool> {
        self.changes(KEYS, "Trust", json!({ "publicKey": public_key, "comment": comment })).await
    }

    async fn distrust(&self, key: &str) -> Outcome<bool> {
        self.changes(KEYS, "Distrust", json!({ "key": key })).await
    }

    async fn fleet(&self) -> Outcome<FleetStatus> {
        self.get(FLEET, "Show", json!({}), "fleet").await
    }

    async fn init_fleet(&self, site: &str) -> Outcome<FleetStatus> {
        self.get(FLEET, "Init", json!({ "site": site }), "fleet").await
    }

    async fn invite_member(&self) -> Outcome<Invitation> {
        self.get(FLEET, "Invite", json!({}), "invitation").await
    }

    async fn join_fleet(&self, code: &str, address: Option<&str>) -> Outcome<FleetStatus> {
        self.get(FLEET, "Join", json!({ "code": code, "address": address }), "fleet").await
    }

    async fn enroll_member(&self, enrolment: Enrolment) -> Outcome<String> {
        self.get(FLEET, "Enroll", json!(enrolment), "membership").await
    }

    async fn revoke_member(&self, member: &str) -> Outcome<bool> {
        self.changes(FLEET, "Revoke", json!({ "id": member })).await
    }
}
