//! Keeping the service on the bus, which may go away and come back.

use super::access::Callers;
use super::bus::{BUS_NAME, Bus};
use super::log_control::{self, LogControl};
use super::manager::{Backend, Manager};
use super::model::Model;
use super::objects::Objects;
use super::paths::ROOT;
use super::subscribers::Subscribers;
use crate::control::{Control, Outcome};
use crate::resilience::{Backoff, Schedule};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zbus::Connection;
use zbus::fdo::{RequestNameFlags, RequestNameReply};

/// The pauses between attempts to reach the bus again.
const RETRY: Schedule =
    Schedule { first: Duration::from_millis(250), factor: 2, most: Duration::from_secs(30), spread: false };
/// How long the bus has to say goodbye.
const GOODBYE: Duration = Duration::from_secs(1);

/// What the service wants of the bus and has from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    /// Its name is not asked for yet, or not answered.
    Pending,
    Owned,
    /// The bus is away, or gives the name to somebody else.
    Missing,
}

/// The service on the bus. It goes on when this is dropped, until it is stopped.
pub struct Service {
    wanted: watch::Sender<bool>,
    name: watch::Receiver<Name>,
    task: JoinHandle<()>,
}

impl Service {
    /// Asks the bus for the name of the service, now and whenever the bus comes back: to be called when everything else is ready,
    /// for from then on there are callers. True if the service has it; if not, the log says why, and it is tried again when
    /// the bus comes back.
    pub async fn own_name(&self) -> bool {
        self.wanted.send_replace(true);
        let mut name = self.name.clone();
        name.wait_for(|name| *name != Name::Pending).await.is_ok_and(|name| *name == Name::Owned)
    }

    /// Waits until the service has left the bus, after it was stopped.
    pub async fn stopped(self) {
        if let Err(error) = self.task.await {
            log::warn!("the service left the bus in a hurry: {error}");
        }
    }
}

/// Puts the service on the bus, without its name yet: see [`Service::own_name`]. Without a bus it goes on without, says
/// so once, and keeps trying. Ends when `stop` is cancelled.
///
/// # Errors
/// What [`Control`] answers when it is asked how the service is.
pub async fn serve(control: Arc<dyn Control>, bus: Bus, stop: CancellationToken) -> Outcome<Service> {
    let model = Arc::new(Model::new(control).await?);
    let (wanted, wants) = watch::channel(false);
    let (has, name) = watch::channel(Name::Pending);
    let (tried, first) = oneshot::channel();
    let callers = Callers::default();
    let guest = Guest { bus, model, callers, wants, has, stop };
    let task = tokio::spawn(guest.run(tried));
    // The objects come before the name, or the first attempt has failed.
    let _ = first.await;
    Ok(Service { wanted, name, task })
}

/// The one who keeps the service on the bus.
struct Guest {
    bus: Bus,
    model: Arc<Model>,
    callers: Callers,
    wants: watch::Receiver<bool>,
    has: watch::Sender<Name>,
    stop: CancellationToken,
}

impl Guest {
    async fn run(self, tried: oneshot::Sender<()>) {
        let mut tried = Some(tried);
        let mut retry = Backoff::new(RETRY);
        let mut told = false;
        while !self.stop.is_cancelled() {
            match self.bus.connect_and_serve().await {
                Ok(connection) => {
                    if told {
                        log::info!("the bus is there again");
                    }
                    retry.reset();
                    self.has.send_replace(Name::Pending);
                    if self.visit(&connection, &mut tried).await.is_break() {
                        break;
                    }
                    log::warn!("the bus went away; the service goes on without, and comes back with it");
                    told = true;
                }
                Err(error) if told => log::debug!("the bus is not there: {error}"),
                Err(error) => {
                    log::warn!(
                        "the bus is not there, so the service cannot be controlled over it until it is: {error}"
                    );
                    told = true;
                }
            }
            self.has.send_replace(Name::Missing);
            if let Some(tried) = tried.take() {
                let _ = tried.send(());
            }
            // Nothing tells when a bus comes back.
            tokio::select! {
                () = tokio::time::sleep(retry.next_pause()) => {}
                () = self.stop.cancelled() => {}
            }
        }
        self.has.send_replace(Name::Missing);
    }

    /// Serves one connection until its end, or until the service stops.
    async fn visit(&self, connection: &Connection, tried: &mut Option<oneshot::Sender<()>>) -> ControlFlow<()> {
        let objects = Objects::new(Arc::clone(&self.model), self.callers.clone());
        let manager = Manager(Backend {
            model: Arc::clone(&self.model),
            callers: self.callers.clone(),
            objects: objects.clone(),
            subscribers: Subscribers::default(),
        });
        let log_control = LogControl { model: Arc::clone(&self.model), callers: self.callers.clone() };
        if let Err(error) = show(connection, manager, log_control).await {
            log::warn!("the service cannot be shown on the bus: {error}");
            return ControlFlow::Continue(());
        }
        let (ready, is_ready) = oneshot::channel();
        let owner = async {
            if is_ready.await.is_ok() {
                if let Some(tried) = tried.take() {
                    let _ = tried.send(());
                }
                self.own(connection).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = objects.keep(connection, ready) => {}
            () = owner => {}
            () = connection.closed() => return ControlFlow::Continue(()),
            () = self.stop.cancelled() => {}
        }
        let goodbye = async {
            let _ = connection.release_name(BUS_NAME).await;
            let _ = connection.clone().close().await;
        };
        let _ = tokio::time::timeout(GOODBYE, goodbye).await;
        ControlFlow::Break(())
    }

    /// Asks for the name once it is wanted.
    async fn own(&self, connection: &Connection) {
        let mut wants = self.wants.clone();
        if wants.wait_for(|wanted| *wanted).await.is_err() {
            return;
        }
        let answer = connection.request_name_with_flags(BUS_NAME, RequestNameFlags::DO_NOT_QUEUE).await;
        let owned = matches!(answer, Ok(RequestNameReply::PrimaryOwner | RequestNameReply::AlreadyOwner));
        if !owned {
            let why = match answer {
                Ok(_) | Err(zbus::Error::NameTaken) => "somebody else has it".to_owned(),
                Err(error) => error.to_string(),
            };
            log::warn!("the bus does not give us the name {BUS_NAME}: {why}");
        }
        self.has.send_replace(if owned { Name::Owned } else { Name::Missing });
    }
}

async fn show(connection: &Connection, manager: Manager, log_control: LogControl) -> zbus::Result<()> {
    let server = connection.object_server();
    server.at(ROOT, manager).await?;
    server.at(log_control::PATH, log_control).await?;
    Ok(())
}
