//! The user's notification server, if there is one.
//!
//! Source: [Desktop Notifications Specification](https://specifications.freedesktop.org/notification-spec/latest/).

use super::merge::{Notice, Topic, Urgency};
use std::collections::HashMap;
use zbus::wire::Variant;

/// The name of the `.desktop` file, by which desktops keep their settings for this program.
const DESKTOP_ENTRY: &str = "org.peernix.Notifier";

#[zbus::proxy(
    interface = "org.freedesktop.Notifications",
    default_service = "org.freedesktop.Notifications",
    default_path = "/org/freedesktop/Notifications"
)]
trait Notifications {
    fn get_capabilities(&self) -> zbus::Result<Vec<String>>;

    #[allow(clippy::too_many_arguments)]
    fn notify(
        &self,
        app_name: &str,
        replaces_id: u32,
        app_icon: &str,
        summary: &str,
        body: &str,
        actions: &[&str],
        hints: HashMap<&str, Variant<'_>>,
        expire_timeout: i32,
    ) -> zbus::Result<u32>;
}

/// Shows notices. Without a server it shows nothing, and tries again with the next one.
pub(super) struct Desktop {
    proxy: NotificationsProxy<'static>,
    /// The number of the last notice of each topic, which the next one replaces.
    shown: HashMap<Topic, u32>,
}

impl Desktop {
    /// Prepares to show on the desktop behind this connection to a session bus.
    pub(super) async fn new(session: &zbus::Connection) -> zbus::Result<Self> {
        Ok(Self { proxy: NotificationsProxy::new(session).await?, shown: HashMap::new() })
    }

    /// Shows a notice.
    pub(super) async fn show(&mut self, notice: &Notice) {
        // Asked every time: the server may have been replaced by another one.
        let capabilities = match self.proxy.get_capabilities().await {
            Ok(capabilities) => capabilities,
            Err(error) => {
                log::debug!("no notification server: {error}");
                self.shown.clear();
                return;
            }
        };
        let can = |what: &str| capabilities.iter().any(|capability| capability == what);
        let (summary, body) = texts(notice, can("body"), can("body-markup"));
        let hints = HashMap::from([
            ("urgency", Variant::from(notice.urgency as u8)),
            ("category", Variant::from(notice.category)),
            ("desktop-entry", Variant::from(DESKTOP_ENTRY)),
            // Peers that came and went are of no interest to somebody who comes back to the screen.
            ("transient", Variant::from(notice.urgency == Urgency::Low)),
        ]);
        // Never, or as the server likes.
        let timeout = if notice.urgency == Urgency::Critical { 0 } else { -1 };
        let replaces = self.shown.get(&notice.topic).copied().unwrap_or(0);
        match self.proxy.notify("Peernix", replaces, notice.icon, &summary, &body, &[], hints, timeout).await {
            Ok(id) => {
                self.shown.insert(notice.topic, id);
            }
            Err(error) => log::debug!("the notification server refused a notice: {error}"),
        }
    }
}

/// Summary and body as this server can show them: names come from other machines and must not become markup.
fn texts(notice: &Notice, has_body: bool, has_markup: bool) -> (String, String) {
    // The summary is plain text to every server.
    let summary = if has_body || notice.body.is_empty() {
        notice.summary.clone()
    } else {
        format!("{}: {}", notice.summary, notice.body.replace('\n', ", "))
    };
    let body = match (has_body, has_markup) {
        (false, _) => String::new(),
        (true, false) => notice.body.clone(),
        (true, true) => notice.body.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"),
    };
    (summary, body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_never_become_markup() {
        let notice = Notice {
            topic: Topic::Peers,
            summary: "2 peers online".into(),
            body: "<img src=x>&tower\nden".into(),
            urgency: Urgency::Low,
            category: "network",
            icon: "",
        };
        assert_eq!(texts(&notice, true, true).1, "&lt;img src=x&gt;&amp;tower\nden");
        assert_eq!(texts(&notice, true, false).1, notice.body);
        let (summary, body) = texts(&notice, false, true);
        assert_eq!((summary.as_str(), body.as_str()), ("2 peers online: <img src=x>&tower, den", ""));
    }
}
