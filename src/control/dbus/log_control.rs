//! `org.freedesktop.LogControl1`: what makes `systemctl service-log-level peernix.service debug` work.
//!
//! Source: [org.freedesktop.LogControl1](https://www.freedesktop.org/software/systemd/man/org.freedesktop.LogControl1.html).

use super::access::Callers;
use super::errors::CallError;
use super::model::Model;
use super::polkit::AnswerLimit;
use crate::control::{ErrorKind, LogLevel, Operation};
use std::sync::Arc;
use zbus::message::Header;
use zbus::{Connection, interface};

/// Where systemd looks for it.
pub(super) const PATH: &str = "/org/freedesktop/LogControl1";
/// Where messages go.
const TARGET: &str = "auto";

/// What is logged.
pub(super) struct LogControl {
    pub(super) model: Arc<Model>,
    pub(super) callers: Callers,
}

/// What is logged, in the words of syslog.
#[interface(name = "org.freedesktop.LogControl1")]
impl LogControl {
    /// The least important messages that are logged: emerg, alert, crit, err, warning, notice, info or debug.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn log_level(&self) -> Result<String, CallError> {
        let level = self.model.control.log_level().await?;
        Ok(syslog(level).to_owned())
    }

    /// A setter must not wait for a human: the object server waits for it, and everybody with it. So this never asks one;
    /// Manager.SetLogLevel does.
    #[zbus(property)]
    async fn set_log_level(
        &self,
        level: String,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<(), CallError> {
        let level = from_syslog(&level)?;
        let header = header.ok_or_else(|| CallError::new(ErrorKind::AccessDenied, "nobody knows who calls"))?;
        let call = self.callers.count(&header)?;
        for action in Operation::SetLogLevel.actions() {
            call.allow_within(connection, &header, *action, AnswerLimit::AtOnce).await?;
        }
        let set = self.model.control.set_log_level(level).await;
        self.model.hint.notify_one();
        Ok(set?)
    }

    /// Where messages go: the journal where there is one, else stderr.
    #[zbus(property(emits_changed_signal = "false"))]
    fn log_target(&self) -> String {
        TARGET.to_owned()
    }

    /// Only what is so already.
    #[zbus(property)]
    async fn set_log_target(&self, target: String) -> Result<(), CallError> {
        if target == TARGET {
            return Ok(());
        }
        Err(CallError::new(ErrorKind::NotSupported, "where messages go is decided when the service starts"))
    }

    /// What messages are logged as.
    #[zbus(property(emits_changed_signal = "const"))]
    fn syslog_identifier(&self) -> String {
        "peernixd".to_owned()
    }
}

const fn syslog(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "err",
        LogLevel::Warning => "warning",
        LogLevel::Info => "info",
        LogLevel::Debug | LogLevel::Trace => "debug",
    }
}

fn from_syslog(level: &str) -> Result<LogLevel, CallError> {
    Ok(match level {
        "emerg" | "alert" | "crit" | "err" => LogLevel::Error,
        "warning" => LogLevel::Warning,
        "notice" | "info" => LogLevel::Info,
        "debug" => LogLevel::Debug,
        _ => return Err(CallError::new(ErrorKind::InvalidArgument, "this is no level of syslog")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_words_of_syslog_that_lead_back() {
        for level in LogLevel::ALL {
            let expected = if *level == LogLevel::Trace { LogLevel::Debug } else { *level };
            assert_eq!(from_syslog(syslog(*level)).unwrap(), expected);
        }
        assert!(from_syslog("loud").is_err());
    }
}
