//! [`Control`] over D-Bus: what `peernixctl` and the notifier reach the service with.

use super::bus::{BUS_NAME, Bus};
use super::call::call;
use super::dict::{Dict, from_dict, from_dicts, to_dict};
use super::errors;
use super::feed::{EventFeed, JobFeed};
use super::paths::{ROOT, job_path};
use crate::control::{
    Control, ControlError, Day, Enrolment, ErrorKind, EventFilter, Events, FleetStatus, GarbageOptions, Invitation,
    Job, JobPath, JobUpdates, Key, LogLevel, Measurement, Outcome, PathReport, Peer, PeerFilter, Pin, PinRequest,
    Reload, Rotation, Statistics, Status, Transfer, TrustedKey, microseconds,
};
use async_trait::async_trait;
use serde::Serialize;
use std::time::Duration;
use zbus::wire::DynamicDeserialize;
use zbus::{Connection, DynamicType, OwnedObjectPath, OwnedVariant, Variant};

/// The service, reached over D-Bus. It is never started by being asked.
pub struct Client {
    bus: Bus,
    connection: Connection,
}

impl Client {
    /// Reaches the service.
    ///
    /// # Errors
    /// [`ErrorKind::NotRunning`] if there is no bus, or nobody has the service's name on it.
    pub async fn connect(bus: Bus) -> Outcome<Self> {
        let connection = bus.connect().await.map_err(|error| {
            ControlError::new(ErrorKind::NotRunning, format!("the system bus cannot be reached: {error}"))
        })?;
        let client = Self { bus, connection };
        let names = zbus::fdo::DBusProxy::new(&client.connection).await.map_err(|error| errors::received(&error))?;
        let name = zbus::names::BusName::try_from(BUS_NAME).map_err(|error| errors::received(&error))?;
        match names.name_has_owner(name).await {
            Ok(true) => Ok(client),
            Ok(false) => Err(ControlError::new(ErrorKind::NotRunning, errors::NOBODY)),
            Err(error) => Err(errors::received(&error.into())),
        }
    }

    async fn call<B, R>(&self, method: &'static str, body: &B) -> Outcome<R>
    where
        B: Serialize + DynamicType + Sync,
        R: for<'d> DynamicDeserialize<'d>,
    {
        call(&self.connection, ROOT, "Manager", method, body).await
    }

    async fn begun(&self, object: &OwnedObjectPath) -> Outcome<Job> {
        let number = object.as_str().rsplit('/').next().and_then(|number| number.parse().ok());
        let wrong = || ControlError::new(ErrorKind::Failed, format!("{object} is not the object of a job"));
        self.job(number.ok_or_else(wrong)?).await
    }
}

/// No options.
fn none() -> Dict {
    Dict::new()
}

/// A value as the options of a method take it.
fn option(value: impl Into<Variant<'static>>) -> Outcome<OwnedVariant> {
    OwnedVariant::try_from(value.into()).map_err(|error| ControlError::new(ErrorKind::Failed, error))
}

/// The objects that came with dictionaries are for others.
fn without_objects<T: serde::de::DeserializeOwned>(list: &[(OwnedObjectPath, Dict)]) -> Outcome<Vec<T>> {
    list.iter().map(|(_, dict)| from_dict(dict)).collect()
}

#[async_trait]
impl Control for Client {
    async fn status(&self) -> Outcome<Status> {
        from_dict(&self.call("GetStatus", &()).await?)
    }

    async fn statistics(&self) -> Outcome<Statistics> {
        from_dict(&self.call("GetStatistics", &()).await?)
    }

    async fn transfers(&self) -> Outcome<Vec<Transfer>> {
        from_dicts(&self.call::<_, Vec<Dict>>("ListTransfers", &()).await?)
    }

    async fn history(&self) -> Outcome<Vec<Day>> {
        from_dicts(&self.call::<_, Vec<Dict>>("GetHistory", &()).await?)
    }

    async fn reset_statistics(&self) -> Outcome<()> {
        self.call("ResetStatistics", &(none(),)).await
    }

    async fn drain(&self, limit: Option<Duration>) -> Outcome<bool> {
        let mut options = none();
        if let Some(limit) = limit {
            options.insert("LimitUSec".to_owned(), option(microseconds(limit))?);
        }
        self.call("Drain", &(options,)).await
    }

    async fn undrain(&self) -> Outcome<bool> {
        self.call("Undrain", &(none(),)).await
    }

    async fn set_offline(&self, offline: bool) -> Outcome<bool> {
        self.call("SetOffline", &(offline, none())).await
    }

    async fn reload(&self) -> Outcome<Reload> {
        from_dict(&self.call("Reload", &(none(),)).await?)
    }

    async fn log_level(&self) -> Outcome<LogLevel> {
        Ok(self.status().await?.log_level)
    }

    async fn set_log_level(&self, level: LogLevel) -> Outcome<()> {
        self.call("SetLogLevel", &(level.as_str(), none())).await
    }

    async fn events(&self, filter: EventFilter) -> Outcome<Events> {
        Ok(Box::new(EventFeed::open(&self.bus, &filter).await?))
    }

    async fn peers(&self, filter: PeerFilter) -> Outcome<Vec<Peer>> {
        without_objects(&self.call::<_, Vec<(OwnedObjectPath, Dict)>>("ListPeers", &(to_dict(&filter)?,)).await?)
    }

    async fn peer(&self, peer: &str) -> Outcome<Peer> {
        let (_, peer): (OwnedObjectPath, Dict) = self.call("GetPeer", &(peer,)).await?;
        from_dict(&peer)
    }

    async fn add_peer(&self, uri: &str) -> Outcome<bool> {
        self.call("AddPeer", &(uri, none())).await
    }

