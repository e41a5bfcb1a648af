//! A site for tests that says what it is told to say.

use super::directory::{Loss, Renewal, Want};
use super::site::{Granted, Site};
use super::tenure::Tenure;
use crate::fetch::source::Source;
use crate::peers::NodeId;
use async_trait::async_trait;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// What it says to one question.
#[derive(Clone)]
pub(crate) enum Says {
    /// Download it.
    Download,
    /// Stream it from there.
    Follow(NodeId, Arc<dyn Source>),
}

/// How many bytes were there, and who was lost.
type Question = (u64, Vec<(NodeId, Loss)>);

/// Others who say this, one after another, and then that they know nothing.
pub(crate) struct Scripted {
    says: Mutex<VecDeque<Says>>,
    /// What it was asked: how many bytes were there, and who was lost.
    pub(crate) asked: Mutex<Vec<Question>>,
    /// What it was told last of each transfer.
    pub(crate) ended: Mutex<Vec<Renewal>>,
}

impl Scripted {
    pub(crate) fn new(says: impl IntoIterator<Item = Says>) -> Arc<Self> {
        Arc::new(Self {
            says: Mutex::new(says.into_iter().collect()),
            asked: Mutex::default(),
            ended: Mutex::default(),
        })
    }
}

#[async_trait]
impl Site for Scripted {
    fn has_others(&self) -> bool {
        true
    }

    async fn want(&self, want: Want) -> Granted {
        self.asked.lock().push((want.came, want.lost));
        sleep(Duration::from_millis(2)).await; // pace
        match self.says.lock().pop_front() {
            Some(Says::Download) => Granted::Download,
            Some(Says::Follow(id, source)) => Granted::Follow(id, source),
            None => Granted::Alone,
        }
    }

    fn keep(&self, _: &Arc<Tenure>) {}

    fn end(&self, last: Renewal) {
        self.ended.lock().push(last);
    }
}
