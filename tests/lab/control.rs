//! The control of a `peernixd` on a host, as an administrator there has it: over the Varlink socket in its runtime directory.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use peernix::control::varlink::Client;
use peernix::control::{Control, ControlError, Job, JobPath, JobState};

use crate::peer::Peernixd;

/// How long a job or a call may take.
const LIMIT: Duration = Duration::from_secs(60);

/// An administrator of one machine.
pub(crate) struct Administrator {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Administrator {
    /// Comes to the service.
    pub(crate) fn of(peernixd: &Peernixd<'_>) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(Client::connect(&peernixd.host.short.join("run")))?;
        Ok(Self { runtime, client })
    }

    /// Has something done.
    pub(crate) fn does<'a, T, F>(&'a self, what: impl FnOnce(&'a Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, ControlError>>,
    {
        let answer = async { tokio::time::timeout(LIMIT, what(&self.client)).await };
        Ok(self.runtime.block_on(answer).context("no answer in time")??)
    }

    /// Waits for the end of a job, which has to be a good one; gives its paths too.
    pub(crate) fn finish(&self, job: &Job) -> Result<(Job, Vec<JobPath>)> {
        let last = self.does(async |client| {
            let mut progress = client.watch_job(job.id).await?;
            let mut last = job.clone();
            while let Some(item) = progress.next().await {
                last = item?;
            }
            Ok(last)
        })?;
        ensure!(last.state == JobState::Done, "job {}: {}: {}", job.id, last.state, last.message);
        let paths = self.does(|client| client.job_paths(job.id, 0, u32::MAX))?;
        Ok((last, paths))
    }
}
