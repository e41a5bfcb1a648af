//! `peernixctl jobs`, and how all that runs as a job ends.

use crate::cli::error::{Doing as _, Done, VerbError};
use crate::cli::output::{Cell, Paint, Screen, Table, count, facts, progress::doing, size, tame};
use crate::cli::store_path::base_name;
use crate::control::{Control, Job, JobPath, JobState};
use serde_json::json;

/// How many paths are asked for at once.
const PAGE: u32 = 1000;

/// The arguments of `jobs`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List jobs that run or ended lately (the default)
    List,
    /// Show a job and the paths that it dealt with
    Show(One),
    /// End a job before its time
    Cancel(One),
}

#[derive(Debug, clap::Args)]
struct One {
    /// Its number
    #[arg(value_name = "JOB")]
    job: u64,
}

impl Args {
    /// Whether this changes something, so that somebody may have to authenticate.
    pub(super) const fn changes(&self) -> bool {
        matches!(self.verb, Some(Verb::Cancel(_)))
    }
}

pub(super) async fn run(args: Args, control: &dyn Control, screen: &Screen) -> Done<()> {
    match args.verb.unwrap_or(Verb::List) {
        Verb::List => {
            let jobs = control.jobs().await.doing("list the jobs")?;
            screen.page(&jobs, || table(&jobs, screen))
        }
        Verb::Show(One { job: id }) => {
            let job = control.job(id).await.doing(format!("show job {id}"))?;
            let paths = paths_of(control, id).await?;
            screen.page(&json!({ "job": job, "paths": paths }), || {
                let mut text = details(&job, screen);
                if !paths.is_empty() {
                    text.push('\n');
                    text.push_str(&paths_table(&paths, screen));
                }
                text
            })
        }
        Verb::Cancel(One { job: id }) => {
            let ran = control.cancel_job(id).await.doing(format!("cancel job {id}"))?;
            screen.changed(ran, &format!("Cancelled job {id}."), &format!("Job {id} has ended already."))
        }
    }
}

/// A job was begun and nobody waits for it.
pub(super) fn begun(job: &Job, screen: &Screen) -> Done<()> {
    let id = job.id;
    screen.show(&json!({ "job": job }), || {
        if screen.quiet {
            String::new()
        } else {
            format!("Began job {id}; `peernixctl jobs show {id}` tells how it goes on.\n")
        }
    })
}

/// Shows what a job came to, also one that failed: part of it may be done.
pub(super) async fn ended(
    control: &dyn Control,
    ended: Done<Job>,
    screen: &Screen,
    text: impl FnOnce(&Job, &[JobPath], &Screen) -> String,
) -> Done<()> {
    let (job, failure) = match ended {
        Ok(job) => (job, None),
        Err(VerbError::Job { doing, message, job }) => (Job::clone(&job), Some(VerbError::Job { doing, message, job })),
        Err(other) => return Err(other),
    };
    let paths = paths_of(control, job.id).await.unwrap_or_default();
    // Of what failed before it did anything there is nothing to show.
    let nothing = failure.is_some() && paths.is_empty();
    let text = || if nothing { String::new() } else { text(&job, &paths, screen) };
    screen.page(&json!({ "job": job, "paths": paths }), text)?;
    failure.map_or(Ok(()), Err)
}

async fn paths_of(control: &dyn Control, id: u64) -> Done<Vec<JobPath>> {
    let mut paths = Vec::new();
    loop {
        let more =
            control.job_paths(id, paths.len() as u64, PAGE).await.doing(format!("list the paths of job {id}"))?;
        let last = more.is_empty();
        paths.extend(more);
        if last {
            return Ok(paths);
        }
    }
}

fn paint(state: JobState) -> Paint {
    match state {
        JobState::Running => Paint::Warning,
        JobState::Done => Paint::Good,
        JobState::Failed => Paint::Bad,
        JobState::Cancelled => Paint::Faint,
    }
}

fn percent(progress: f64) -> String {
    format!("{:.0}%", progress.clamp(0.0, 1.0) * 100.0)
}

fn table(jobs: &[Job], screen: &Screen) -> String {
    if jobs.is_empty() {
        return if screen.legend && !screen.quiet { "No jobs.\n".to_owned() } else { String::new() };
    }
    let mut table = Table::new(&[">JOB", "KIND", "STATE", ">DONE", "->PATHS", "->BYTES", "-BEGAN", "~MESSAGE"]);
    for job in jobs {
        let kind = if job.dry_run { format!("{} (dry run)", job.kind) } else { job.kind.to_string() };
        table.row(vec![
            Cell::new(job.id.to_string()),
            Cell::new(kind),
            Cell::new(job.state.as_str()).paint(paint(job.state)),
            Cell::new(percent(job.progress)),
            Cell::new(job.paths.to_string()),
            Cell::new(size(job.bytes)),
            Cell::new(screen.clock.ago(job.start_timestamp)),
            Cell::known(Some(&job.message)),
        ]);
    }
    screen.table(&table, &format!("{} listed.", count(jobs.len() as u64, "job")))
}

fn details(job: &Job, screen: &Screen) -> String {
    let Screen { style, clock, .. } = screen;
    let dry = if job.dry_run { ", dry run" } else { "" };
    let mut lines = vec![
        ("State", format!("{}, {}", style.paint(paint(job.state), job.state.as_str()), percent(job.progress))),
        ("Began", format!("{} ({})", clock.date(job.start_timestamp), clock.ago(job.start_timestamp))),
    ];
    lines.extend(job.end_timestamp.map(|end| ("Ended", format!("{} ({})", clock.date(end), clock.ago(end)))));
    lines.push(("Paths", format!("{}, {}", job.paths, size(job.bytes))));
    if !job.message.is_empty() {
        lines.push(("Message", tame(&job.message)));
    }
    format!("{} job {}: {}{dry}\n{}", style.paint(paint(job.state), "●"), job.id, doing(job.kind), facts(&lines))
}

/// The paths that a job dealt with, the largest first: they are what is looked for.
pub(super) fn paths_table(paths: &[JobPath], screen: &Screen) -> String {
    if paths.is_empty() {
        return String::new();
    }
    let mut sorted: Vec<&JobPath> = paths.iter().collect();
    sorted.sort_by(|a, b| b.size.cmp(&a.size).then_with(|| a.path.cmp(&b.path)));
    // Of what would go there is nothing more to say.
    let dead = paths.iter().all(|path| path.result == "dead");
    let mut table = Table::new(if dead { &[">SIZE", "~PATH"] } else { &[">SIZE", "RESULT", "~PATH"] });
    for path in sorted {
        let name = if screen.full { path.path.as_str() } else { base_name(&path.path) };
        let text = path.reason.as_ref().map_or_else(|| name.to_owned(), |reason| format!("{name}: {reason}"));
        let result = Cell::new(&path.result);
        let result = if path.result == "failed" { result.paint(Paint::Bad) } else { result };
        let cells = [Some(Cell::new(size(path.size))), Some(result).filter(|_| !dead), Some(Cell::new(text))];
        table.row(cells.into_iter().flatten().collect());
    }
    let mut text = screen.table(&table, "");
    if screen.legend {
        text.push('\n');
    }
    text
}
