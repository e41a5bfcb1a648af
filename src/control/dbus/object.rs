//! The object of one of several things: a peer, a key, a job.

use super::access::Callers;
use super::model::{Model, Shown, View};
use std::sync::Arc;
use zbus::OwnedObjectPath;

/// What has an object of its own.
pub(super) trait Item: Shown + Clone + Send + Sync + 'static {
    /// Where its object is.
    fn path(&self) -> OwnedObjectPath;

    /// How it is in a snapshot.
    fn find<'v>(&self, view: &'v View) -> Option<&'v Self>;
}

/// The object of an item.
pub(super) struct Object<T> {
    pub(super) model: Arc<Model>,
    pub(super) callers: Callers,
    /// As it was when the object was made: what it shows in the moment before it goes away.
    pub(super) first: T,
}

impl<T: Item> Object<T> {
    /// Looks at it as it is in the newest snapshot.
    pub(super) fn now<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        self.look(&self.model.view(), look)
    }

    /// The same, for figures that change all the time.
    pub(super) async fn fresh<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        self.look(&*self.model.fresh().await, look)
    }

    fn look<R>(&self, view: &View, look: impl FnOnce(&T) -> R) -> R {
        look(self.first.find(view).unwrap_or(&self.first))
    }
}
