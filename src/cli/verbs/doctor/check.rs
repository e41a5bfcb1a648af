//! One thing that was looked at, and how it was.

use crate::control::Finding;
use serde::Serialize;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    Warn,
    Fail,
    /// It could not be looked at.
    Skip,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
pub(super) struct Check {
    pub(super) check: &'static str,
    pub(super) result: Verdict,
    /// What is wrong is called, for `peernixctl explain`; of what the service says itself, its word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) code: Option<String>,
    pub(super) message: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Check {
    pub(super) fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { check, result: Verdict::Ok, code: None, message: message.into(), remedy: None }
    }

    pub(super) fn skip(check: &'static str, message: impl Into<String>) -> Self {
        Self { result: Verdict::Skip, ..Self::ok(check, message) }
    }

    pub(super) fn warn(
        check: &'static str,
        finding: Finding,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        let (code, remedy) = (Some(finding.to_string()), Some(remedy.into()));
        Self { result: Verdict::Warn, code, remedy, ..Self::ok(check, message) }
    }

    pub(super) fn fail(
        check: &'static str,
        finding: Finding,
        message: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self { result: Verdict::Fail, ..Self::warn(check, finding, message, remedy) }
    }
}
