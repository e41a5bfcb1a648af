//! Greeting a peer: what we tell it, what it tells us, and whether it is let in.

use super::error::LinkError;
use super::fleet;
use super::hello::{self, Greeting, Hello};
use super::link::{Call, Connection};
use super::membership::Admission;
use super::peer::Peer;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long the first answer on a new connection may take.
pub(super) const FIRST_ANSWER_LIMIT: Duration = Duration::from_secs(3);
/// How long a member may take to tell what it knows of the fleet.
const DOCUMENT_LIMIT: Duration = Duration::from_secs(5);
/// When one that had nothing to tell is asked again.
const HEARD_AGAIN: Duration = Duration::from_secs(60);

impl Peer {
    /// Greets, and tells what the peer should know of its own store. Where only members of a fleet are let in, it has to be one.
    ///
    /// # Errors
    /// It does not answer, does not let us in, or is not let in.
    pub(super) async fn greet(
        &self,
        connection: &mut Connection,
        limit: Duration,
    ) -> Result<(Hello, Duration), LinkError> {
        let damaged = self.record().barred.untold();
        let greeting = Greeting { damaged, ..self.notices.greeting.read().clone() };
        let (hello, latency) = connection.greet(&greeting, limit).await?;
        if !greeting.damaged.is_empty() {
            let told = greeting.damaged.len().min(hello::DAMAGED_MAX);
            self.record().barred.told(&greeting.damaged[..told]);
        }
        if let Admission::Fleet(fleet) = &self.notices.admission {
            let refused = |refusal: fleet::Refusal| LinkError::NoMember(refusal.to_string());
            fleet.present(self.id(), Some(&hello.membership)).map_err(refused)?;
            if fleet.wants_from(&hello) && self.may_hear() {
                self.hear(connection, fleet).await;
                fleet.standing(self.id()).map_err(refused)?;
            }
        }
        Ok((hello, latency))
    }

    /// Whether it may be asked what it knows of the fleet: not again soon after it had nothing to tell, whatever it promises.
    fn may_hear(&self) -> bool {
        self.record().told_nothing.is_none_or(|when| when.elapsed() >= HEARD_AGAIN)
    }

    /// Asks a member what it knows of the fleet. What comes of it is for the next greeting to see.
    async fn hear(&self, connection: &mut Connection, fleet: &fleet::Fleet) {
        let call = Call::Get { target: fleet::TARGET, from: None };
        let learnt = match timeout(DOCUMENT_LIMIT, connection.ask(call, fleet::DOCUMENT_MAX)).await {
            Ok(Ok(Some(document))) => fleet.learn(&document).await.map_err(|error| error.to_string()),
            Ok(Ok(None)) | Err(_) => Err("it does not tell what it knows of the fleet".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
        };
        self.record().told_nothing = (!matches!(learnt, Ok(true))).then(Instant::now);
        if let Err(error) = learnt {
            log::warn!(peer:% = self.id(), reason = error.as_str(); "what a member tells of the fleet is not taken over: {error}");
        }
    }

    /// Where only members of a fleet are let in, makes sure that this one is before anything is asked of it: one that a relay named was
    /// never greeted.
    pub(super) async fn must_be_member(&self) -> Result<(), LinkError> {
        match self.notices.admission.refusal(self.id()) {
            None => Ok(()),
            Some(_) => self.introduce().await,
        }
    }

    /// Greets it on a connection for that alone, so that each knows the other for a member.
    pub(super) async fn introduce(&self) -> Result<(), LinkError> {
        let mut connection = self.dial().await?;
        self.greet(&mut connection, FIRST_ANSWER_LIMIT).await.map(drop)
    }
}
