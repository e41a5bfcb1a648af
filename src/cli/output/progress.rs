//! A job on its way: one line on stderr that is drawn again and again, and what becomes of it on Ctrl-C.

use super::{Screen, complain, count, size, tame};
use crate::cli::error::{Doing as _, Done, VerbError};
use crate::cli::exit;
use crate::control::{Control, Job, JobKind, JobState};
use std::io::{self, Write as _};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// How wide the bar is.
const BAR: usize = 20;
/// The line is drawn at most this often.
const REDRAW: Duration = Duration::from_millis(100);
/// Back to the first column, and away with what stands there.
const CLEAR: &str = "\r\u{1b}[K";

/// What `peernixctl` calls a kind of job: `Failed to …`.
pub(crate) const fn doing(kind: JobKind) -> &'static str {
    match kind {
        JobKind::GarbageCollection => "collect garbage",
        JobKind::Prefetch => "fetch paths",
    }
}

/// Waits for the end of a job. On Ctrl-C only the waiting ends, as with `systemctl start`: the work is the service's.
pub(crate) async fn until_done(control: &dyn Control, screen: &Screen, job: Job) -> Done<Job> {
    let what = doing(job.kind);
    let interrupted = |error: io::Error| VerbError::other("wait for a signal", error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(interrupted)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(interrupted)?;
    let mut job = job;
    let mut line = Line { screen, drawn: None };
    if job.state == JobState::Running {
        let mut feed = control.watch_job(job.id).await.doing(what)?;
        loop {
            line.draw(&job);
            let next = tokio::select! {
                next = feed.next() => next,
                _ = interrupt.recv() => return Err(left(line, job.id)),
                _ = terminate.recv() => return Err(left(line, job.id)),
            };
            // To the very end: a connection that carries only one thing at a time is free again then.
            match next {
                Some(next) => job = next.doing(what)?,
                None => break,
            }
        }
    }
    drop(line);
    match job.state {
        JobState::Done => Ok(job),
        JobState::Failed => Err(VerbError::Job { doing: what, message: job.message.clone(), job: Box::new(job) }),
        JobState::Cancelled => {
            Err(VerbError::Job { doing: what, message: format!("job {} was cancelled", job.id), job: Box::new(job) })
        }
        JobState::Running => {
            Err(VerbError::Job { doing: what, message: "the service went away".to_owned(), job: Box::new(job) })
        }
    }
}

fn left(line: Line<'_>, id: u64) -> VerbError {
    drop(line);
    complain(&format!(
        "Job {id} goes on. `peernixctl jobs show {id}` tells how; `peernixctl jobs cancel {id}` ends it."
    ));
    VerbError::Ended(exit::INTERRUPTED)
}

/// The line; gone when it is dropped.
struct Line<'a> {
    screen: &'a Screen,
    drawn: Option<Instant>,
}

impl Line<'_> {
    fn draw(&mut self, job: &Job) {
        if !self.screen.progress || self.screen.quiet || self.drawn.is_some_and(|drawn| drawn.elapsed() < REDRAW) {
            return;
        }
        self.drawn = Some(Instant::now());
        let mut stderr = io::stderr().lock();
        let _ = write!(stderr, "{CLEAR}{}", picture(job)).and_then(|()| stderr.flush());
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.drawn.is_some() {
            let mut stderr = io::stderr().lock();
            let _ = write!(stderr, "{CLEAR}").and_then(|()| stderr.flush());
        }
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100")]
fn picture(job: &Job) -> String {
    let progress = if job.progress.is_finite() { job.progress.clamp(0.0, 1.0) } else { 0.0 };
    let (percent, filled) = ((progress * 100.0) as usize, (progress * BAR as f64) as usize);
    let mut text =
        format!("[{}{}] {percent:>3}%  {}", "█".repeat(filled), "░".repeat(BAR - filled), count(job.paths, "path"));
    if job.bytes > 0 {
        text.push_str(&format!(", {}", size(job.bytes)));
    }
    // A line that wraps cannot be drawn over.
    text.push_str(&format!("  {}", tame(&job.message)));
    text.chars().take(79).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_is_one_line() {
        let mut job: Job = serde_json::from_str(
            r#"{"id":1,"kind":"prefetch","state":"running","dryRun":false,"progress":0.5,"message":"a\nb","paths":3,
                "bytes":1048576,"startTimestamp":1}"#,
        )
        .unwrap();
        assert_eq!(picture(&job), "[██████████░░░░░░░░░░]  50%  3 paths, 1.0 MiB  a\u{fffd}b");
        job.progress = f64::NAN;
        assert!(picture(&job).starts_with("[░░░░"));
        job.message = "x".repeat(500);
        assert!(picture(&job).chars().count() < 80);
    }
}
