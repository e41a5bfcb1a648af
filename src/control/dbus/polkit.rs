//! Whether a caller may do something, as polkit says; where there is no polkit, only root may.
//!
//! Source: [org.freedesktop.PolicyKit1.Authority](https://polkit.pages.freedesktop.org/polkit/eggdbus-interface-org.freedesktop.PolicyKit1.Authority.html).

use super::errors;
use super::stream::next;
use crate::control::{Action, ControlError, ErrorKind, Outcome};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use zbus::Connection;
use zbus::fdo::DBusProxy;
use zbus::message::Header;
use zbus::names::{BusName, UniqueName};
use zbus::proxy::CacheProperties;
use zbus_polkit::policykit1::{AuthorityProxy, CheckAuthorizationFlags, Subject};

/// How long somebody has to authenticate.
const HUMAN: Duration = Duration::from_secs(600);
/// How long polkit has for an answer that needs nobody.
const MACHINE: Duration = Duration::from_secs(5);
/// How long it has while everybody waits.
const AT_ONCE: Duration = Duration::from_secs(1);
/// What the bus says when polkit is installed and does not start.
const NOT_STARTED: &[&str] = &["org.freedesktop.DBus.Error.Spawn.", "org.freedesktop.systemd1."];

/// Whose call it is: their number, as the bus knows it.
pub(super) async fn user(connection: &Connection, header: &Header<'_>) -> Outcome<u32> {
    let unknown = |error: &dyn std::fmt::Display| {
        ControlError::new(ErrorKind::AccessDenied, format!("nobody knows who calls: {error}"))
    };
    let sender = header.sender().ok_or_else(|| unknown(&"no sender"))?;
    let bus = DBusProxy::new(connection).await.map_err(|error| unknown(&error))?;
    bus.get_connection_unix_user(BusName::from(sender.clone())).await.map_err(|error| unknown(&error))
}

/// How long a question may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AnswerLimit {
    /// Until a human has authenticated.
    Human,
    /// Until polkit has looked into its rules.
    Rules,
    /// Everybody waits for the answer: a setter of LogControl1.
    AtOnce,
}

/// Whether the sender of a call may do something. A sender who goes away meanwhile takes the question back.
///
/// # Errors
/// [`ErrorKind::AccessDenied`], or [`ErrorKind::InteractiveAuthorizationRequired`] if a human could change that.
pub(super) async fn check(
    connection: &Connection,
    header: &Header<'_>,
    action: Action,
    limit: AnswerLimit,
) -> Outcome<()> {
    let sender = header.sender().ok_or_else(|| denied(action, "nobody knows who calls"))?;
    let bus = DBusProxy::new(connection).await.map_err(|error| denied(action, error))?;
    let gone = bus.receive_name_owner_changed_with_args(&[(0, sender.as_str()), (2, "")]).await;
    let mut gone = gone.map_err(|error| denied(action, error))?;
    // From here on it is told; whoever went away before is found out now.
    user(connection, header).await?;
    let question = Question::new(connection, header, action, limit == AnswerLimit::Human)?;
    let limit = match limit {
        AnswerLimit::Human => HUMAN,
        AnswerLimit::Rules => MACHINE,
        AnswerLimit::AtOnce => AT_ONCE,
    };
    tokio::select! {
        answer = question.ask() => answer,
        _ = next(&mut gone) => {
            question.take_back().await;
            Err(denied(action, "the caller is gone"))
        }
        () = tokio::time::sleep(limit) => {
            question.take_back().await;
            Err(denied(action, format!("there was no answer within {} seconds", limit.as_secs())))
        }
    }
}

struct Question<'a> {
    connection: &'a Connection,
    sender: UniqueName<'a>,
    subject: Subject,
    action: Action,
    flags: CheckAuthorizationFlags,
    id: String,
}

impl<'a> Question<'a> {
    fn new(connection: &'a Connection, header: &Header<'a>, action: Action, interactive: bool) -> Outcome<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let sender = header.sender().cloned().ok_or_else(|| denied(action, "nobody knows who calls"))?;
        // By its name on the bus, which is never given twice: no race with the end of a process.
        let subject = Subject::new_for_message_header(header).map_err(|error| denied(action, error))?;
        let flags = if interactive {
            CheckAuthorizationFlags::ALLOW_USER_INTERACTION
        } else {
            CheckAuthorizationFlags::empty()
        };
        let id = format!("peernix-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        Ok(Self { connection, sender, subject, action, flags, id })
    }

