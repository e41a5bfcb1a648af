//! Jobs: those methods of `org.peernix.Manager`, and jobs that are told about as they go on.

use super::answer::{Answer, Answered, Part, changed, field, list, many, one};
use crate::control::varlink::protocol::{Call, Refusal};
use crate::control::{Control, Feed, Job, JobPath, JobState, JobUpdates, Outcome};
use async_trait::async_trait;
use serde_json::json;
use std::collections::VecDeque;
use std::sync::Arc;

/// How many paths of a job are asked for at once.
const PAGE: u32 = 512;

pub(super) async fn answer(call: &Call, control: &Arc<dyn Control>) -> Answered {
    match call.method.as_str() {
        "ListJobs" => match call.parameters(&["id"])?.optional("id")? {
            Some(id) => one("job", control.job(id).await?),
            None => list(call, "job", control.jobs().await),
        },
        "ListJobPaths" => {
            many(call)?;
            let parameters = call.parameters(&["id", "offset", "limit"])?;
            let id = parameters.required("id")?;
            let offset = parameters.optional("offset")?.unwrap_or_default();
            let limit = parameters.optional("limit")?.unwrap_or(u64::MAX);
            Ok(Answer::Feed(Box::new(Paths::new(control, id, offset, limit).await?)))
        }
        "WatchJob" => {
            many(call)?;
            let id = call.parameters(&["id"])?.required("id")?;
            Ok(Answer::Feed(Box::new(Watching(control.watch_job(id).await?))))
        }
        "CancelJob" => {
            let id = call.parameters(&["id"])?.required("id")?;
            changed(control.cancel_job(id).await.map_err(Refusal::from))
        }
        _ => Err(Refusal::MethodNotFound),
    }
}

/// The answer to who began a job: the job, and to who wants to know more what becomes of it.
pub(super) async fn begun(call: &Call, control: &Arc<dyn Control>, job: Job) -> Answered {
    if !call.more {
        return one("job", job);
    }
    let progress = control.watch_job(job.id).await?;
    let control = Arc::clone(control);
    Ok(Answer::Feed(Box::new(Following {
        control,
        id: job.id,
        progress,
        begun: Some(job),
        told: 0,
        paths: VecDeque::new(),
        latest: None,
    })))
}

/// A job after every change.
struct Watching(JobUpdates);

#[async_trait]
impl Feed<Part> for Watching {
    async fn next(&mut self) -> Option<Outcome<Part>> {
        let part = |job: Job| Part { last: job.state != JobState::Running, parameters: field("job", job) };
        Some(self.0.next().await?.map(part))
    }
}

/// Paths of a job, read in pages, so that no more of them are in memory than a page.
struct Paths {
    control: Arc<dyn Control>,
    id: u64,
    offset: u64,
    left: u64,
    page: VecDeque<JobPath>,
    told: bool,
}

impl Paths {
    async fn new(control: &Arc<dyn Control>, id: u64, offset: u64, limit: u64) -> Outcome<Self> {
        let mut paths =
            Self { control: Arc::clone(control), id, offset, left: limit, page: VecDeque::new(), told: false };
        paths.turn().await?;
        Ok(paths)
    }

    /// Reads the next page.
    async fn turn(&mut self) -> Outcome<()> {
        let size = u32::try_from(self.left).unwrap_or(PAGE).min(PAGE);
        self.page = self.control.job_paths(self.id, self.offset, size).await?.into();
        self.offset = self.offset.saturating_add(self.page.len() as u64);
        self.left -= (self.page.len() as u64).min(self.left);
        Ok(())
    }
}

#[async_trait]
impl Feed<Part> for Paths {
    async fn next(&mut self) -> Option<Outcome<Part>> {
        let Some(path) = self.page.pop_front() else {
            let nothing = Part { parameters: json!({}), last: true };
            return (!self.told).then_some(Ok(nothing));
        };
        self.told = true;
        if self.page.is_empty()
            && let Err(error) = self.turn().await
        {
            return Some(Err(error));
        }
        Some(Ok(Part { parameters: field("path", path), last: self.page.is_empty() }))
    }
}

/// A job from its beginning to its end: the job, then its paths and how far it is, then the job.
struct Following {
    control: Arc<dyn Control>,
    id: u64,
    progress: JobUpdates,
    begun: Option<Job>,
    /// How many of its paths were read.
    told: u64,
    paths: VecDeque<JobPath>,
    /// How it was when it last changed, as long as not everything was told about that.
    latest: Option<Job>,
}

#[async_trait]
impl Feed<Part> for Following {
    async fn next(&mut self) -> Option<Outcome<Part>> {
        if let Some(job) = self.begun.take() {
            return Some(Ok(Part { parameters: field("job", job), last: false }));
        }
        loop {
            if let Some(path) = self.paths.pop_front() {
                return Some(Ok(Part { parameters: field("path", path), last: false }));
            }
            let Some(job) = &self.latest else {
                match self.progress.next().await? {
                    Ok(job) => self.latest = Some(job),
                    Err(error) => return Some(Err(error)),
                }
                continue;
            };
            if self.told < job.paths {
                match self.control.job_paths(self.id, self.told, PAGE).await {
                    Ok(paths) if !paths.is_empty() => {
                        self.told += paths.len() as u64;
                        self.paths = paths.into();
                        continue;
                    }
                    // The job counts more than it remembers.
                    Ok(_) => {}
                    Err(error) => return Some(Err(error)),
                }
            }
            let job = self.latest.take()?;
            let last = job.state != JobState::Running;
            let parameters =
                if last { field("job", job) } else { json!({ "progress": job.progress, "message": job.message }) };
            return Some(Ok(Part { parameters, last }));
        }
    }
}
