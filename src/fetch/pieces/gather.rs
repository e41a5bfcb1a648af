//! Who sends a NAR together: those who tell the same table of it.

use super::group::Group;
use super::several::Several;
use super::table::{PIECES_MIN, PieceTable, pieces_of};
use crate::fetch::activity::Trace;
use crate::fetch::blame::{About, Blame};
use crate::fetch::error::SourceError;
use crate::fetch::source::{NarId, Source, SourceId};
use crate::metrics::Metrics;
use crate::nix::PathInfo;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

/// How long tables are waited for: whoever has none yet has to read all of the NAR for it.
const TABLES: Duration = Duration::from_secs(3);
/// How long the others are waited for once most have told the same.
const OTHERS: Duration = Duration::from_millis(200);
/// How long before one that is making its table is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// What others know of a transfer.
pub(crate) struct Notes {
    pub(crate) blame: Arc<Blame>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) trace: Arc<Trace>,
}

/// Whether a NAR is worth it.
pub(crate) fn is_worth_it(size: u64) -> bool {
    size >= PIECES_MIN && pieces_of(size).is_some()
}

/// Asks `sources`, who have the NAR of `info`, for its table. Those who tell the same are one source, `most` of them at most; `None` if no two
/// do, or if as many tell another.
pub(crate) async fn gather(
    sources: Vec<Arc<dyn Source>>,
    info: &PathInfo,
    most: usize,
    notes: Notes,
) -> Option<Several> {
    let (nar, count) = (NarId::from(info), pieces_of(info.nar_size)?);
    let count_asked = sources.len();
    let mut asked: JoinSet<_> = sources.into_iter().map(|source| told(source, nar)).collect();
    let mut groups: Vec<(PieceTable, Vec<Arc<dyn Source>>)> = Vec::new();
    let mut deadline = Instant::now() + TABLES;
    while let Ok(Some(told)) = timeout_at(deadline, asked.join_next()).await {
        // It fails only when the program is being stopped.
        let Ok((source, table)) = told else { continue };
        let table = match table {
            Ok(table) => table,
            Err(error) => {
                notes.blame.blame(source.remote(), About::Nar(&info.path), &error);
                continue;
            }
        };
        match groups.iter_mut().find(|(other, _)| *other == table) {
            Some((_, group)) => group.push(source),
            None => groups.push((table, vec![source])),
        }
        // Not for two that were quicker than all others.
        if groups.iter().any(|(_, group)| group.len() > 1 && group.len() * 2 > count_asked) {
            deadline = deadline.min(Instant::now() + OTHERS);
        }
    }
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.len()));
    let mut groups = groups.into_iter();
    let (table, mut members) = groups.next()?;
    let others: Vec<Vec<_>> = groups.map(|(_, group)| group).collect();
    if members.len() < 2 || others.first().is_some_and(|other| other.len() == members.len()) {
        return None;
    }
    members.truncate(most);
    let SourceId::Peer(first) = members.first()?.remote().id() else { return None };
    let Notes { blame, metrics, trace } = notes;
    let (path, liars) = (info.path.clone(), others.into_iter().flatten().collect());
    Some(Several::new(Group { nar, path, count, table, members, liars, blame, metrics, trace }, first))
}

/// What a source says is the table, waiting while it makes it.
async fn told(source: Arc<dyn Source>, nar: NarId) -> (Arc<dyn Source>, Result<PieceTable, SourceError>) {
    loop {
        match source.table(&nar).await {
            Err(SourceError::Busy) => sleep(AGAIN).await, // poll
            table => return (source, table),
        }
    }
}
