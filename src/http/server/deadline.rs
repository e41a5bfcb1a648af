//! A timer for a deadline that moves.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};

/// When the timer goes off that has no deadline; it is set anew as soon as there is one.
const NEVER: Duration = Duration::from_secs(24 * 60 * 60);

/// A timer that is rarely set. The deadlines of a connection move with nearly everything that happens, and nearly always away
/// from us: then the timer stays as it is, and finds out when it goes off. So a request costs no change of a timer.
pub(super) struct Deadline(Pin<Box<Sleep>>);

impl Deadline {
    pub(super) fn new() -> Self {
        Self(Box::pin(sleep_until(Instant::now() + NEVER)))
    }

    /// Ready once it is past what is due, which may be something else at each call; tells what was due.
    pub(super) fn poll<T: Copy>(&mut self, due: Option<(Instant, T)>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some((due, _)) = due.filter(|(due, _)| *due < self.0.deadline()) {
            self.0.as_mut().reset(due);
        }
        loop {
            ready!(self.0.as_mut().poll(cx));
            let now = Instant::now();
            match due {
                Some((due, what)) if due <= now => return Poll::Ready(what),
                // It was set for an earlier one.
                Some((due, _)) => self.0.as_mut().reset(due),
                None => self.0.as_mut().reset(now + NEVER),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use tokio::time::{advance, timeout};

    const SECOND: Duration = Duration::from_secs(1);

    /// Polls once, as something happens on a connection whose deadline is `due` then.
    async fn look(deadline: &mut Deadline, due: Option<Instant>) -> bool {
        poll_fn(|cx| Poll::Ready(deadline.poll(due.map(|due| (due, ())), cx).is_ready())).await
    }

    /// How long it takes until it is past `due`, if less than an hour.
    async fn waited(deadline: &mut Deadline, due: Option<Instant>) -> Option<Duration> {
        let begun = Instant::now();
        timeout(3600 * SECOND, poll_fn(|cx| deadline.poll(due.map(|due| (due, ())), cx)))
            .await
            .ok()
            .map(|()| begun.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_set_for_what_is_due_earlier_and_for_nothing_else() {
        let start = Instant::now();
        let mut deadline = Deadline::new();
        let mut set = Vec::new();
        for due in [None, Some(10), Some(20), None, Some(5), Some(30)] {
            assert!(!look(&mut deadline, due.map(|seconds| start + seconds * SECOND)).await);
            set.push((deadline.0.deadline() - start).as_secs());
        }
        assert_eq!(set, [NEVER.as_secs(), 10, 10, 10, 5, 5]);
        advance(7 * SECOND).await;
        assert!(!look(&mut deadline, Some(start + 30 * SECOND)).await, "it went off, but nothing is due");
        assert_eq!(deadline.0.deadline(), start + 30 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn it_wakes_when_something_is_due() {
        let mut deadline = Deadline::new();
        let start = Instant::now();
        assert_eq!(waited(&mut deadline, Some(start + 2 * SECOND)).await.map(|time| time.as_secs()), Some(2));
        assert!(look(&mut deadline, Some(start)).await, "what is past stays past");
        assert_eq!(waited(&mut deadline, None).await, None, "an old setting is forgotten");
        let due = Instant::now() + 3 * SECOND;
        assert!(!look(&mut deadline, Some(due - 2 * SECOND)).await);
        assert_eq!(waited(&mut deadline, Some(due)).await.map(|time| time.as_secs()), Some(3), "it moved away");
    }
}
