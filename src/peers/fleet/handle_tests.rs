use super::super::messages::{first_request, second_request};
use super::super::pairing::Joiner;
use super::*;
use crate::peers::NodeKey;

fn node(seed: u8) -> NodeId {
    NodeKey::from_seed([seed; 32]).id()
}

async fn open(seed: u8, dir: &tempfile::TempDir, fleet: Option<FleetId>) -> Fleet {
    let (name, state_dir) = (format!("m{seed}"), Some(dir.path().join(seed.to_string())));
    Fleet::open(node(seed), FleetOptions { name, state_dir, fleet, credential: None }).await.unwrap()
}

/// `joiner` joins by what is typed in.
async fn join(inviter: &Fleet, joiner: &Fleet, code: &Code) -> Result<Membership, FleetError> {
    let (us, them) = (joiner.0.us, inviter.0.us);
    let (joining, message) = Joiner::begin(code, us, them);
    let reply = serde_json::to_vec(&inviter.pair(us, &first_request(code, &message)).await?).unwrap();
    let (message, proof) = PairingReply::first(&reply)?;
    let proof = joining.end(&message, &proof)?;
    let reply = inviter.pair(us, &second_request(code, &proof, joiner.name())).await?;
    let (membership, revocations) = PairingReply::second(&serde_json::to_vec(&reply).unwrap())?;
    joiner.joined(&membership, revocations).await
}

#[tokio::test]
async fn machines_join_by_a_code_and_are_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let (founder, other) = (open(1, &dir, None).await, open(2, &dir, None).await);
    assert!(matches!(founder.invite(), Err(FleetError::NoKey)));
    let id = founder.init("home").await.unwrap();
    assert!(matches!(founder.init("").await, Err(FleetError::AlreadyIn(found)) if found == id));
    let code = founder.invite().unwrap().code;
    let joined = join(&founder, &other, &code).await.unwrap();
    assert_eq!((joined.name.as_str(), joined.node, other.id()), ("m2", node(2), Some(id)));
    assert!(matches!(join(&founder, &other, &code).await, Err(FleetError::Pairing(PairingError::NoInvitation))));

    // Both know each other after a restart by what they show.
    let (founder, other) = (open(1, &dir, Some(id)).await, open(2, &dir, Some(id)).await);
    assert!(founder.enrols() && !other.enrols());
    assert_eq!(founder.standing(node(2)), Err(Refusal::NothingShown));
    founder.present(node(2), other.told().0.as_deref()).unwrap();
    other.present(node(1), founder.told().0.as_deref()).unwrap();
    assert_eq!(founder.present(node(3), other.told().0.as_deref()), Err(Refusal::OfAnother(node(2))));
    assert_eq!(founder.view().members[0].name, "m2");
    assert_eq!(other.view().refusal, None);
}

#[tokio::test]
async fn who_is_revoked_is_so_for_all_who_hear_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (founder, member) = (open(1, &dir, None).await, open(2, &dir, None).await);
    founder.init("").await.unwrap();
    let token = founder.enroll(node(2), &Enrolment { name: "m2".into(), ..Enrolment::default() }).await.unwrap();
    let lost = founder.enroll(node(3), &Enrolment::default()).await.unwrap();
    member.accept(&token).await.unwrap();
    member.present(node(3), Some(&lost)).unwrap();
    let mut changes = member.changes();
    assert!(founder.revoke(node(3)).await.unwrap() && !founder.revoke(node(3)).await.unwrap());
    assert!(founder.revoke(node(1)).await.is_err(), "that is itself");
    founder.present(node(2), Some(&token)).unwrap();
    member.learn(&founder.document(node(2)).unwrap()).await.unwrap();
    changes.changed().await.unwrap();
    assert!(matches!(member.present(node(3), Some(&lost)), Err(Refusal::Revoked(_))));
    assert!(member.standing(node(3)).is_err());
    // Who tells it again tells no news, and nobody is disturbed.
    changes.mark_unchanged();
    assert!(!member.learn(&founder.document(node(2)).unwrap()).await.unwrap() && !changes.has_changed().unwrap());
    // Also after a restart.
    let member = open(2, &dir, None).await;
    assert!(matches!(member.standing(node(3)), Err(Refusal::Revoked(_))));
    // Enrolled anew, it is a member again.
    founder.enroll(node(3), &Enrolment::default()).await.unwrap();
    member.learn(&founder.document(node(2)).unwrap()).await.unwrap();
    member.present(node(3), Some(&lost)).unwrap();
    // And so is one that joins by a code.
    founder.revoke(node(3)).await.unwrap();
    let (code, third) = (founder.invite().unwrap().code, open(3, &dir, None).await);
    join(&founder, &third, &code).await.unwrap();
    founder.present(node(3), third.told().0.as_deref()).unwrap();
}

