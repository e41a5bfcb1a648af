//! Work that takes its time: numbered, watched, cancelled, and remembered for a while after its end.

use super::api::{Feed, JobUpdates};
use super::error::{ControlError, ErrorKind, Outcome};
use super::events::EventLog;
use super::types::{Event, EventKind, Job, JobKind, JobPath, JobState, timestamp};
use async_trait::async_trait;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How many jobs that ended are remembered.
const JOBS_KEPT: usize = 16;

/// How many of them with their paths.
const PATHS_OF_JOBS_KEPT: usize = 2;

/// How many paths of a job are remembered; of more only the number and the bytes are.
const PATHS_KEPT: usize = 100_000;

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobOutcome {
    /// Well; in words.
    Done(String),
    /// Not everything worked; why.
    Failed(String),
    /// It was cancelled.
    Cancelled,
}

/// All jobs. A cheap handle: clones are the same.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    all: Mutex<All>,
    events: EventLog,
}

struct All {
    next: u64,
    /// The service stops.
    closed: bool,
    jobs: BTreeMap<u64, Arc<Entry>>,
}

struct Entry {
    job: watch::Sender<Job>,
    paths: Mutex<Vec<JobPath>>,
    cancel: CancellationToken,
}

impl Jobs {
    /// No jobs yet; their beginnings and ends are told to `events`.
    #[must_use]
    pub fn new(events: EventLog) -> Self {
        Self(Arc::new(Inner { all: Mutex::new(All { next: 1, closed: false, jobs: BTreeMap::new() }), events }))
    }

    /// Begins a job. Only one of each kind runs at a time.
    ///
    /// # Errors
    /// [`ErrorKind::Busy`], with the number of the one that runs; [`ErrorKind::Draining`] once the service stops.
    pub fn begin(&self, kind: JobKind, dry_run: bool) -> Outcome<JobHandle> {
        let mut all = self.all();
        if all.closed {
            return Err(ControlError::new(ErrorKind::Draining, "the service is stopping"));
        }
        let same = |entry: &&Arc<Entry>| {
            let job = entry.job.borrow();
            job.kind == kind && job.state == JobState::Running
        };
        if let Some(running) = all.jobs.values().find(same) {
            let id = running.job.borrow().id;
            return Err(ControlError::new(ErrorKind::Busy, format!("job {id} ({kind}) is still running")));
        }
        let id = all.next;
        all.next += 1;
        let job = Job {
            id,
            kind,
            state: JobState::Running,
            dry_run,
            progress: 0.0,
            message: String::new(),
            paths: 0,
            bytes: 0,
            start_timestamp: timestamp(SystemTime::now()),
            end_timestamp: None,
        };
        let entry =
            Arc::new(Entry { job: watch::channel(job).0, paths: Mutex::default(), cancel: CancellationToken::new() });
        all.jobs.insert(id, Arc::clone(&entry));
        let ended: Vec<u64> = all.jobs.iter().filter(|(_, entry)| !entry.is_running()).map(|(id, _)| *id).collect();
        for id in ended.iter().take(ended.len().saturating_sub(JOBS_KEPT)) {
            all.jobs.remove(id);
        }
        for id in ended.iter().take(ended.len().saturating_sub(PATHS_OF_JOBS_KEPT)) {
            if let Some(entry) = all.jobs.get(id) {
                *entry.paths() = Vec::new();
            }
        }
        drop(all);
        let event = Event { id: Some(id), message: Some(kind.to_string()), ..Event::new(EventKind::JobStarted) };
        self.0.events.tell(event);
        Ok(JobHandle { entry, events: self.0.events.clone(), ended: false })
    }

    /// Every job, the oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Job> {
        self.all().jobs.values().map(|entry| entry.job.borrow().clone()).collect()
    }

    /// How many run.
    #[must_use]
    pub fn running(&self) -> usize {
        self.all().jobs.values().filter(|entry| entry.is_running()).count()
    }

    /// One job.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchJob`].
    pub fn get(&self, id: u64) -> Outcome<Job> {
        Ok(self.entry(id)?.job.borrow().clone())
    }

    /// The paths of a job from `offset` on, at most `limit`.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchJob`].
    pub fn paths(&self, id: u64, offset: u64, limit: u32) -> Outcome<Vec<JobPath>> {
        let entry = self.entry(id)?;
        let paths = entry.paths();
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(paths.iter().skip(offset).take(limit as usize).cloned().collect())
    }

    /// A job as it goes on: first as it is, then after every change, last at its end.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchJob`].
    pub fn watch(&self, id: u64) -> Outcome<JobUpdates> {
        let mut job = self.entry(id)?.job.subscribe();
        job.mark_changed();
        Ok(Box::new(Watch { job, ended: false }))
    }

    /// Ends a job. True if it ran.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchJob`].
    pub fn cancel(&self, id: u64) -> Outcome<bool> {
        let entry = self.entry(id)?;
        let runs = entry.is_running();
        if runs {
            entry.cancel.cancel();
        }
        Ok(runs)
    }

    /// Ends all jobs and lets no other begin: the service stops.
    pub fn close(&self) {
        let mut all = self.all();
        all.closed = true;
        all.jobs.values().for_each(|entry| entry.cancel.cancel());
    }

    fn entry(&self, id: u64) -> Outcome<Arc<Entry>> {
        let none =
            || ControlError::new(ErrorKind::NoSuchJob, format!("there is no job {id}, or it ended too long ago"));
        self.all().jobs.get(&id).cloned().ok_or_else(none)
    }

    fn all(&self) -> MutexGuard<'_, All> {
        self.0.all.lock()
    }
}

impl Entry {
    fn is_running(&self) -> bool {
        self.job.borrow().state == JobState::Running
    }

