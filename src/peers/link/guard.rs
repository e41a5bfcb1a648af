//! Who keeps an eye on those who come in, and one of them as the share knows it: still welcome or not, and what it took.

use crate::peers::identity::NodeId;
use std::sync::Arc;

/// Knows who is blocked, and is told what is given to whom.
pub trait Guard: Send + Sync {
    /// Why `id` is blocked; `None` if it is not. Takes nanoseconds.
    fn block_reason(&self, id: NodeId) -> Option<String>;

    /// Whether what `id` is being sent is cut off, although it may still ask why. Takes nanoseconds.
    fn is_cut_off(&self, _: NodeId) -> bool {
        false
    }

    /// Notes that `id` was given so many bytes.
    fn took(&self, id: NodeId, bytes: u64);
}

/// Who is at the other end of a connection that our share accepted.
pub struct Visitor {
    id: NodeId,
    guard: Arc<dyn Guard>,
}

impl Visitor {
    pub(super) const fn new(id: NodeId, guard: Arc<dyn Guard>) -> Self {
        Self { id, guard }
    }

    /// Whether the administrator has blocked it by now. Takes nanoseconds.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.guard.block_reason(self.id).is_some()
    }

    /// Whether what it is being sent is cut off: it was blocked, or is a member no more. Takes nanoseconds.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        self.is_blocked() || self.guard.is_cut_off(self.id)
    }

    /// Notes that it was given so many bytes.
    pub fn took(&self, bytes: u64) {
        self.guard.took(self.id, bytes);
    }
}
