//! Who has the name of the service on the bus: nobody else's signals are its.
//!
//! A bus hands a signal that is addressed to us over whatever we asked for, and zbus does not compare its sender with a
//! well-known name. So the owner is known here by its unique name, and only the bus itself is believed who that is.

use super::bus::{BUS_NAME, Bus};
use super::errors;
use super::stream::next;
use crate::control::{ControlError, ErrorKind, Outcome};
use zbus::message::{Message, Type};
use zbus::names::OwnedUniqueName;
use zbus::{Connection, MatchRule, MessageStream};

/// What the bus calls itself; it lets nobody else have it.
const DRIVER: &str = "org.freedesktop.DBus";

/// The owner of the service's name.
pub(super) struct Owner {
    changes: MessageStream,
    name: Option<OwnedUniqueName>,
}

impl Owner {
    /// Finds the owner out, and hears of every other one from then on.
    pub(super) async fn watch(connection: &Connection) -> zbus::Result<Self> {
        let rule = MatchRule::builder().msg_type(Type::Signal).sender(DRIVER).interface(DRIVER);
        let rule = rule.member("NameOwnerChanged").arg(0, BUS_NAME).build()?;
        // First the signals, then the look, so that nothing is missed between them.
        let changes = MessageStream::for_match_rule(rule, connection, None).await?;
        let answer =
            connection.call_method(Some(DRIVER), "/org/freedesktop/DBus", Some(DRIVER), "GetNameOwner", &BUS_NAME);
        let name = match answer.await {
            Ok(answer) => Some(answer.body().deserialize::<OwnedUniqueName>()?),
            Err(error) if errors::is_absent(&error) => None,
            Err(error) => return Err(error),
        };
        Ok(Self { changes, name })
    }

    /// Whether anybody has the name.
    pub(super) const fn is_there(&self) -> bool {
        self.name.is_some()
    }

    /// Whether the owner sent this.
    pub(super) fn sent(&self, message: &Message) -> bool {
        self.name.as_deref().is_some_and(|name| message.header().sender() == Some(name))
    }

    /// Waits until there is another owner, or none any more.
    pub(super) async fn changed(&mut self) -> zbus::Result<()> {
        loop {
            let Some(message) = next(&mut self.changes).await else {
                return Err(zbus::Error::Failure("the bus went away".to_owned()));
            };
            let message = message?;
            if message.header().sender().map(zbus::names::UniqueName::as_str) != Some(DRIVER) {
                continue;
            }
            let (_, _, new): (String, String, String) = message.body().deserialize()?;
            self.name = if new.is_empty() { None } else { Some(OwnedUniqueName::try_from(new)?) };
            return Ok(());
        }
    }
}

/// Waits until the service runs. It is not started by that.
///
/// # Errors
/// [`ErrorKind::NotRunning`] if the bus cannot be reached, or goes away meanwhile.
pub async fn wait_for_service(bus: &Bus) -> Outcome<()> {
    let unreachable =
        |error: zbus::Error| ControlError::new(ErrorKind::NotRunning, format!("the bus cannot be reached: {error}"));
    let connection = bus.connect().await.map_err(unreachable)?;
    let mut owner = Owner::watch(&connection).await.map_err(unreachable)?;
    while !owner.is_there() {
        owner.changed().await.map_err(unreachable)?;
    }
    Ok(())
}
