//! The substituters of Nix beside the gateway: one that is dead keeps each run of Nix waiting. And the clock, as they see it.

use super::check::Check;
use crate::cli::nix_memory::is_gateway;
use crate::cli::output::{latency, tame};
use crate::control::{Finding, microseconds};
use crate::fetch::{Probe, Proxies, probe};
use std::time::Duration;
use tokio::task::JoinSet;

/// How long one may take: Nix itself waits much longer.
const LIMIT: Duration = Duration::from_secs(4);
/// One that takes longer than this is slow.
const SLOW: Duration = Duration::from_secs(1);
/// How many are looked at.
const ASKED_MAX: usize = 16;

/// Asks all of them at once.
pub(super) async fn look(substituters: &str, gateway: &str, checks: &mut Vec<Check>) {
    let urls = substituters.split_whitespace().filter(|url| {
        let is_http = url.starts_with("http://") || url.starts_with("https://");
        is_http && !is_gateway(url, gateway)
    });
    let mut asking = JoinSet::new();
    for url in urls.take(ASKED_MAX) {
        // What comes after it are settings for Nix.
        let url = url.split('?').next().unwrap_or_default().trim_end_matches('/').to_owned();
        asking.spawn(async move {
            let answer = probe(&url, proxies(), LIMIT).await;
            (url, answer)
        });
    }
    let mut answers = asking.join_all().await;
    answers.sort_by(|(one, _), (other, _)| one.cmp(other));
    checks.extend(answers.iter().map(|(url, answer)| judge(url, answer)));
    checks.extend(clock(answers.iter().filter_map(|(url, answer)| Some((url.as_str(), answer.as_ref().ok()?)))));
}

/// As Nix started by this user has them.
fn proxies() -> Proxies {
    Proxies::new(None, |name| std::env::var(name).ok())
}

fn judge(url: &str, answer: &Result<Probe, String>) -> Check {
    const CHECK: &str = "substituter";
    let url = tame(url);
    match answer {
        Ok(Probe { took, .. }) if *took <= SLOW => {
            Check::ok(CHECK, format!("{url} answers in {}", latency(microseconds(*took))))
        }
        Ok(Probe { took, .. }) => Check::warn(
            CHECK,
            Finding::SubstituterSlow,
            format!("{url} takes {} to answer", latency(microseconds(*took))),
            "if it is like that for long, take it out of `substituters` and name it in [gateway] upstreams: a lookup there waits for no one who is slower than the others",
        ),
        Err(reason) => Check::warn(
            CHECK,
            Finding::SubstituterDead,
            format!("{url} does not answer: {}", tame(reason)),
            format!("take {url} out of `substituters` in nix.conf as long as it is gone: each run of Nix waits for it"),
        ),
    }
}

/// What those that answer say of the clock of this machine; nothing if none does.
fn clock<'a>(answers: impl Iterator<Item = (&'a str, &'a Probe)>) -> Option<Check> {
    const CHECK: &str = "clock";
    let (mut right, mut wrong) = (0, None);
    for (url, answer) in answers {
        match answer.clock {
            None => right += 1,
            Some(ahead) => wrong = Some((url, ahead)),
        }
    }
    match wrong {
        // If one is right, the others are wrong.
        Some((url, ahead)) if right == 0 => {
            let by = humantime::format_duration(Duration::from_secs(ahead.unsigned_abs()));
            let how = if ahead > 0 { "ahead of" } else { "behind" };
            Some(Check::fail(
                CHECK,
                Finding::ClockWrong,
                format!("it is {by} {how} that of {}", tame(url)),
                "`timedatectl set-ntp true`, or set it by hand: certificates, memberships and leases go by it",
            ))
        }
        _ if right > 0 => Some(Check::ok(CHECK, "it agrees with those of the substituters")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn answer(milliseconds: u64, clock: Option<i64>) -> Probe {
        Probe { took: Duration::from_millis(milliseconds), clock }
    }

    #[test]
    fn who_keeps_nix_waiting_is_told() {
        let judged = |answer| judge("https://cache.example.org", &answer).result;
        assert_eq!(judged(Ok(answer(1000, None))), Verdict::Ok);
        assert_eq!(judged(Ok(answer(1001, None))), Verdict::Warn);
        let dead = judge("https://cache.example.org", &Err("no answer within 4 s".to_owned()));
        assert_eq!((dead.result, dead.code.as_deref()), (Verdict::Warn, Some("substituter-dead")));
        assert!(dead.message.contains("no answer within 4 s"));
    }

    #[test]
    fn the_clock_is_wrong_when_all_say_so() {
        let judged = |clocks: &[Option<i64>]| {
            let answers: Vec<Probe> = clocks.iter().map(|clock| answer(1, *clock)).collect();
            clock(answers.iter().map(|answer| ("u", answer))).map(|check| (check.result, check.message))
        };
        assert_eq!(judged(&[]), None);
        assert_eq!(judged(&[None, Some(900)]).unwrap().0, Verdict::Ok);
        let (result, message) = judged(&[Some(-86_400)]).unwrap();
        assert_eq!((result, message.contains("behind")), (Verdict::Fail, true), "{message}");
    }
}
