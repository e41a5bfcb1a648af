//! Runs the cases: in namespaces that vanish with the run, each case by itself, timing-sensitive ones alone.

use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cases::{self, Case, Company};
use crate::ctx::Ctx;
use crate::needs;
use crate::process::sh;
use crate::report::{self, Row, Traffic};
use crate::world::World;

/// Says to this program that it is the one inside the run's own namespaces.
const INSIDE: &str = "PEERNIX_LAB_INSIDE";

/// How many cases run at a time, of those that may have others beside them: most of their time is spent waiting.
const JOBS: usize = 4;

/// After this long the run is given up; CI has 20 minutes for everything.
const RUN_LIMIT: Duration = Duration::from_secs(15 * 60);
const LONG_RUN_LIMIT: Duration = Duration::from_secs(90 * 60);

struct Options {
    filters: Vec<String>,
    list: bool,
    long: bool,
    jobs: usize,
    /// What `PEERNIX_LAB_REQUIRE=all` says: a skipped case is a failed one.
    require: bool,
}

impl Options {
    fn read() -> Result<Self> {
        let long = std::env::var_os("PEERNIX_LAB_LONG").is_some();
        let require = std::env::var("PEERNIX_LAB_REQUIRE").is_ok_and(|value| value == "all");
        let mut options = Self { filters: vec![], list: false, long, jobs: JOBS, require };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--list" => options.list = true,
                "--long" => options.long = true,
                "--jobs" => options.jobs = args.next().context("--jobs N")?.parse().context("--jobs N")?,
                // cargo hands the options of the usual test harness to every test program.
                option if option.starts_with('-') => {}
                filter => options.filters.push(filter.to_owned()),
            }
        }
        Ok(options)
    }

    fn wants(&self, case: &Case) -> bool {
        let named = self.filters.iter().any(|filter| case.name.contains(filter.as_str()));
        (named || self.filters.is_empty()) && (self.long || !case.long_only)
    }
}

/// How a case ended.
enum Outcome {
    Passed,
    Skipped(String),
    Failed(String),
}

/// Runs everything that was asked for; whether all is well.
pub(crate) fn main() -> Result<bool> {
    let options = Options::read()?;
    if options.list {
        for case in cases::all().iter().filter(|case| options.wants(case)) {
            println!("{}", case.name);
        }
        return Ok(true);
    }
    let lab = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("lab");
    fs::create_dir_all(&lab)?;
    if std::env::var_os(INSIDE).is_none() {
        if let Some(reason) = needs::lacking_basics() {
            return skip_all(&options, &lab, &reason);
        }
        allow_neighbours();
        return Err(go_inside().into());
    }
    // Taken inside, because the lock has to live as long as the run.
    let lock = File::create(lab.join("lock"))?;
    if lock.try_lock().is_err() {
        bail!("another run of the lab uses {lab:?}");
    }
    prepare()?;
    run(&options, &lab)
}

/// Has the kernel keep so many addresses of neighbours: all namespaces share one table, and fifty hosts fill that of a desktop. It can be
/// set outside of the run's namespaces only, and only where the machine lets us; where not, hosts of the largest case hear of each other late.
fn allow_neighbours() {
    const NEIGHBOURS: u32 = 8192;
    for family in ["ipv4", "ipv6"] {
        let file = format!("/proc/sys/net/{family}/neigh/default/gc_thresh3");
        let now = fs::read_to_string(&file).ok().and_then(|now| now.trim().parse::<u32>().ok());
        if now.is_some_and(|now| now < NEIGHBOURS) {
            let _ = fs::write(&file, NEIGHBOURS.to_string());
        }
    }
}

/// Becomes a program in new PID, mount and network namespaces. The lab is process 1 there: however it ends, the kernel ends
/// every program of every host with it, and no namespace, mount or cable is left over.
fn go_inside() -> std::io::Error {
    // cargo killed: `unshare` is killed, and so is what it started.
    if let Err(error) = nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL) {
        return error.into();
    }
    let program = match std::env::current_exe() {
        Ok(program) => program,
        Err(error) => return error,
    };
    Command::new("unshare")
        .args(["--pid", "--fork", "--mount", "--net", "--kill-child", "--mount-proc", "--propagation", "private"])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec()
}

