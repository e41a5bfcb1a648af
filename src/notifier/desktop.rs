//! The user's notification server, if there is one.
//!
//! Source: [Desktop Notifications Specification](https://specifications.freedesktop.org/notification-spec/latest/).

use super::notice::{Notice, Topic, Urgency};
use futures_core::Stream as _;
use std::collections::HashMap;
use std::future::poll_fn;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::time::Duration;
use zbus::message::{Message, Type};
use zbus::names::OwnedUniqueName;
use zbus::wire::Variant;
use zbus::{Connection, MatchRule, MessageStream};

/// The name of the `.desktop` file, without its ending, by which desktops keep their settings for a program.
const DESKTOP_ENTRY: &str = "org.peernix.Notifier";

/// The bus name and the interface of a notification server.
const SERVER: &str = "org.freedesktop.Notifications";
/// Its object.
const OBJECT: &str = "/org/freedesktop/Notifications";
/// How long it has to answer. It may have to be started first.
const ANSWER: Duration = Duration::from_secs(10);
/// Closed notices, of all programs, that may wait while one is shown. With more, that one would wait for them.
const CLOSED_WAITING: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// Shows notices. Without a server it shows nothing, and tries again with the next one.
pub(super) struct Desktop {
    session: Connection,
    closed: MessageStream,
    /// Who showed the notices: the numbers mean nothing to another server.
    server: Option<OwnedUniqueName>,
    /// The number of the notice of each topic that is on the screen, which the next one replaces.
    shown: HashMap<Topic, u32>,
}

impl Desktop {
    /// Prepares to show on the desktop behind this connection to a session bus.
    pub(super) async fn new(session: &Connection) -> zbus::Result<Self> {
        let rule = MatchRule::builder().msg_type(Type::Signal).sender(SERVER).interface(SERVER);
        let rule = rule.member("NotificationClosed").build()?;
        let closed = MessageStream::for_match_rule(rule, session, Some(CLOSED_WAITING)).await?;
        Ok(Self { session: session.clone(), closed, server: None, shown: HashMap::new() })
    }

    /// Keeps track of what is on the screen, until the session ends. To be awaited whenever there is nothing else to do.
    pub(super) async fn watch(&mut self) {
        while let Some(Ok(message)) = poll_fn(|context| Pin::new(&mut self.closed).poll_next(context)).await {
            let from_server = self.server.as_deref().is_some_and(|server| message.header().sender() == Some(server));
            if from_server && let Ok((id, _reason)) = message.body().deserialize::<(u32, u32)>() {
                self.shown.retain(|_, shown| *shown != id);
            }
        }
    }

    /// Shows a notice. What the user closed stays closed: then it is a new one.
    pub(super) async fn show(&mut self, notice: &Notice) {
        match tokio::time::timeout(ANSWER, self.try_show(notice)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => log::debug!("a notice cannot be shown: {error}"),
            Err(_) => log::debug!("a notice cannot be shown: the notification server does not answer"),
        }
    }

    async fn try_show(&mut self, notice: &Notice) -> zbus::Result<()> {
        // Asked every time: the server may have been replaced by another one.
        let answer = self.session.call_method(Some(SERVER), OBJECT, Some(SERVER), "GetCapabilities", &()).await?;
        let capabilities: Vec<String> = answer.body().deserialize()?;
        let server = sender(&answer)?;
        if self.server.as_ref() != Some(&server) {
            self.shown.clear();
            self.server = Some(server.clone());
        }
        let can = |what: &str| capabilities.iter().any(|capability| capability == what);
        let (summary, body) = texts(notice, can("body"), can("body-markup"));
        let mut hints = HashMap::from([
            ("urgency", Variant::from(notice.urgency as u8)),
            ("category", Variant::from(notice.category)),
            ("desktop-entry", Variant::from(DESKTOP_ENTRY)),
        ]);
        if notice.urgency == Urgency::Low {
            // Peers that came and went are of no interest to somebody who comes back to the screen.
            hints.insert("transient", Variant::from(true));
        }
        // Never, or as the server likes.
        let timeout = if notice.urgency == Urgency::Critical { 0 } else { -1 };
        let replaces = self.shown.get(&notice.topic).copied().unwrap_or(0);
        let actions: [&str; 0] = [];
        let call = ("Peernix", replaces, notice.icon, summary, body, &actions[..], hints, timeout);
        let answer = self.session.call_method(Some(&*server), OBJECT, Some(SERVER), "Notify", &call).await?;
        self.shown.insert(notice.topic, answer.body().deserialize()?);
        Ok(())
    }
}

fn sender(message: &Message) -> zbus::Result<OwnedUniqueName> {
    let header = message.header();
    let sender = header.sender().ok_or_else(|| zbus::Error::Failure("an answer from nobody".to_owned()))?;
    Ok(sender.to_owned().into())
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

    #[test]
    fn the_desktop_entry_is_a_file_that_is_installed() {
        let file = format!("{}/systemd/{DESKTOP_ENTRY}.desktop", env!("CARGO_MANIFEST_DIR"));
        assert!(std::path::Path::new(&file).exists(), "{file}");
    }
}
