//! The next item of a stream, which is all that is needed of streams here.

use futures_core::Stream;
use std::future::poll_fn;
use std::pin::Pin;

/// The next item of a stream, `None` at its end.
pub(super) async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
}