    async fn forget_peer(&self, peer: &str) -> Outcome<bool> {
        self.call("ForgetPeer", &(peer, none())).await
    }

    async fn block_peer(&self, peer: &str, reason: &str) -> Outcome<bool> {
        self.call("BlockPeer", &(peer, reason, none())).await
    }

    async fn unblock_peer(&self, peer: &str) -> Outcome<bool> {
        self.call("UnblockPeer", &(peer, none())).await
    }

    async fn ping_peer(&self, peer: &str) -> Outcome<Duration> {
        self.call("PingPeer", &(peer,)).await.map(Duration::from_micros)
    }

    async fn measure_peer(&self, peer: &str) -> Outcome<Measurement> {
        from_dict(&self.call("MeasurePeer", &(peer,)).await?)
    }

    async fn refresh_peers(&self) -> Outcome<()> {
        self.call("Refresh", &(none(),)).await
    }

    async fn query_path(&self, path: &str) -> Outcome<PathReport> {
        from_dict(&self.call("QueryPath", &(path,)).await?)
    }

    async fn prefetch(&self, paths: Vec<String>) -> Outcome<Job> {
        let job = self.call("Prefetch", &(paths, none())).await?;
        self.begun(&job).await
    }

    async fn collect_garbage(&self, options: GarbageOptions) -> Outcome<Job> {
        let job = self.call("CollectGarbage", &(to_dict(&options)?,)).await?;
        self.begun(&job).await
    }

    async fn pin(&self, request: PinRequest) -> Outcome<bool> {
        let mut options = to_dict(&request)?;
        options.remove("Path");
        self.call("Pin", &(request.path, options)).await
    }

    async fn unpin(&self, path: &str) -> Outcome<bool> {
        self.call("Unpin", &(path, none())).await
    }

    async fn pins(&self) -> Outcome<Vec<Pin>> {
        from_dicts(&self.call::<_, Vec<Dict>>("ListPins", &()).await?)
    }

    async fn jobs(&self) -> Outcome<Vec<Job>> {
        without_objects(&self.call::<_, Vec<(OwnedObjectPath, Dict)>>("ListJobs", &()).await?)
    }

    async fn job(&self, id: u64) -> Outcome<Job> {
        let (_, job): (OwnedObjectPath, Dict) = self.call("GetJob", &(id,)).await?;
        from_dict(&job)
    }

    async fn job_paths(&self, id: u64, offset: u64, limit: u32) -> Outcome<Vec<JobPath>> {
        // An object that is not there says less than the service does.
        self.job(id).await?;
        let path = job_path(id);
        let paths: Vec<Dict> = call(&self.connection, path.as_str(), "Job", "ListPaths", &(offset, limit)).await?;
        from_dicts(&paths)
    }

    async fn watch_job(&self, id: u64) -> Outcome<JobUpdates> {
        self.job(id).await?;
        Ok(Box::new(JobFeed::open(&self.bus, id).await?))
    }

    async fn cancel_job(&self, id: u64) -> Outcome<bool> {
        self.job(id).await?;
        call(&self.connection, job_path(id).as_str(), "Job", "Cancel", &(none(),)).await
    }

    async fn keys(&self) -> Outcome<Vec<Key>> {
        without_objects(&self.call::<_, Vec<(OwnedObjectPath, Dict)>>("ListKeys", &()).await?)
    }

    async fn rotate_key(&self, grace: Option<Duration>) -> Outcome<Rotation> {
        let mut options = none();
        if let Some(grace) = grace {
            options.insert("GraceUSec".to_owned(), option(microseconds(grace))?);
        }
        let (_, rotation): (OwnedObjectPath, Dict) = self.call("RotateKey", &(options,)).await?;
        from_dict(&rotation)
    }

    async fn revoke_key(&self, fingerprint: &str, reason: &str) -> Outcome<bool> {
        self.call("RevokeKey", &(fingerprint, reason, none())).await
    }

    async fn trusted_keys(&self) -> Outcome<Vec<TrustedKey>> {
        from_dicts(&self.call::<_, Vec<Dict>>("ListTrusted", &()).await?)
    }

    async fn trust(&self, public_key: &str, comment: &str) -> Outcome<bool> {
        let mut options = none();
        if !comment.is_empty() {
            options.insert("Comment".to_owned(), option(comment.to_owned())?);
        }
        self.call("Trust", &(public_key, options)).await
    }

    async fn distrust(&self, key: &str) -> Outcome<bool> {
        self.call("Distrust", &(key, none())).await
    }

    async fn fleet(&self) -> Outcome<FleetStatus> {
        from_dict(&self.call("GetFleet", &()).await?)
    }

    async fn init_fleet(&self, site: &str) -> Outcome<FleetStatus> {
        let mut options = none();
        if !site.is_empty() {
            options.insert("Site".to_owned(), option(site.to_owned())?);
        }
        from_dict(&self.call("InitFleet", &(options,)).await?)
    }

    async fn invite_member(&self) -> Outcome<Invitation> {
        from_dict(&self.call("InviteMember", &(none(),)).await?)
    }

    async fn join_fleet(&self, code: &str, address: Option<&str>) -> Outcome<FleetStatus> {
        let mut options = none();
        if let Some(address) = address {
            options.insert("Address".to_owned(), option(address.to_owned())?);
        }
        from_dict(&self.call("JoinFleet", &(code, options)).await?)
    }

    async fn enroll_member(&self, enrolment: Enrolment) -> Outcome<String> {
        let mut options = to_dict(&enrolment)?;
        options.remove("Id");
        self.call("EnrollMember", &(enrolment.id, options)).await
    }

    async fn revoke_member(&self, member: &str) -> Outcome<bool> {
        self.call("RevokeMember", &(member, none())).await
    }
}
