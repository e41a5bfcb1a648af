//! A notification server that shows nothing and remembers everything.

use crate::support::LIMIT;
use std::collections::HashMap;
use tokio::sync::mpsc;
use zbus::wire::OwnedVariant;

/// The bus name and the interface.
const NAME: &str = "org.freedesktop.Notifications";
const PATH: &str = "/org/freedesktop/Notifications";

/// What was to be shown.
#[derive(Debug)]
pub(super) struct Shown {
    pub(super) replaces: u32,
    pub(super) summary: String,
    pub(super) body: String,
    pub(super) hints: HashMap<String, OwnedVariant>,
    pub(super) timeout: i32,
}

struct Interface {
    capabilities: Vec<String>,
    shown: mpsc::UnboundedSender<Shown>,
    last: u32,
}

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Interface {
    fn get_capabilities(&self) -> Vec<String> {
        self.capabilities.clone()
    }

    #[allow(clippy::too_many_arguments, clippy::needless_pass_by_value, reason = "so says the specification")]
    fn notify(
        &mut self,
        app_name: String,
        replaces: u32,
        _icon: String,
        summary: String,
        body: String,
        actions: Vec<String>,
        hints: HashMap<String, OwnedVariant>,
        timeout: i32,
    ) -> u32 {
        assert_eq!((app_name.as_str(), actions.len()), ("Peernix", 0));
        let _ = self.shown.send(Shown { replaces, summary, body, hints, timeout });
        if replaces != 0 {
            return replaces;
        }
        self.last += 1;
        self.last
    }
}

/// The server. It leaves the bus with this.
pub(super) struct Server {
    connection: zbus::Connection,
    shown: mpsc::UnboundedReceiver<Shown>,
}

impl Server {
    /// Starts it; its first notice has the number after `last`.
    pub(super) async fn start(address: &str, capabilities: &[&str], last: u32) -> Self {
        let (sender, shown) = mpsc::unbounded_channel();
        let capabilities = capabilities.iter().map(|capability| (*capability).to_owned()).collect();
        let interface = Interface { capabilities, shown: sender, last };
        let builder = zbus::connection::Builder::address(address).name(NAME).serve_at(PATH, interface);
        Self { connection: builder.build().await.unwrap(), shown }
    }

    /// The next notice.
    pub(super) async fn next(&mut self) -> Shown {
        tokio::time::timeout(LIMIT, self.shown.recv()).await.expect("a notice").unwrap()
    }

    /// Whether there is none that was not looked at.
    pub(super) fn is_silent(&mut self) -> bool {
        self.shown.try_recv().is_err()
    }

    /// The user closes a notice.
    pub(super) async fn close(&self, id: u32) {
        let nobody = None::<zbus::names::BusName<'_>>;
        self.connection.emit_signal(nobody, PATH, NAME, "NotificationClosed", &(id, 2_u32)).await.unwrap();
    }

    /// It is shut down.
    pub(super) async fn stop(self) {
        self.connection.close().await.unwrap();
    }
}
