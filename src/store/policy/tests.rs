//! The policy on path infos made for it; `store/tests/kept.rs` has those of a real store.

use super::*;
use crate::nix::{PathInfo, SecretKey};

fn key(name: &str, seed: u8) -> SecretKey {
    SecretKey::from_seed(name, [seed; 32]).unwrap()
}

fn path(ultimate: bool, signers: &[&SecretKey]) -> ValidPath {
    let mut info = PathInfo::example();
    info.signatures = signers.iter().map(|key| key.sign(&info, &StoreDir::default())).collect();
    ValidPath { info, registration_time: 1, ultimate }
}

fn policy(mode: SharePolicyMode, deny: &[&str]) -> SharePolicy {
    let options = PolicyOptions {
        mode,
        public_keys: [key("public-1", 1).public()].into_iter().collect(),
        own_keys: [key("own-1", 2).public()].into_iter().collect(),
        deny: deny.iter().map(ToString::to_string).collect(),
    };
    SharePolicy::new(options, StoreDir::default()).unwrap()
}

#[test]
fn the_whole_table() {
    use Audience::{Anyone, Enrolled};
    use SharePolicyMode::{Off, Signed, SignedAndOwn};
    let (public, own, stranger) = (key("public-1", 1), key("own-1", 2), key("stranger-1", 3));
    let impostor = key("public-1", 4);
    let serve = Decision::Serve;
    let refuse = Decision::Refuse;
    let nothing = || refuse(Reason::NoCountingSignature);
    // Path; then what `signed` says to both, what `signed+own` says to anyone, and to the enrolled.
    let table = [
        (path(false, &[]), refuse(Reason::Unsigned), refuse(Reason::Unsigned), refuse(Reason::Unsigned)),
        (path(false, &[&public]), serve.clone(), serve.clone(), serve.clone()),
        (path(true, &[&public]), serve.clone(), serve.clone(), serve.clone()),
        (path(false, &[&stranger, &public]), serve.clone(), serve.clone(), serve.clone()),
        (path(false, &[&stranger]), nothing(), nothing(), nothing()),
        (path(false, &[&impostor]), nothing(), nothing(), nothing()),
        (path(true, &[&impostor]), refuse(Reason::Own), refuse(Reason::OwnForEnrolledOnly), serve.clone()),
        (path(true, &[]), refuse(Reason::Own), refuse(Reason::OwnForEnrolledOnly), serve.clone()),
        (path(false, &[&own]), refuse(Reason::Own), refuse(Reason::OwnForEnrolledOnly), serve.clone()),
        (path(false, &[&own, &public]), serve.clone(), serve.clone(), serve),
    ];
    for (path, by_signed, by_own_to_anyone, by_own_to_enrolled) in table {
        let keys = || path.info.signatures.iter().map(Signature::key_name);
        for (mode, audience) in
            [Off, Signed, SignedAndOwn].into_iter().flat_map(|mode| [(mode, Anyone), (mode, Enrolled)])
        {
            let policy = policy(mode, &[]);
            let might = policy.might_serve(path.info.path.name(), keys(), path.ultimate, audience);
            // Only what a signature is worth does not show at a glance.
            let is_forged = path.info.signatures.iter().any(|signature| signature.key_name() == "public-1");
            assert_eq!(might, policy.decide(&path, audience).is_serve() || mode != Off && is_forged, "{path:?}");
        }
        // Twice: the second time from memory.
        let (signed, with_own, off) = (policy(Signed, &[]), policy(SignedAndOwn, &[]), policy(Off, &[]));
        for _ in 0..2 {
            assert_eq!(signed.decide(&path, Anyone), by_signed, "{path:?}");
            assert_eq!(signed.decide(&path, Enrolled), by_signed, "{path:?}");
            assert_eq!(with_own.decide(&path, Anyone), by_own_to_anyone, "{path:?}");
            assert_eq!(with_own.decide(&path, Enrolled), by_own_to_enrolled, "{path:?}");
            assert_eq!(off.decide(&path, Enrolled), refuse(Reason::Off));
        }
    }
}

#[test]
fn a_pattern_denies_whatever_the_signatures() {
    let policy = policy(SharePolicyMode::SignedAndOwn, &["x", "hel*"]);
    let decision = policy.decide(&path(true, &[&key("public-1", 1)]), Audience::Enrolled);
    assert_eq!(decision, Decision::Refuse(Reason::Denied("hel*".into())));
    let Decision::Refuse(reason) = decision else { panic!("a reason") };
    assert_eq!(reason.to_string(), "its name matches 'hel*' ([share] deny)");
}

#[test]
fn what_is_remembered_is_what_was_verified() {
    let policy = policy(SharePolicyMode::Signed, &[]);
    let good = path(false, &[&key("public-1", 1)]);
    assert_eq!(policy.decide(&good, Audience::Anyone), Decision::Serve);
    let mut forgeries = vec![good.clone(); 5];
    forgeries[0].info.nar_size += 1;
    forgeries[1].info.references.clear();
    forgeries[2].info.nar_hash = crate::nix::NarHash::new([0; 32]);
    forgeries[3].info.path = "7cs5xzrnw5p6mdmr7ym2qhg320xn66fi-hello-2.12.2".parse().unwrap();
    forgeries[4].info.signatures = vec![key("public-1", 4).sign(&good.info, &StoreDir::default())];
    for forged in forgeries {
        assert_eq!(policy.decide(&forged, Audience::Anyone), Decision::Refuse(Reason::NoCountingSignature));
    }
}
