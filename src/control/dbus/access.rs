//! Who calls, how much at once, and whether they may.
//!
//! A caller has only so many calls and questions to polkit under way at a time: a question waits for a human, perhaps for
//! minutes, and nothing of the service may wait with it.

use super::errors::CallError;
use super::methods;
use super::polkit::{self, AnswerLimit};
use crate::control::{Action, ErrorKind};
use crate::resilience::{KeyedLimit, Permit};
use zbus::Connection;
use zbus::message::{Flags, Header};

/// Calls of one sender that are under way at once.
const CALLS_PER_SENDER: usize = 32;
/// Questions to polkit on behalf of one sender that are under way at once.
const CHECKS_PER_SENDER: usize = 4;
/// Questions to polkit on behalf of one user, so that nobody takes all of them.
const CHECKS_PER_USER: usize = 16;
/// Questions to polkit on behalf of everybody. With the pings of all subscribers less than what the system bus lets one
/// connection wait for at a time, which is 128 answers.
const CHECKS: usize = 48;

/// Those who have calls under way. A cheap handle: clones are the same.
#[derive(Clone)]
pub(super) struct Callers {
    calls: KeyedLimit<String>,
    checks: KeyedLimit<String>,
    user_checks: KeyedLimit<u32>,
    all_checks: KeyedLimit<()>,
}

/// A question to polkit under way: it counts for its sender, for its user and for everybody.
type Question = (Permit<String>, Permit<u32>, Permit<()>);

impl Default for Callers {
    fn default() -> Self {
        Self {
            calls: KeyedLimit::new(CALLS_PER_SENDER),
            checks: KeyedLimit::new(CHECKS_PER_SENDER),
            user_checks: KeyedLimit::new(CHECKS_PER_USER),
            all_checks: KeyedLimit::new(CHECKS),
        }
    }
}

impl Callers {
    /// Lets a call in, after polkit if its method needs a right. It counts until the answer is dropped.
    pub(super) async fn enter(&self, connection: &Connection, header: &Header<'_>) -> Result<Call, CallError> {
        let call = self.count(header)?;
        let named = header.interface().zip(header.member());
        let method = named.and_then(|(interface, name)| methods::find(interface, name));
        let method = method.ok_or_else(|| CallError::new(ErrorKind::AccessDenied, "nobody may call this"))?;
        for action in method.actions() {
            call.allow(connection, header, action).await?;
        }
        Ok(call)
    }

    /// Lets a call in that asks for its right later.
    pub(super) fn count(&self, header: &Header<'_>) -> Result<Call, CallError> {
        let sender = header.sender().map(ToString::to_string).unwrap_or_default();
        let Some(permit) = self.calls.try_take(sender.clone()) else {
            let message = format!("{CALLS_PER_SENDER} calls of this connection are under way: wait for their answers");
            return Err(CallError::new(ErrorKind::LimitExceeded, message));
        };
        Ok(Call { callers: self.clone(), sender, _permit: permit })
    }

    fn question(&self, sender: &str, user: u32) -> Result<Question, CallError> {
        let question = || {
            let own = self.checks.try_take(sender.to_owned())?;
            Some((own, self.user_checks.try_take(user)?, self.all_checks.try_take(())?))
        };
        let message = "too many questions about what this connection may do are not answered yet";
        question().ok_or_else(|| CallError::new(ErrorKind::LimitExceeded, message))
    }
}

/// A call under way.
pub(super) struct Call {
    callers: Callers,
    sender: String,
    _permit: Permit<String>,
}

impl Call {
    /// Asks whether the caller may do this; an answer may take minutes.
    pub(super) async fn allow(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        action: Action,
    ) -> Result<(), CallError> {
        let interactive = header.primary().flags().contains(Flags::ALLOW_INTERACTIVE_AUTH);
        let limit = if interactive { AnswerLimit::Human } else { AnswerLimit::Rules };
        self.allow_within(connection, header, action, limit).await
    }

    /// The same, for those who cannot wait long.
    pub(super) async fn allow_within(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        action: Action,
        limit: AnswerLimit,
    ) -> Result<(), CallError> {
        let user = polkit::user(connection, header).await?;
        // Root needs no polkit, so that the service can be helped while polkit hangs or others wait for it.
        if user != 0 {
            let _question = self.callers.question(&self.sender, user)?;
            polkit::check(connection, header, action, limit).await?;
        }
        log::info!(user, sender = self.sender.as_str(), action = action.id(); "user {user} may {}", action.id());
        Ok(())
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
        let Callers { calls, checks, user_checks, all_checks } = callers;
        assert_eq!(calls.keys() + checks.keys() + user_checks.keys() + all_checks.keys(), 0);
    }
}
