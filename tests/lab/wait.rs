//! Waiting for what another process does, which cannot tell us: short polls under a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How often an outside condition is looked at. Short, because it is the resolution of several measured figures.
const POLL: Duration = Duration::from_millis(5);

/// Asks `ready` until it gives something, and returns it with the time that took.
pub(crate) fn until<T>(
    what: &str,
    limit: Duration,
    mut ready: impl FnMut() -> Result<Option<T>>,
) -> Result<(T, Duration)> {
    let start = Instant::now();
    loop {
        if let Some(value) = ready()? {
            return Ok((value, start.elapsed()));
        }
        if start.elapsed() > limit {
            bail!("waited {limit:?} in vain for: {what}");
        }
        std::thread::sleep(POLL); // poll
    }
}

/// [`until`] for a condition without a value.
pub(crate) fn until_true(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<Duration> {
    until(what, limit, || Ok(ready()?.then_some(()))).map(|((), time)| time)
}

/// Lets time pass during which something must *not* happen, or a condition must persist. Nothing can be awaited there.
pub(crate) fn pass(time: Duration) {
    std::thread::sleep(time); // pace
}
