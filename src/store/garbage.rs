//! Collecting the garbage of the Nix store, by the Nix daemon.
//!
//! Nix decides what is dead: what no root leads to, no running program uses, and nobody holds as a temp root, which what we
//! are sending is. What of it goes is decided here, when not all of it shall: those that refer to others before them, the
//! oldest first.

mod plan;
mod types;

pub use types::{Garbage, GarbageOptions, GarbagePath, GarbageProgress, PROTECTED_MAX};

use super::daemon::{Collection, Message, RootKeeper};
use super::{Store, StoreError};
use crate::nix::{StoreDir, StorePath};
use plan::{Dead, Plan, Record, plan};
use std::collections::{HashMap, HashSet};
use std::time::SystemTime;
use tokio_util::sync::CancellationToken;

/// How many paths one request names. For each request the daemon looks for all roots and at all of its `.links`, which
/// takes from 10 ms to many seconds: so not few.
const BATCH_MAX: usize = 4096;
/// How many times in a row somebody may begin to use what was dead before we give up.
const REFUSALS_MAX: u32 = 8;

type Tell<'a> = &'a mut (dyn FnMut(GarbageProgress) + Send);

impl Store {
    /// Collects garbage through the Nix daemon, or names it.
    ///
    /// What is pinned, rooted, in use, or being sent stays: Nix sees to that, in the moment of deleting.
    ///
    /// # Errors
    /// The daemon cannot be reached, refuses, or ends in the middle; `progress` has heard of what was deleted by then.
    pub async fn garbage(
        &self,
        options: &GarbageOptions,
        mut progress: impl FnMut(GarbageProgress) + Send,
        cancel: &CancellationToken,
    ) -> Result<Garbage, StoreError> {
        let mut work = Work { done: Garbage::default(), open: 0, sizes: HashMap::new(), tell: &mut progress };
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => None,
            result = self.collect(options, &mut work) => Some(result),
        };
        let Work { mut done, open, .. } = work;
        match ended {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(error.needs_daemon("collecting garbage")),
            None => {
                done.cancelled = true;
                done.bytes = done.bytes.saturating_add(open);
            }
        }
        Ok(done)
    }

    async fn collect(&self, options: &GarbageOptions, work: &mut Work<'_>) -> Result<(), StoreError> {
        let Some(guard) = self.guard(&options.protected).await? else {
            return self.collect_guarded(options, work).await;
        };
        tokio::select! {
            biased;
            // Without it the protected paths are not protected any more.
            source = guard.ended() => Err(StoreError::DaemonIo { socket: self.0.daemon.socket().to_owned(), source }),
            result = self.collect_guarded(options, work) => result,
        }
    }

    /// Makes `paths` temp roots.
    async fn guard(&self, paths: &[StorePath]) -> Result<Option<RootKeeper>, StoreError> {
        if paths.len() > PROTECTED_MAX {
            let what = "paths to protect from a garbage collection".to_owned();
            return Err(StoreError::Limit { what, limit: PROTECTED_MAX as u64 });
        }
        if paths.is_empty() {
            return Ok(None);
        }
        let mut keeper = self.0.daemon.root_keeper().await?;
        for path in paths {
            self.0.daemon.add_temp_root(&mut keeper, path).await?;
        }
        Ok(Some(keeper))
    }

    async fn collect_guarded(&self, options: &GarbageOptions, work: &mut Work<'_>) -> Result<(), StoreError> {
        let plan = plan(&self.describe(self.dead().await?).await?, options, SystemTime::now());
        let bytes = plan.needed().iter().filter_map(|dead| dead.size).fold(0, u64::saturating_add);
        (work.tell)(GarbageProgress::Planned { paths: plan.needed as u64, bytes });
        if options.dry_run {
            work.done = Garbage { paths: plan.needed().to_vec(), bytes, cancelled: false };
            return Ok(());
        }
        let sizes = plan.paths.iter().filter_map(|dead| Some((dead.path.clone(), dead.size?)));
        work.sizes = sizes.collect();
        if options.max_freed.is_none() && options.older_than.is_none() {
            // In one request, which also clears away what has no name.
            return self.delete(Collection::All, work).await;
        }
        self.delete_some(plan, options.max_freed.unwrap_or_default(), work).await
    }

    /// What is dead now.
    async fn dead(&self) -> Result<Vec<StorePath>, StoreError> {
        Ok(self.0.daemon.collect_garbage(Collection::Find, &mut |_| ()).await?.paths)
    }

    /// Adds what the store knows about them.
    async fn describe(&self, paths: Vec<StorePath>) -> Result<Vec<Dead>, StoreError> {
        let mut dead = Vec::with_capacity(paths.len());
        for path in paths {
            let record = match self.valid(&path).await {
                Ok(Some(valid)) => Some(Record {
                    nar_size: valid.info.nar_size,
                    registration_time: valid.registration_time,
                    references: valid.info.references.clone(),
                    deriver: valid.info.deriver.clone(),
                }),
                // A record that cannot be read says nothing, and Nix deletes the path all the same.
                Ok(None) | Err(StoreError::Record { .. }) => None,
                Err(error) => return Err(error),
            };
            dead.push(Dead { path, record });
        }
        Ok(dead)
    }

    /// Deletes what `plan` needs, and more of it until `enough` bytes are free.
    async fn delete_some(&self, plan: Plan, enough: u64, work: &mut Work<'_>) -> Result<(), StoreError> {
        let Plan { mut paths, mut needed } = plan;
        let (mut next, mut refusals) = (0, 0);
        while next < needed || (next < paths.len() && work.done.bytes < enough) {
            let end = if next < needed {
                needed.min(next + BATCH_MAX)
            } else {
                // The sizes of NARs promised more than was freed.
                next + batch(&paths[next..], enough.saturating_sub(work.done.bytes))
            };
            let names: Vec<StorePath> = paths[next..end].iter().map(|dead| dead.path.clone()).collect();
            match self.delete(Collection::These(&names), work).await {
                Ok(()) => {
                    next = end;
                    refusals = 0;
                }
                Err(StoreError::Refused(_)) if refusals < REFUSALS_MAX => {
                    // Somebody began to use one of them.
                    refusals += 1;
                    let dead: HashSet<StorePath> = self.dead().await?.into_iter().collect();
                    let before = paths.len();
                    let needed_before = paths[next..needed.max(next)].len();
                    let still_needed = paths[next..needed.max(next)].iter().filter(|path| dead.contains(&path.path));
                    needed -= needed_before - still_needed.count();
                    let mut number = 0;
                    paths.retain(|path| {
                        number += 1;
                        number <= next || dead.contains(&path.path)
                    });
                    log::debug!(paths = before - paths.len(); "paths that were dead are gone or in use again");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn delete(&self, collection: Collection<'_>, work: &mut Work<'_>) -> Result<(), StoreError> {
        let mut told = HashSet::new();
        let dir = self.0.dir.clone();
        let mut tell = |message| {
            if let Message::Line(line) = message
                && let Some(path) = deleted(&dir, &line)
                && told.insert(path.clone())
            {
                work.deleted(path);
            }
        };
        let result = self.0.daemon.collect_garbage(collection, &mut tell).await;
        match result {
            Ok(collected) => {
                // A daemon that says less while it is at it says it now.
                for path in collected.paths {
                    if told.insert(path.clone()) {
                        work.deleted(path);
                    }
                }
                work.done.bytes = work.done.bytes.saturating_add(collected.bytes);
                work.open = 0;
                Ok(())
            }
            Err(error) => {
                work.done.bytes = work.done.bytes.saturating_add(std::mem::take(&mut work.open));
                Err(error)
            }
        }
    }
}

/// A collection that goes on.
struct Work<'a> {
    done: Garbage,
    /// The sizes of the NARs that were deleted in the request that goes on.
    open: u64,
    /// What is known of those in the plan.
    sizes: HashMap<StorePath, u64>,
    tell: Tell<'a>,
}

impl Work<'_> {
    fn deleted(&mut self, path: StorePath) {
        let size = self.sizes.get(&path).copied();
        self.open = self.open.saturating_add(size.unwrap_or_default());
        let path = GarbagePath { path, size };
        self.done.paths.push(path.clone());
        (self.tell)(GarbageProgress::Deleted(path));
    }
}

/// How many of `paths`, from the first, make up `bytes`; at least one.
fn batch(paths: &[GarbagePath], bytes: u64) -> usize {
    let mut sum = 0_u64;
    let within = paths.iter().take(BATCH_MAX).take_while(|path| {
        let goes = sum < bytes;
        sum = sum.saturating_add(path.size.unwrap_or_default());
        goes
    });
    within.count().max(1)
}

/// The path that the daemon says it deletes: `deleting '/nix/store/…'`, since Nix 2.0.
fn deleted(dir: &StoreDir, line: &str) -> Option<StorePath> {
    let rest = line.trim_start().strip_prefix("deleting ")?;
    let path = &rest[rest.find(&format!("{dir}/"))?..];
    let end = path.find(|c: char| c == '\'' || c.is_whitespace() || c.is_control()).unwrap_or(path.len());
    dir.parse(&path[..end]).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_of_a_deletion_is_understood() {
        let dir = StoreDir::default();
        let path = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-a";
        let expected = Some(path.parse().unwrap());
        assert_eq!(deleted(&dir, &format!("deleting '/nix/store/{path}'\n")), expected);
        assert_eq!(deleted(&dir, &format!("deleting '/chroot/nix/store/{path}'")), expected);
        assert_eq!(deleted(&dir, &format!("deleting \u{1b}[35;1m/nix/store/{path}\u{1b}[0m")), expected);
        for line in ["deleting garbage...", "deleting unused links...", "deleting '/nix/store/trash'", ""] {
            assert_eq!(deleted(&dir, line), None, "{line}");
        }
        assert_eq!(deleted(&dir, &format!("keeping '/nix/store/{path}'")), None);
    }
}
