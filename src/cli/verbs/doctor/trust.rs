//! Whose signatures let a path in: what the service says, and what its files say to who asks.

use super::check::Check;
use crate::cli::output::tame;
use crate::config::TrustedBy;
use crate::control::{Finding, TrustOrigin, TrustedKey};

/// What is looked at.
const CHECK: &str = "trust";

/// Holds the keys of the service, if it can be asked, against those that its configuration and nix.conf name, as this user reads
/// them.
pub(super) fn judge(files: &TrustedBy, service: Option<&[TrustedKey]>) -> Vec<Check> {
    let mut checks: Vec<Check> = files.notices.iter().map(|notice| doubtful(notice)).collect();
    if let Some(why) = &files.unknown {
        checks.push(Check::fail(CHECK, Finding::TrustUnknown, why.clone(), "then run `peernixctl reload`"));
    }
    let named: Vec<String> = files.keys.iter().map(ToString::to_string).collect();
    let in_force: Vec<&str> = match service {
        Some(keys) => keys.iter().filter(|key| !key.distrusted).map(|key| key.public_key.as_str()).collect(),
        None => named.iter().map(String::as_str).collect(),
    };
    let name = |key: &str| tame(key.split(':').next().unwrap_or_default());
    if in_force.is_empty() && files.unknown.is_none() {
        checks.push(Check::fail(
            CHECK,
            Finding::TrustNone,
            "no key is trusted, so nothing can be fetched",
            "name keys in [trust] public_keys or in trusted-public-keys of nix.conf",
        ));
    } else if !in_force.is_empty() {
        let names: Vec<String> = in_force.iter().map(|key| name(key)).collect();
        let origin = if service.is_some() { "as the service says" } else { &files.origin };
        checks.push(Check::ok(CHECK, format!("{} ({origin})", names.join(", "))));
    }
    for key in service.unwrap_or_default() {
        if key.origin != TrustOrigin::Added && !named.contains(&key.public_key) && files.unknown.is_none() {
            checks.push(Check::warn(
                CHECK,
                Finding::TrustDiffers,
                format!("the service goes by {}, which {} does not name", name(&key.public_key), files.origin),
                "`peernixctl reload`",
            ));
        }
    }
    for key in named.iter().filter(|key| service.is_some_and(|keys| keys.iter().all(|known| known.public_key != **key)))
    {
        checks.push(Check::warn(
            CHECK,
            Finding::TrustDiffers,
            format!("{} names {}, of which the service does not know", files.origin, name(key)),
            "`peernixctl reload`; if that changes nothing, let the service read what this user can read",
        ));
    }
    checks
}

fn doubtful(notice: &str) -> Check {
    Check::warn(CHECK, Finding::NixConfDoubtful, notice, "put nix.conf right, then `peernixctl reload`")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn key(number: u8) -> String {
        let key = crate::nix::SecretKey::from_seed(&format!("k-{number}"), [number; 32]).unwrap();
        key.public().to_string()
    }

    fn files(numbers: &[u8]) -> TrustedBy {
        TrustedBy::configured(numbers.iter().map(|number| key(*number).parse().unwrap()).collect())
    }

    fn known(number: u8, origin: TrustOrigin, distrusted: bool) -> TrustedKey {
        let (name, comment) = (format!("k-{number}"), String::new());
        TrustedKey { name, public_key: key(number), origin, comment, distrusted, changed_timestamp: None }
    }

    #[test]
    fn the_service_and_its_files_are_held_against_each_other() {
        let told = |files: &TrustedBy, service: Option<&[TrustedKey]>| -> Vec<(Verdict, String)> {
            judge(files, service).into_iter().map(|check| (check.result, check.message)).collect()
        };
        let fine = [known(1, TrustOrigin::Configuration, false), known(9, TrustOrigin::Added, false)];
        assert_eq!(told(&files(&[1]), Some(&fine)), [(Verdict::Ok, "k-1, k-9 (as the service says)".into())]);
        assert_eq!(told(&files(&[1]), None), [(Verdict::Ok, "k-1 ([trust] public_keys)".into())]);
        let other = told(&files(&[2]), Some(&[known(1, TrustOrigin::Nix, false)]));
        assert_eq!(
            other.iter().map(|(verdict, _)| *verdict).collect::<Vec<_>>(),
            [Verdict::Ok, Verdict::Warn, Verdict::Warn]
        );
        assert!(other[1].1.contains("goes by k-1") && other[2].1.contains("names k-2"), "{other:?}");
        let distrusted = told(&files(&[1]), Some(&[known(1, TrustOrigin::Configuration, true)]));
        assert_eq!(distrusted, [(Verdict::Fail, "no key is trusted, so nothing can be fetched".into())]);
        let mut unknown = files(&[]);
        unknown.unknown = Some("nix.conf cannot be read".into());
        assert_eq!(told(&unknown, Some(&[])), [(Verdict::Fail, "nix.conf cannot be read".into())]);
    }
}
