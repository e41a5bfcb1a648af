//! `org.peernix.Peernix1.Job`: something that takes its time, as an object.

use super::dict::{Dict, text, to_dicts};
use super::errors::CallError;
use super::model::{Properties, Shown, View};
use super::object::{Item, Object};
use super::options::Options;
use super::paths::job_path;
use crate::control::{Job, Operation};
use zbus::message::Header;
use zbus::{Connection, OwnedObjectPath, interface};

/// The most paths in one answer.
const PATHS_MAX: u32 = 10_000;

impl Shown for Job {
    fn shown(&self) -> Properties {
        vec![
            ("State", self.state.as_str().into()),
            ("Progress", self.progress.into()),
            ("Message", text(&self.message).into()),
            ("Paths", self.paths.into()),
            ("Bytes", self.bytes.into()),
            ("EndTimestamp", self.end_timestamp.unwrap_or_default().into()),
        ]
    }
}

impl Item for Job {
    fn path(&self) -> OwnedObjectPath {
        job_path(self.id)
    }

    fn find<'v>(&self, view: &'v View) -> Option<&'v Self> {
        view.jobs.get(&self.id)
    }
}

/// Something that takes its time. The object stays for a while after its end.
#[interface(name = "org.peernix.Peernix1.Job")]
impl Object<Job> {
    /// The paths that it dealt with so far, from the offset on, at most limit and 10000: Path (s), Size (t), Result (s), Reason (s).
    #[zbus(out_args("paths"))]
    async fn list_paths(
        &self,
        offset: u64,
        limit: u32,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<Vec<Dict>, CallError> {
        let _call = self.callers.enter(connection, &header).await?;
        let paths = self.model.control.job_paths(self.first.id, offset, limit.min(PATHS_MAX)).await?;
        Ok(to_dicts(&paths)?)
    }

    /// Ends it before its time. True if it still ran.
    #[zbus(out_args("changed"))]
    async fn cancel(
        &self,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, CallError> {
        Options::none(options)?;
        let call = self.callers.count(&header)?;
        for action in Operation::beginning(self.first.kind).actions() {
            call.allow(connection, &header, *action).await?;
        }
        Ok(self.model.control.cancel_job(self.first.id).await?)
    }

    /// Its number.
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> u64 {
        self.first.id
    }

    /// What it is about: garbage-collection or prefetch.
    #[zbus(property(emits_changed_signal = "const"))]
    fn kind(&self) -> String {
        self.first.kind.to_string()
    }

    /// Whether it only says what it would do.
    #[zbus(property(emits_changed_signal = "const"))]
    fn dry_run(&self) -> bool {
        self.first.dry_run
    }

    /// When it began.
    #[zbus(property(emits_changed_signal = "const"))]
    fn start_timestamp(&self) -> u64 {
        self.first.start_timestamp
    }

    /// Where it stands: running, done, failed or cancelled.
    #[zbus(property)]
    fn state(&self) -> String {
        self.now(|job| job.state.to_string())
    }

    /// How much of it is done, 0 to 1.
    #[zbus(property)]
    fn progress(&self) -> f64 {
        self.now(|job| job.progress)
    }

    /// What it is doing, or came to, in words.
    #[zbus(property)]
    fn message(&self) -> String {
        self.now(|job| text(&job.message))
    }

    /// The paths that it dealt with so far.
    #[zbus(property)]
    fn paths(&self) -> u64 {
        self.now(|job| job.paths)
    }

    /// The bytes that it freed or fetched so far.
    #[zbus(property)]
    fn bytes(&self) -> u64 {
        self.now(|job| job.bytes)
    }

    /// When it ended, 0 while it runs.
    #[zbus(property)]
    fn end_timestamp(&self) -> u64 {
        self.now(|job| job.end_timestamp.unwrap_or_default())
    }
}
