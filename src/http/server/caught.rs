//! Panics as values: a request that makes the program panic must not take others with it.

use crate::metrics::HttpMetrics;
use std::any::Any;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

/// What a panic left.
pub(super) struct Panic(Box<dyn Any + Send>);

impl Panic {
    /// Counts it, and asks whoever reads the log to report it.
    pub(super) fn note(&self, peer: SocketAddr, metrics: &HttpMetrics) {
        metrics.panics.inc();
        log::error!(peer:%, reason = self.text(); "defect: a request made the program panic; please report it");
    }

    fn text(&self) -> &str {
        let text = self.0.downcast_ref::<&str>().copied();
        text.or_else(|| self.0.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
    }
}

/// Polls `future` and turns its panic into a value. What a panic may leave half done is for the caller to drop: the future is
/// not to be polled again.
pub(super) fn poll<F: Future>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Result<F::Output, Panic>> {
    match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
        Ok(polled) => polled.map(Ok),
        Err(panic) => Poll::Ready(Err(Panic(panic))),
    }
}

/// What comes of `future`, its panic as a value. Pinned by who calls: an argument of an async function is kept twice in it, and there
/// are a thousand connections.
pub(super) async fn caught<F: Future>(mut future: Pin<&mut F>) -> Result<F::Output, Panic> {
    poll_fn(|cx| poll(future.as_mut(), cx)).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::panic_any;
    use std::pin::pin;

    #[tokio::test]
    async fn a_panic_is_a_value_and_all_else_is_as_it_was() {
        assert_eq!(caught(pin!(async { 7 })).await.ok(), Some(7));
        let later = pin!(async {
            tokio::task::yield_now().await;
            panic!("after a {}", "pause")
        });
        assert_eq!(caught(later).await.unwrap_err().text(), "after a pause");
        assert_eq!(caught(pin!(async { panic!("at once") })).await.unwrap_err().text(), "at once");
        let panic = caught(pin!(async { panic_any(7) })).await.unwrap_err();
        assert_eq!(panic.text(), "no message");
        let metrics = HttpMetrics::new("gateway", &[]);
        panic.note("127.0.0.1:1".parse().unwrap(), &metrics);
        assert_eq!(metrics.panics.get(), 1);
    }
}
