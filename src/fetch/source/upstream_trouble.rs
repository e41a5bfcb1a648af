//! What is wrong with an upstream, for people: noted as its answers come, without any input or output.

use std::time::{Duration, SystemTime};

/// By how much the clock of an upstream and this machine's may differ: a little is the way there and a cache on it.
const CLOCK_MAX: Duration = Duration::from_secs(300);
/// How much is kept of a reason, in characters.
const REASON_MAX: usize = 200;

/// What is wrong with an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamTrouble {
    /// It is left alone for a while, as it cannot be reached or does not answer.
    Unreachable {
        /// What became of the last attempt.
        reason: String,
        /// Whether a proxy is asked, and not the upstream itself.
        by_proxy: bool,
    },
    /// It wants a login, or another one; the status says which it said.
    LoginRefused(u16),
    /// This machine's clock is so many seconds ahead of the upstream's, or behind if negative.
    Clock(i64),
}

/// What was noted of an upstream.
#[derive(Debug, Default)]
pub(crate) struct Noted {
    failed: Option<String>,
    refused: Option<u16>,
    ahead: Option<i64>,
}

impl Noted {
    /// It answered with this status and `Date`; `has_login`: it was shown one.
    pub(crate) fn answered(&mut self, status: u16, date: Option<&str>, has_login: bool, now: SystemTime) {
        self.failed = None;
        match status {
            401 | 407 => self.refused = Some(status),
            // S3 says so of what it does not have.
            403 if has_login => self.refused = Some(status),
            200..=399 => self.refused = None,
            _ => {}
        }
        if let Some(date) = date.and_then(|date| httpdate::parse_http_date(date).ok()) {
            let seconds = |passed: Duration| i64::try_from(passed.as_secs()).unwrap_or(i64::MAX);
            self.ahead = Some(match now.duration_since(date) {
                Ok(ahead) => seconds(ahead),
                Err(behind) => -seconds(behind.duration()),
            });
        }
    }

    /// It could not be asked, or did not answer.
    pub(crate) fn failed(&mut self, reason: &str) {
        self.failed = Some(reason.chars().take(REASON_MAX).collect());
    }

    /// What is wrong. `works`: its answers are waited for.
    pub(crate) fn troubles(&self, works: bool, by_proxy: bool) -> Vec<UpstreamTrouble> {
        let mut troubles = Vec::new();
        if !works {
            let reason = self.failed.clone().unwrap_or_else(|| "it does not answer".to_owned());
            troubles.push(UpstreamTrouble::Unreachable { reason, by_proxy });
        }
        troubles.extend(self.refused.map(UpstreamTrouble::LoginRefused));
        let is_off = |ahead: &i64| ahead.unsigned_abs() > CLOCK_MAX.as_secs();
        troubles.extend(self.ahead.filter(is_off).map(UpstreamTrouble::Clock));
        troubles
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_what_the_last_answer_says() {
        let now = SystemTime::now();
        let date = |time| httpdate::fmt_http_date(time);
        let day = Duration::from_secs(86_400);
        let mut noted = Noted::default();
        assert_eq!(noted.troubles(true, false), []);
        noted.answered(200, Some(&date(now)), false, now);
        assert_eq!(noted.troubles(true, false), []);
        noted.answered(404, Some(&date(now - day)), false, now);
        assert!(matches!(noted.troubles(true, false)[..], [UpstreamTrouble::Clock(86_399..=86_401)]));
        noted.answered(404, Some(&date(now + day)), false, now);
        assert!(matches!(noted.troubles(true, false)[..], [UpstreamTrouble::Clock(-86_401..=-86_399)]));
        noted.answered(200, Some("yesterday"), false, now);
        assert_eq!(noted.troubles(true, false).len(), 1, "it says nothing new");
        noted.answered(200, Some(&date(now)), false, now);

        noted.answered(403, None, false, now);
        assert_eq!(noted.troubles(true, false), []);
        for (status, has_login) in [(403, true), (401, false), (407, false)] {
            noted.answered(status, None, has_login, now);
            assert_eq!(noted.troubles(true, false), [UpstreamTrouble::LoginRefused(status)]);
        }
        noted.answered(404, None, true, now);
        assert_eq!(noted.troubles(true, false).len(), 1, "that is no word on the login");
        noted.answered(200, None, true, now);

        noted.failed(&"x".repeat(1000));
        assert_eq!(noted.troubles(true, false), [], "once may be bad luck");
        let [UpstreamTrouble::Unreachable { reason, by_proxy: true }] = &noted.troubles(false, true)[..] else {
            panic!()
        };
        assert_eq!(reason.len(), REASON_MAX);
    }
}
