//! What every service of Varlink has, and what every service of systemd has.

use super::answer::{Answer, Answered, done, one};
use super::methods::DESCRIPTIONS;
use crate::control::varlink::protocol::{Call, Refusal, STANDARD};
use crate::control::{Control, LogLevel};
use serde_json::json;
use std::sync::Arc;

/// Variables of the environment that are told: where the service was put and how it was started. Any other may hold
/// secrets, such as the password of a proxy.
const TOLD: &[&str] = &[
    "CACHE_DIRECTORY",
    "CONFIGURATION_DIRECTORY",
    "CREDENTIALS_DIRECTORY",
    "HOME",
    "INVOCATION_ID",
    "JOURNAL_STREAM",
    "LANG",
    "LISTEN_FDNAMES",
    "LISTEN_FDS",
    "LOGS_DIRECTORY",
    "MEMORY_PRESSURE_WATCH",
    "NOTIFY_SOCKET",
    "PATH",
    "RUNTIME_DIRECTORY",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "STATE_DIRECTORY",
    "SYSTEMD_EXEC_PID",
    "TZ",
    "USER",
    "WATCHDOG_USEC",
];

/// Whether a person may be asked for a password: what the tools of systemd send along. Here it is the socket that decides, and nobody
/// is asked.
const ASK: &str = "allowInteractiveAuthentication";

pub(super) async fn answer(call: &Call, control: &Arc<dyn Control>) -> Answered {
    match (call.interface.as_str(), call.method.as_str()) {
        (STANDARD, "GetInfo") => {
            call.parameters(&[])?;
            let interfaces: Vec<&str> = DESCRIPTIONS.iter().map(|(name, _)| *name).collect();
            Ok(Answer::One(json!({
                "vendor": "Peernix",
                "product": "peernixd",
                "version": env!("CARGO_PKG_VERSION"),
                "url": env!("CARGO_PKG_REPOSITORY"),
                "interfaces": interfaces,
            })))
        }
        (STANDARD, "GetInterfaceDescription") => {
            let name: String = call.parameters(&["interface"])?.required("interface")?;
            let found = DESCRIPTIONS.iter().find(|(interface, _)| *interface == name);
            let (_, description) = found.ok_or(Refusal::InterfaceNotFound(name))?;
            one("description", description)
        }
        (_, "Ping") => {
            call.parameters(&[])?;
            done(Ok(()))
        }
        (_, "Reload") => {
            let _: Option<bool> = call.parameters(&[ASK])?.optional(ASK)?;
            done(control.reload().await.map(drop))
        }
        (_, "SetLogLevel") => {
            let parameters = call.parameters(&["level", ASK])?;
            let _: Option<bool> = parameters.optional(ASK)?;
            done(control.set_log_level(from_syslog(parameters.required("level")?)?).await)
        }
        (_, "GetLogLevel") => {
            call.parameters(&[])?;
            one("level", to_syslog(control.log_level().await?))
        }
        (_, "GetEnvironment") => {
            call.parameters(&[])?;
            let variable = |name: &&str| std::env::var(name).ok().map(|value| format!("{name}={value}"));
            one("environment", TOLD.iter().filter_map(variable).collect::<Vec<_>>())
        }
        _ => Err(Refusal::MethodNotFound),
    }
}

/// The level of ours for one of syslog(3): what is as important or more is logged.
fn from_syslog(level: i64) -> Result<LogLevel, Refusal> {
    match level {
        0..=3 => Ok(LogLevel::Error),
        4 => Ok(LogLevel::Warning),
        5 | 6 => Ok(LogLevel::Info),
        7 => Ok(LogLevel::Debug),
        _ => Err(Refusal::Parameter("level".to_owned(), "the levels of syslog are 0 to 7".to_owned())),
    }
}

/// The level of syslog(3) for one of ours.
const fn to_syslog(level: LogLevel) -> i64 {
    match level {
        LogLevel::Error => 3,
        LogLevel::Warning => 4,
        LogLevel::Info => 6,
        LogLevel::Debug | LogLevel::Trace => 7,
    }
}