    async fn authority(&self) -> zbus::Result<AuthorityProxy<'a>> {
        AuthorityProxy::builder(self.connection).cache_properties(CacheProperties::No).build().await
    }

    async fn ask(&self) -> Outcome<()> {
        let authority = self.authority().await.map_err(|error| denied(self.action, error))?;
        let details = HashMap::new();
        let answer =
            authority.check_authorization(&self.subject, self.action.id(), &details, self.flags, &self.id).await;
        match answer {
            Ok(answer) if answer.is_authorized => Ok(()),
            Ok(answer) if answer.is_challenge => Err(ControlError::new(
                ErrorKind::InteractiveAuthorizationRequired,
                format!("{} ({})", self.action.message(), self.action.id()),
            )),
            Ok(_) => Err(denied(self.action, "polkit refuses")),
            Err(error) if is_without_polkit(&error) => {
                Err(denied(self.action, "there is no polkit on this bus, so only root may"))
            }
            Err(error) => {
                log::warn!(sender:% = self.sender; "polkit did not answer about {}: {error}", self.action.id());
                Err(denied(self.action, "polkit gave no answer"))
            }
        }
    }

    /// Nobody wants to know any more; the dialog goes away.
    async fn take_back(&self) {
        if let Ok(authority) = self.authority().await {
            // Polkit may have answered at this moment: then it knows the question no more, and that is as well.
            let _ = tokio::time::timeout(MACHINE, authority.cancel_check_authorization(&self.id)).await;
        }
    }
}

fn is_without_polkit(error: &zbus::Error) -> bool {
    errors::is_absent(error)
        || errors::name_of(error).is_some_and(|(name, _)| NOT_STARTED.iter().any(|begin| name.starts_with(begin)))
}

fn denied(action: Action, why: impl std::fmt::Display) -> ControlError {
    ControlError::new(ErrorKind::AccessDenied, format!("this needs the right {}: {why}", action.id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write as _;

    /// Whom the service runs as: polkit answers questions about others only to root and to the owner of an action.
    const OWNER: &str = "peernix";

    /// What somebody at the machine may do without authentication: it changes nothing that matters to others.
    const HARMLESS: &[Action] = &[Action::Refresh, Action::Prefetch];

    /// The file that tells polkit of the actions.
    fn policy() -> String {
        let mut policy = String::from(
            r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE policyconfig PUBLIC "-//freedesktop//DTD PolicyKit Policy Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/PolicyKit/1.0/policyconfig.dtd">
<!-- Made from src/control/action.rs by its golden test (UPDATE_GOLDEN=1). No two hyphens in a comment: polkit would read nothing. -->
<policyconfig>
  <vendor>Peernix</vendor>
"#,
        );
        for action in Action::ALL {
            let active = if HARMLESS.contains(action) { "yes" } else { "auth_admin_keep" };
            let (id, description, message) = (action.id(), action.description(), action.message());
            write!(
                policy,
                r#"
  <action id="{id}">
    <description>{description}</description>
    <message>{message}</message>
    <defaults>
      <allow_any>auth_admin</allow_any>
      <allow_inactive>auth_admin</allow_inactive>
      <allow_active>{active}</allow_active>
    </defaults>
    <annotate key="org.freedesktop.policykit.owner">unix-user:{OWNER}</annotate>
"#
            )
            .unwrap();
            if *action == Action::ManagePeers {
                let weaker = Action::Refresh.id();
                writeln!(policy, r#"    <annotate key="org.freedesktop.policykit.imply">{weaker}</annotate>"#).unwrap();
            }
            policy.push_str("  </action>\n");
        }
        policy.push_str("</policyconfig>\n");
        policy
    }

    #[test]
    fn the_policy_file_has_every_action() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/dbus/org.peernix.Peernix1.policy");
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::write(file, policy()).unwrap();
        }
        assert_eq!(std::fs::read_to_string(file).unwrap(), policy());
    }
}
