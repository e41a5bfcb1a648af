//! How fast NARs come: so many bytes a second of all sources together, and of each (`[gateway] download_limit`, `download_limit_per_peer`).
//!
//! Whoever took bytes in pauses for as long as they were worth. What comes meanwhile waits in the kernel, and then at the sender: so a limit needs
//! no queue, and transfers share it as their sources send.

use crate::fetch::source::SourceName;
use crate::resilience::{Rates, occupied};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// From so many sources on it is looked for those of which nothing comes any more.
const SOURCES_KEPT: usize = 256;

/// What all transfers keep to.
pub(crate) struct DownloadLimit(Mutex<State>);

struct State {
    rates: Rates,
    /// Until when the line is taken by what came…
    all: Instant,
    /// … and that to each source.
    each: HashMap<SourceName, Instant>,
}

impl DownloadLimit {
    /// So much.
    pub(crate) fn new(rates: Rates) -> Self {
        Self(Mutex::new(State { rates, all: Instant::now(), each: HashMap::new() }))
    }

    /// So much from now on.
    pub(crate) fn set(&self, rates: Rates) {
        let (mut state, now) = (self.0.lock(), Instant::now());
        *state = State { rates, all: state.all.min(now), each: HashMap::new() };
    }

    /// Notes that `bytes` came from `source`, and says how long to wait before more is taken in.
    pub(crate) fn came(&self, source: &SourceName, bytes: u64) -> Duration {
        let (mut state, now) = (self.0.lock(), Instant::now());
        let Rates { all, each } = state.rates;
        if bytes == 0 || (all, each) == (0, 0) {
            return Duration::ZERO;
        }
        state.all = occupied(state.all, bytes, all, now);
        let mut until = state.all;
        if each != 0 {
            if state.each.len() >= SOURCES_KEPT {
                state.each.retain(|_, free| *free > now);
            }
            let free = state.each.entry(source.clone()).or_insert(now);
            *free = occupied(*free, bytes, each, now);
            until = until.max(*free);
        }
        until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const MB: u64 = 1_000_000;

    /// What comes in so many seconds of sources that always have more, in pieces.
    async fn comes(limit: &DownloadLimit, sources: &[SourceName], seconds: u64) -> Vec<u64> {
        let begun = Instant::now();
        let mut came = vec![(0, begun); sources.len()];
        while begun.elapsed() < Duration::from_secs(seconds) {
            for (source, (bytes, next)) in sources.iter().zip(&mut came) {
                if *next <= Instant::now() {
                    *bytes += MB / 20;
                    *next = Instant::now() + limit.came(source, MB / 20);
                }
            }
            advance(Duration::from_millis(1)).await;
        }
        came.into_iter().map(|(bytes, _)| bytes).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn all_together_and_each_keep_to_their_limits() {
        let sources: Vec<SourceName> =
            (0..3).map(|number| SourceName::Upstream(format!("cache-{number}.example.org"))).collect();
        let limit = DownloadLimit::new(Rates { all: 4 * MB, each: 0 });
        let all: u64 = comes(&limit, &sources, 20).await.iter().sum();
        assert!((79 * MB..=82 * MB).contains(&all), "{all}");
        limit.set(Rates { all: 0, each: MB });
        for came in comes(&limit, &sources, 20).await {
            assert!((19 * MB..=21 * MB).contains(&came), "{came}");
        }
        limit.set(Rates::default());
        assert_eq!(limit.came(&sources[0], 1 << 40), Duration::ZERO);
    }
}