    fn paths(&self) -> MutexGuard<'_, Vec<JobPath>> {
        self.paths.lock()
    }
}

/// A job as the one who does it sees it. One that is dropped without an end has failed.
pub struct JobHandle {
    entry: Arc<Entry>,
    events: EventLog,
    ended: bool,
}

impl JobHandle {
    /// The job as it is.
    #[must_use]
    pub fn view(&self) -> Job {
        self.entry.job.borrow().clone()
    }

    /// Cancelled when somebody wants the job ended.
    #[must_use]
    pub fn cancelled(&self) -> CancellationToken {
        self.entry.cancel.clone()
    }

    /// Says how far the job is: from 0 to 1, and what it is doing.
    pub fn progress(&self, progress: f64, message: impl Into<String>) {
        let message = message.into();
        self.entry.job.send_modify(|job| {
            job.progress = if progress.is_finite() { progress.clamp(job.progress, 1.0) } else { job.progress };
            job.message = message;
        });
    }

    /// Takes in paths that were dealt with, and the bytes that this freed or fetched.
    pub fn add(&self, paths: Vec<JobPath>, bytes: u64) {
        let count = paths.len() as u64;
        let mut kept = self.entry.paths();
        let room = PATHS_KEPT.saturating_sub(kept.len());
        kept.extend(paths.into_iter().take(room));
        drop(kept);
        self.entry.job.send_modify(|job| {
            job.paths += count;
            job.bytes = job.bytes.saturating_add(bytes);
        });
    }

    /// Puts right the bytes, where the end shows what was only counted on.
    pub fn set_bytes(&self, bytes: u64) {
        self.entry.job.send_modify(|job| job.bytes = bytes);
    }

    /// Ends the job; gives it as it is then.
    pub fn end(mut self, outcome: JobOutcome) -> Job {
        self.finish(outcome);
        self.view()
    }

    fn finish(&mut self, outcome: JobOutcome) {
        self.ended = true;
        let (state, message) = match outcome {
            JobOutcome::Done(message) => (JobState::Done, message),
            JobOutcome::Failed(message) => (JobState::Failed, message),
            JobOutcome::Cancelled => (JobState::Cancelled, "cancelled".to_owned()),
        };
        self.entry.job.send_modify(|job| {
            job.state = state;
            job.message.clone_from(&message);
            job.end_timestamp = Some(timestamp(SystemTime::now()));
            if state == JobState::Done {
                job.progress = 1.0;
            }
        });
        let job = self.view();
        self.events.tell(Event {
            id: Some(job.id),
            to: Some(state.to_string()),
            bytes: Some(job.bytes),
            message: Some(message),
            ..Event::new(EventKind::JobFinished)
        });
    }
}

impl Drop for JobHandle {
    fn drop(&mut self) {
        if !self.ended {
            self.finish(JobOutcome::Failed("the service stopped".to_owned()));
        }
    }
}

struct Watch {
    job: watch::Receiver<Job>,
    ended: bool,
}

#[async_trait]
impl Feed<Job> for Watch {
    async fn next(&mut self) -> Option<Outcome<Job>> {
        if self.ended || self.job.changed().await.is_err() {
            return None;
        }
        let job = self.job.borrow_and_update().clone();
        self.ended = job.state != JobState::Running;
        Some(Ok(job))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> JobPath {
        JobPath { path: name.to_owned(), size: 1, result: "dead".to_owned(), reason: None }
    }

    #[tokio::test]
    async fn a_job_is_watched_to_its_end() {
        let jobs = Jobs::new(EventLog::default());
        let job = jobs.begin(JobKind::GarbageCollection, true).unwrap();
        let id = job.view().id;
        let mut watch = jobs.watch(id).unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap().state, JobState::Running);
        job.add(vec![path("a"), path("b")], 5);
        job.progress(0.5, "half");
        job.progress(0.2, "never backwards");
        let seen = watch.next().await.unwrap().unwrap();
        assert_eq!((seen.paths, seen.bytes, seen.progress), (2, 5, 0.5));
        job.end(JobOutcome::Done("all".into()));
        let seen = watch.next().await.unwrap().unwrap();
        assert_eq!((seen.state, seen.progress, seen.message.as_str()), (JobState::Done, 1.0, "all"));
        assert!(watch.next().await.is_none());
        assert_eq!(jobs.paths(id, 1, 10).unwrap(), [path("b")]);
        assert_eq!(jobs.paths(99, 0, 1).unwrap_err().kind, ErrorKind::NoSuchJob);
        assert!(!jobs.cancel(id).unwrap());
    }

    #[test]
    fn one_of_a_kind_at_a_time_and_the_old_ones_go() {
        let jobs = Jobs::new(EventLog::default());
        let first = jobs.begin(JobKind::Prefetch, false).unwrap();
        assert_eq!(jobs.begin(JobKind::Prefetch, false).err().unwrap().kind, ErrorKind::Busy);
        assert!(jobs.cancel(first.view().id).unwrap() && first.cancelled().is_cancelled());
        drop(first);
        assert_eq!(jobs.get(1).unwrap().state, JobState::Failed, "dropped without an end");
        for _ in 0..2 * JOBS_KEPT {
            jobs.begin(JobKind::Prefetch, false).unwrap().end(JobOutcome::Cancelled);
        }
        assert_eq!(jobs.list().len(), JOBS_KEPT + 1);
        assert_eq!(jobs.running(), 0);
        assert_eq!(jobs.get(1).unwrap_err().kind, ErrorKind::NoSuchJob);
        jobs.close();
        assert_eq!(jobs.begin(JobKind::Prefetch, false).err().unwrap().kind, ErrorKind::Draining);
    }
}
