//! Who calls, how much at once, and whether they may.
//!
//! A caller has only so many calls and questions to polkit under way at a time: a question waits for a human, perhaps for
//! minutes, and nothing of the service may wait with it.

use super::errors::Failure;
use super::methods::action_of;
use super::polkit::{self, Patience};
use crate::control::{Action, ErrorKind};
use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;
use std::sync::Arc;
use zbus::Connection;
use zbus::message::{Flags, Header};

/// Calls of one sender that are under way at once.
pub const CALLS_PER_SENDER: usize = 32;
/// Questions to polkit on behalf of one sender that are under way at once.
pub const CHECKS_PER_SENDER: usize = 4;
/// Questions to polkit on behalf of one user, so that nobody takes all of them.
const CHECKS_PER_USER: usize = 16;
/// Questions to polkit on behalf of everybody. With the pings of all subscribers less than what the system bus lets one
/// connection wait for at a time, which is 128 answers.
const CHECKS: usize = 48;

/// Those who have calls under way. A cheap handle: clones are the same.
#[derive(Clone, Default)]
pub(super) struct Callers(Arc<Mutex<HashMap<String, Counts>>>);

#[derive(Default)]
struct Counts {
    calls: usize,
    checks: usize,
    /// The user, once there was a question.
    user: Option<u32>,
}

impl Callers {
    /// Lets a call in, after polkit if its method needs a right. It counts until the answer is dropped.
    pub(super) async fn enter(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        interface: &str,
        method: &str,
    ) -> Result<Call, Failure> {
        let call = self.count(header)?;
        if let Some(action) = action_of(interface, method) {
            call.allow(connection, header, action).await?;
        }
        Ok(call)
    }

    /// Lets a call in that asks for its right later.
    pub(super) fn count(&self, header: &Header<'_>) -> Result<Call, Failure> {
        let sender = header.sender().map(ToString::to_string).unwrap_or_default();
        let mut callers = self.lock();
        let counts = callers.entry(sender.clone()).or_default();
        if counts.calls >= CALLS_PER_SENDER {
            let message = format!("{CALLS_PER_SENDER} calls of this connection are under way: wait for their answers");
            return Err(Failure::new(ErrorKind::LimitExceeded, message));
        }
        counts.calls += 1;
        Ok(Call { callers: self.clone(), sender })
    }

    fn question(&self, sender: &str, user: u32) -> Result<Question, Failure> {
        let mut callers = self.lock();
        let all: usize = callers.values().map(|counts| counts.checks).sum();
        let own = callers.values().filter(|counts| counts.user == Some(user)).map(|counts| counts.checks);
        let own: usize = own.sum();
        let checks = callers.get(sender).map_or(0, |counts| counts.checks);
        if checks >= CHECKS_PER_SENDER || own >= CHECKS_PER_USER || all >= CHECKS {
            let message = "too many questions about what this connection may do are not answered yet";
            return Err(Failure::new(ErrorKind::LimitExceeded, message));
        }
        let counts = callers.entry(sender.to_owned()).or_default();
        counts.checks += 1;
        counts.user = Some(user);
        Ok(Question { callers: self.clone(), sender: sender.to_owned() })
    }

    fn change(&self, sender: &str, change: impl FnOnce(&mut Counts)) {
        let mut callers = self.lock();
        if let Some(counts) = callers.get_mut(sender) {
            change(counts);
            if counts.calls == 0 && counts.checks == 0 {
                callers.remove(sender);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Counts>> {
        self.0.lock()
    }
}

/// A call under way.
pub(super) struct Call {
    callers: Callers,
    sender: String,
}

impl Call {
    /// Asks whether the caller may do this; an answer may take minutes.
    pub(super) async fn allow(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        action: Action,
    ) -> Result<(), Failure> {
        let interactive = header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
        let patience = if interactive { Patience::Human } else { Patience::Rules };
        self.allow_within(connection, header, action, patience).await
    }

    /// The same, for those who cannot wait long.
    pub(super) async fn allow_within(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        action: Action,
        patience: Patience,
    ) -> Result<(), Failure> {
        let user = polkit::user(connection, header).await?;
        // Root needs no polkit, so that the service can be helped while polkit hangs or others wait for it.
        if user != 0 {
            let _question = self.callers.question(&self.sender, user)?;
            polkit::check(connection, header, action, patience).await?;
        }
        log::info!(user, sender = self.sender.as_str(), action = action.id(); "user {user} may {}", action.id());
        Ok(())
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.callers.change(&self.sender, |counts| counts.calls = counts.calls.saturating_sub(1));
    }
}

/// A question to polkit under way.
struct Question {
    callers: Callers,
    sender: String,
}

impl Drop for Question {
    fn drop(&mut self) {
        self.callers.change(&self.sender, |counts| counts.checks = counts.checks.saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zbus::Message;

    #[test]
    fn one_sender_has_only_so_many_calls_and_nothing_stays() {
        let callers = Callers::default();
        let message = |sender: &'static str| Message::method_call("/x", "M").sender(sender).build(&()).unwrap();
        let (flood, other) = (message(":1.1"), message(":1.2"));
        let calls: Vec<Call> = (0..CALLS_PER_SENDER).map(|_| callers.count(&flood.header()).unwrap()).collect();
        let refused = callers.count(&flood.header()).err().unwrap();
        assert_eq!(refused.0.kind, ErrorKind::LimitExceeded);
        assert!(callers.count(&other.header()).is_ok());
        let questions: Vec<Question> = (0..CHECKS_PER_SENDER).map(|_| callers.question(":1.1", 5).unwrap()).collect();
        assert!(callers.question(":1.1", 5).is_err());
        let mut others: Vec<Question> = (2..).map_while(|at| callers.question(&format!(":1.{at}"), 5).ok()).collect();
        assert_eq!(questions.len() + others.len(), CHECKS_PER_USER);
        others.extend((100..).map_while(|at| callers.question(&format!(":1.{at}"), at).ok()));
        assert_eq!(questions.len() + others.len(), CHECKS);
        drop((calls, questions, others));
        assert!(callers.lock().is_empty());
    }
}
