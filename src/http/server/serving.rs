//! A socket that is served: what all its connections share.

use super::listener::Listener;
use super::places::Places;
use super::request_rates::RequestRates;
use std::sync::Arc;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What all connections of a socket share.
pub(super) struct Serving<H> {
    pub(super) listener: Arc<Listener<H>>,
    /// So many requests are answered at once that share their connection with others.
    pub(super) turns: Semaphore,
    pub(super) tasks: TaskTracker,
    pub(super) places: Arc<Places>,
    /// Room for those who wait for a place.
    pub(super) waiting_room: Arc<Semaphore>,
    /// Told when a connection ended.
    pub(super) ended: Notify,
    pub(super) stop: CancellationToken,
    pub(super) requests: RequestRates,
}