#[tokio::test]
async fn what_ends_soon_is_renewed_by_whoever_has_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let (founder, member) = (open(1, &dir, None).await, open(2, &dir, None).await);
    founder.init("").await.unwrap();
    let key = founder.0.state.read().key.clone().unwrap();
    let year_ago = SystemTime::now() - VALID + Duration::from_secs(3600);
    let token = membership(&key, node(2), &Enrolment::default(), year_ago).to_token(&key);
    member.accept(&token).await.unwrap();
    founder.present(node(2), Some(&token)).unwrap();
    assert!(member.learn(&founder.document(node(2)).unwrap()).await.unwrap());
    let renewed = member.view().ours.unwrap();
    assert!(!renewed.is_to_be_renewed(SystemTime::now()));
    // The old one, told by whoever kept it, takes nothing back; and a stranger is told nothing at all.
    let old = Document { membership: Some(token), revocations: None };
    assert!(!member.learn(&serde_json::to_vec(&old).unwrap()).await.unwrap());
    assert_eq!((member.view().ours, founder.document(node(9))), (Some(renewed), None));
    // What was to end in an hour ends then.
    let hour = Enrolment { valid: Some(Duration::from_secs(3600)), ..Enrolment::default() };
    let token = founder.enroll(node(2), &hour).await.unwrap();
    founder.present(node(2), Some(&token)).unwrap();
    let document: Document = serde_json::from_slice(&founder.document(node(2)).unwrap()).unwrap();
    assert!(document.membership.is_none());
    // The founder's own is renewed, with the words that it had.
    let own = Enrolment { site: "home".into(), ..Enrolment::default() };
    let own = membership(&key, node(1), &own, year_ago).to_token(&key);
    founder.0.state.write().membership = Some(own.into());
    founder.renew_own().await.unwrap();
    let ours = founder.view().ours.unwrap();
    assert!(ours.site == "home" && !ours.is_to_be_renewed(SystemTime::now()));
}

#[tokio::test]
async fn a_membership_says_where_a_machine_takes_part_and_what_it_may_do_for_others() {
    let dir = tempfile::tempdir().unwrap();
    let (founder, member) = (open(1, &dir, None).await, open(2, &dir, None).await);
    founder.init("").await.unwrap();
    let may = |fleet: &Fleet| Role::ALL.map(|role| fleet.may(node(2), role));
    assert_eq!(may(&founder), [false, false], "of whom nothing is known");
    let cases: [(&[&str], [bool; 2]); 4] = [
        (&[], [true, true]),
        (&["gateway"], [true, false]),
        (&["relay", "of a later version"], [false, true]),
        (&["none"], [false, false]),
    ];
    for (roles, allowed) in cases {
        let roles = roles.iter().map(|&role| role.to_owned()).collect();
        let enrolment = Enrolment { site: "berlin".into(), roles, ..Enrolment::default() };
        let token = founder.enroll(node(2), &enrolment).await.unwrap();
        founder.present(node(2), Some(&token)).unwrap();
        member.accept(&token).await.unwrap();
        assert_eq!((may(&founder), may(&member)), (allowed, allowed), "{enrolment:?}");
    }
    assert!(founder.is_of_site(node(2), "berlin") && !founder.is_of_site(node(2), "paris"));
    let token = founder.enroll(node(3), &Enrolment::default()).await.unwrap();
    founder.present(node(3), Some(&token)).unwrap();
    assert!(founder.is_of_site(node(3), "berlin") && founder.is_of_site(node(3), "paris"));
    let many = Enrolment { roles: vec!["relay".into(); 9], ..Enrolment::default() };
    assert!(matches!(founder.enroll(node(2), &many).await, Err(FleetError::Argument(_))));
}

#[tokio::test]
async fn no_member_moves_another_into_a_fleet_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let [founder, member, other] = [open(1, &dir, None).await, open(2, &dir, None).await, open(3, &dir, None).await];
    let fleet = founder.init("").await.unwrap();
    member.accept(&founder.enroll(node(2), &Enrolment::default()).await.unwrap()).await.unwrap();
    other.init("").await.unwrap();
    let membership = Some(other.enroll(node(2), &Enrolment::default()).await.unwrap());
    let document = Document { membership, revocations: None };
    assert!(member.learn(&serde_json::to_vec(&document).unwrap()).await.is_err());
    assert_eq!(member.id(), Some(fleet));
}

#[tokio::test]
async fn whoever_lost_its_list_still_has_the_last_word() {
    let dir = tempfile::tempdir().unwrap();
    let (founder, member) = (open(1, &dir, None).await, open(2, &dir, None).await);
    founder.init("").await.unwrap();
    let token = founder.enroll(node(2), &Enrolment::default()).await.unwrap();
    member.accept(&token).await.unwrap();
    for seed in 10..14 {
        founder.revoke(node(seed)).await.unwrap();
    }
    founder.present(node(2), Some(&token)).unwrap();
    member.learn(&founder.document(node(2)).unwrap()).await.unwrap();
    // The machine is set up anew, with its key and nothing else.
    std::fs::remove_file(dir.path().join("1").join(stored::FILE)).unwrap();
    let founder = open(1, &dir, None).await;
    founder.present(node(2), Some(&token)).unwrap();
    founder.revoke(node(20)).await.unwrap();
    member.learn(&founder.document(node(2)).unwrap()).await.unwrap();
    assert!(matches!(member.standing(node(20)), Err(Refusal::Revoked(_))));
}

#[tokio::test]
async fn the_fleet_of_the_configuration_is_the_only_one() {
    let dir = tempfile::tempdir().unwrap();
    let (founder, elsewhere) = (open(1, &dir, None).await, open(3, &dir, None).await);
    let (id, other) = (founder.init("").await.unwrap(), elsewhere.init("").await.unwrap());
    let member = open(2, &dir, Some(id)).await;
    let token = elsewhere.enroll(node(2), &Enrolment::default()).await.unwrap();
    let error = member.accept(&token).await.unwrap_err();
    assert!(matches!(error, FleetError::OtherFleet { configured, found } if (configured, found) == (id, other)));
    assert!(matches!(elsewhere.accept(&token).await, Err(FleetError::Membership(Refusal::OfAnother(_)))));
    let long = Enrolment { name: "x".repeat(65), ..Enrolment::default() };
    assert!(matches!(founder.enroll(node(2), &long).await, Err(FleetError::Argument(_))));
    let never = Enrolment { valid: Some(VALID_MAX + Duration::from_secs(1)), ..Enrolment::default() };
    assert!(matches!(founder.enroll(node(2), &never).await, Err(FleetError::Argument(_))));
}
