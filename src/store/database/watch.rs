//! Word of changes of a database, without asking it: the kernel tells when a file beside it is written to.

use super::Database;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::time::sleep;

/// How often the state of the database is looked at where the kernel does not tell.
const POLL: Duration = Duration::from_secs(1);
/// How long an event is without its name, in bytes.
const HEAD: usize = 16;
/// How many bytes of events are read at once: room for a dozen with the longest names.
const EVENTS: usize = 4096;

/// Moves whenever the database may have changed. Ends when nobody listens any more. Must be called within a tokio runtime.
pub(crate) fn changes(database: &Arc<Database>) -> watch::Receiver<u64> {
    let (sender, receiver) = watch::channel(0);
    let database = Arc::clone(database);
    tokio::spawn(async move {
        tokio::select! {
            () = tell(&database, &sender) => {}
            () = sender.closed() => {}
        }
    });
    receiver
}

async fn tell(database: &Database, sender: &watch::Sender<u64>) {
    let directory = database.file().parent().unwrap_or(Path::new("/"));
    let mut before = database.mark();
    loop {
        if let Err(error) = watch(directory, sender).await {
            log::debug!(reason:% = error; "changes of the store are looked for: {error}");
        }
        // It may not be there yet, or on a file system that tells nothing.
        sleep(POLL).await; // poll
        let now = database.mark();
        if now.is_none() || now != before {
            before = now;
            sender.send_modify(|count| *count += 1);
        }
    }
}

/// Tells of everything that is written in `directory`, until it is gone.
async fn watch(directory: &Path, sender: &watch::Sender<u64>) -> io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
    let gone = AddWatchFlags::IN_DELETE_SELF | AddWatchFlags::IN_MOVE_SELF;
    let written =
        AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVE | AddWatchFlags::IN_DELETE;
    inotify.add_watch(directory, written | gone | AddWatchFlags::IN_ONLYDIR)?;
    // What was written before this was set up.
    sender.send_modify(|count| *count += 1);
    // No pipe; but it is read as one is, by whoever waits until there is something to read.
    let mut inotify = pipe::Receiver::from_owned_fd_unchecked(inotify.into())?;
    let mut events = [0; EVENTS];
    loop {
        let length = inotify.read(&mut events).await?;
        sender.send_modify(|count| *count += 1);
        if masks(&events[..length]).any(|mask| mask.intersects(gone | AddWatchFlags::IN_IGNORED)) {
            return Ok(());
        }
    }
}

/// What happened, of each event: watch, mask, cookie and the length of the name that follows are four bytes each (inotify(7)).
fn masks(mut events: &[u8]) -> impl Iterator<Item = AddWatchFlags> {
    std::iter::from_fn(move || {
        let (head, rest) = events.split_first_chunk::<HEAD>()?;
        let number = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        events = rest.get(usize::try_from(number(12)?).ok()?..)?;
        Some(AddWatchFlags::from_bits_truncate(number(4)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::StoreDir;
    use rusqlite::Connection;

    #[tokio::test]
    async fn what_is_committed_is_told_with_and_without_a_log() {
        for mode in ["wal", "truncate"] {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("db.sqlite");
            let writer = Connection::open(&file).unwrap();
            let _: String = writer.query_row(&format!("pragma journal_mode = {mode}"), [], |row| row.get(0)).unwrap();
            writer.execute_batch("create table t (x)").unwrap();
            let database = Arc::new(Database::new(file, StoreDir::default()));
            let mut changes = changes(&database);
            changes.changed().await.unwrap();
            for number in 0..3 {
                changes.mark_unchanged();
                writer.execute("insert into t values (?1)", [number]).unwrap();
                changes.changed().await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn one_that_comes_later_is_told_of_as_well() {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().join("db");
        let mut changes = changes(&Arc::new(Database::new(place.join("db.sqlite"), StoreDir::default())));
        std::fs::create_dir(&place).unwrap();
        changes.changed().await.unwrap();
        changes.mark_unchanged();
        Connection::open(place.join("db.sqlite")).unwrap().execute_batch("create table t (x)").unwrap();
        changes.changed().await.unwrap();
    }
}