fn prepare() -> Result<()> {
    sh("mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/lab && ip link set lo up
        ip netns add first && ip netns del first")?;
    // Process 1 has no default action for signals.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let _ = tokio::signal::ctrl_c().await;
            eprintln!("lab: interrupted");
            std::process::exit(130);
        });
    });
    Ok(())
}

fn skip_all(options: &Options, lab: &Path, reason: &str) -> Result<bool> {
    let cases = cases::all();
    let skipped: Vec<&Case> = cases.iter().filter(|case| options.wants(case)).collect();
    for case in &skipped {
        println!("SKIPPED {}: {reason}", case.name);
    }
    let rows: Vec<Row> = skipped.iter().map(|case| Row::skipped(&case.name, reason)).collect();
    report::write(&lab.join("report.json"), &rows)?;
    println!("\nSKIPPED, all of it: {reason}");
    println!("0 passed, 0 failed, {} skipped", skipped.len());
    Ok(!options.require || skipped.is_empty())
}

/// What all cases of a run share.
struct Shared {
    lab: PathBuf,
    peernixd: PathBuf,
    long: bool,
    world: Arc<World>,
    traffic: Arc<Traffic>,
    done: Mutex<(Vec<Row>, [usize; 3])>,
}

fn run(options: &Options, lab: &Path) -> Result<bool> {
    let start = Instant::now();
    let _ = fs::remove_dir_all(lab.join("tmp"));
    let _ = fs::remove_dir_all(lab.join("logs"));
    let peernixd = std::env::var_os("PEERNIX_LAB_PEERNIXD")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_peernixd")), PathBuf::from);
    let shared = Arc::new(Shared {
        lab: lab.to_owned(),
        peernixd,
        long: options.long,
        world: Arc::new(World::new(lab.join("stores"))),
        traffic: Arc::new(Traffic::default()),
        done: Mutex::default(),
    });
    let wanted = || cases::all().into_iter().enumerate().filter(|(_, case)| options.wants(case));
    let limit = start + if options.long { LONG_RUN_LIMIT } else { RUN_LIMIT };
    for (company, hands) in [(Company::Many, options.jobs), (Company::One, 2), (Company::None, 1)] {
        let mut cases: VecDeque<_> = wanted().filter(|(_, case)| case.company == company).collect();
        cases.make_contiguous().sort_by_key(|(_, case)| !case.early);
        work(&shared, cases, hands.clamp(1, options.jobs.max(1)), limit);
    }
    judge_traffic(&shared);
    let done = shared.done.lock();
    let (rows, [passed, failed, skipped]) = &*done;
    let file = lab.join("report.json");
    report::write(&file, rows)?;
    println!("\nfigures: {}   time: {:.0} s", file.display(), start.elapsed().as_secs_f64());
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    Ok(*failed == 0 && (!options.require || *skipped == 0))
}

/// Works through the cases with so many hands.
fn work(shared: &Arc<Shared>, cases: VecDeque<(usize, Case)>, hands: usize, limit: Instant) {
    let queue = Mutex::new(cases);
    std::thread::scope(|scope| {
        for _ in 0..hands {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().pop_front();
                    let Some((number, case)) = next else { break };
                    one(shared, number, case, limit);
                }
            });
        }
    });
}

