//! The ways in for administrators: D-Bus, and two Varlink sockets.

use crate::control::dbus::{self, Bus};
use crate::control::varlink::{self, Access};
use crate::control::{Control, Controller};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long calls under way may take to end, once the service stops.
const CLOSING: Duration = Duration::from_secs(2);

/// The ways in that are open.
pub(super) struct FrontEnds {
    varlink: TaskTracker,
    dbus: Option<dbus::Service>,
}

/// Opens the ways in: each that cannot be opened is logged, and the service goes on without.
pub(super) async fn open(
    controller: &Controller,
    read_only: Vec<UnixListener>,
    admin: Vec<UnixListener>,
    stop: &CancellationToken,
) -> FrontEnds {
    let control: Arc<dyn Control> = Arc::new(controller.clone());
    let tasks = TaskTracker::new();
    let listeners = read_only.into_iter().map(|listener| (listener, Access::ReadOnly));
    for (listener, access) in listeners.chain(admin.into_iter().map(|listener| (listener, Access::Admin))) {
        match tokio::net::UnixListener::from_std(listener) {
            Ok(listener) => {
                tasks.spawn(varlink::serve(Arc::clone(&control), listener, access, stop.clone()));
            }
            Err(error) => log::error!("a Varlink socket cannot be served: {error}"),
        }
    }
    tasks.close();
    let dbus = dbus::serve(control, Bus::System, stop.clone()).await;
    let dbus = dbus.inspect_err(|error| log::error!("nothing is served on D-Bus: {error}")).ok();
    FrontEnds { varlink: tasks, dbus }
}

impl FrontEnds {
    /// Takes the name on the bus, if there is a bus: the last thing before the service is ready.
    pub(super) async fn own_name(&self) {
        if let Some(dbus) = &self.dbus {
            dbus.own_name().await;
        }
    }

    /// Waits until calls under way have ended.
    pub(super) async fn closed(self) {
        let closed = async {
            self.varlink.wait().await;
            if let Some(dbus) = self.dbus {
                dbus.stopped().await;
            }
        };
        if tokio::time::timeout(CLOSING, closed).await.is_err() {
            log::debug!("administrators' calls were cut off");
        }
    }
}
