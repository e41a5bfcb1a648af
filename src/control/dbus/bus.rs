//! Which bus, and how it is reached.

use super::paths::ROOT;
use std::time::Duration;
use zbus::Connection;
use zbus::connection::Builder;
use zbus::fdo::ObjectManager;

/// The name of the service on the bus.
pub const BUS_NAME: &str = "org.peernix.Peernix1";

/// How long the bus has to let us in.
const CONNECT: Duration = Duration::from_secs(10);

/// Which bus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bus {
    /// That of the system; `$DBUS_SYSTEM_BUS_ADDRESS` says where if not in its usual place.
    System,
    /// The one at this address, as D-Bus writes it: `unix:path=/run/bus`.
    Address(String),
}

impl Bus {
    fn builder(&self) -> Builder<'_> {
        match self {
            Self::System => Builder::system(),
            Self::Address(address) => Builder::address(address.as_str()),
        }
    }

    pub(super) async fn connect(&self) -> zbus::Result<Connection> {
        Self::build(self.builder()).await
    }

    /// A connection that answers calls. Only the builder waits until it does: a connection that is made to answer later loses
    /// the calls that come before its object server listens.
    pub(super) async fn connect_and_serve(&self) -> zbus::Result<Connection> {
        Self::build(self.builder().serve_at(ROOT, ObjectManager)).await
    }

    async fn build(builder: Builder<'_>) -> zbus::Result<Connection> {
        let connection = tokio::time::timeout(CONNECT, builder.build()).await;
        connection.unwrap_or_else(|_| Err(zbus::Error::Failure("the bus does not let us in".to_owned())))
    }
}