fn one(shared: &Arc<Shared>, number: usize, case: Case, run_limit: Instant) {
    let start = Instant::now();
    let name = case.name.clone();
    if let Some(reason) = case.needs.iter().find_map(|need| need.lacking()) {
        return finish(shared, &name, Outcome::Skipped(reason), vec![], start, Path::new(""));
    }
    if Instant::now() > run_limit {
        let late = Outcome::Failed("not run: the whole run took too long".into());
        return finish(shared, &name, late, vec![], start, Path::new(""));
    }
    let file_name = name.replace('/', "-");
    let logs = shared.lab.join("logs").join(&file_name);
    let tmp = shared.lab.join("tmp").join(&file_name);
    let made = fs::create_dir_all(&logs).and_then(|()| fs::create_dir_all(&tmp));
    if let Err(error) = made {
        return finish(shared, &name, Outcome::Failed(error.to_string()), vec![], start, &logs);
    }
    let ctx = Arc::new(Ctx {
        name: name.clone(),
        number,
        logs: logs.clone(),
        tmp: tmp.clone(),
        peernixd: shared.peernixd.clone(),
        long: shared.long,
        world: Arc::clone(&shared.world),
        traffic: Arc::clone(&shared.traffic),
        rows: Mutex::default(),
    });
    let (send, receive) = mpsc::channel();
    let inside = Arc::clone(&ctx);
    let limit = case.limit;
    let thread = std::thread::spawn(move || {
        let result = (case.run)(&inside);
        let _ = send.send(result);
    });
    let outcome = match receive.recv_timeout(limit) {
        Ok(Ok(())) => match ctx.rows().iter().filter(|row| !row.ok).count() {
            0 => Outcome::Passed,
            bad => Outcome::Failed(format!("{bad} of its figures or checks are not as they have to be")),
        },
        Ok(Err(error)) => {
            Outcome::Failed(error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\n  because: "))
        }
        // Its thread is left to itself: the end of the run ends it.
        Err(RecvTimeoutError::Timeout) => Outcome::Failed(format!("not done after {limit:?}")),
        Err(RecvTimeoutError::Disconnected) => {
            let panic = thread.join().err();
            let text = panic.as_ref().and_then(|any| {
                any.downcast_ref::<String>().map(String::as_str).or_else(|| any.downcast_ref::<&str>().copied())
            });
            Outcome::Failed(format!("panicked: {}", text.unwrap_or("without a message")))
        }
    };
    if matches!(outcome, Outcome::Passed) && std::env::var_os("PEERNIX_LAB_KEEP").is_none() {
        let _ = fs::remove_dir_all(&tmp);
    }
    finish(shared, &name, outcome, ctx.rows(), start, &logs);
}

fn finish(shared: &Shared, name: &str, outcome: Outcome, mut rows: Vec<Row>, start: Instant, logs: &Path) {
    let time = start.elapsed().as_secs_f64();
    let mut done = shared.done.lock();
    match outcome {
        Outcome::Passed => {
            println!("ok      {name}  ({time:.1} s)");
            done.1[0] += 1;
        }
        Outcome::Skipped(reason) => {
            println!("SKIPPED {name}: {reason}");
            done.1[2] += 1;
            rows.push(Row::skipped(name, &reason));
        }
        Outcome::Failed(reason) => {
            println!("FAILED  {name}  ({time:.1} s)\n        {}", reason.replace('\n', "\n        "));
            println!("        logs: {}", logs.display());
            done.1[1] += 1;
            rows.push(Row {
                case: name.into(),
                what: "passed".into(),
                value: reason.into(),
                unit: String::new(),
                limit: None,
                ok: false,
                skipped: None,
            });
        }
    }
    for row in rows.iter().filter(|row| row.skipped.is_none() && row.what != "passed") {
        println!("          {}", row.line());
    }
    done.0.extend(rows);
}

/// The promise that holds over all cases together: Nix gets 200, 206 or 404, and never has to try again.
fn judge_traffic(shared: &Shared) {
    let seen = shared.traffic.seen();
    let total: u64 = seen.statuses.values().sum();
    if total == 0 {
        return;
    }
    let name = "all-traffic";
    let row = |what: &str, value: u64, limit: Option<f64>| Row {
        case: name.into(),
        what: what.into(),
        value: value.into(),
        unit: "answers".into(),
        limit,
        ok: limit.is_none() || value == 0,
        skipped: None,
    };
    let mut rows: Vec<Row> =
        seen.statuses.iter().map(|(status, count)| row(&format!("status {status}"), *count, None)).collect();
    rows.push(row("5xx, 408, 429 or 503", seen.forbidden.len() as u64, Some(0.0)));
    rows.push(row("retries of Nix that no fault explains", seen.retries.iter().map(|r| r.1).sum(), Some(0.0)));
    let outcome = if rows.iter().all(|row| row.ok) {
        Outcome::Passed
    } else {
        Outcome::Failed(format!("forbidden: {:?}\nretries: {:?}", seen.forbidden, seen.retries))
    };
    finish(shared, name, outcome, rows, Instant::now(), &shared.lab.join("logs"));
}
