//! The fleet of this machine.

use super::Round;
use peernix::control::{Enrolment, ErrorKind, EventKind};
use peernix::peers::NodeKey;

pub(super) async fn checks(round: &mut Round<'_>) {
    let control = round.control;
    let mut listener = round.listen().await;
    let another = NodeKey::from_seed([99; 32]).id().to_string();
    if round.number == 0 {
        let before = control.fleet().await.unwrap();
        assert!(before.public_key.is_none() && before.membership.is_none() && !before.has_key);
        for outcome in [control.revoke_member(&another).await.map(|_| ()), control.invite_member().await.map(|_| ())] {
            round.refuses_this(ErrorKind::NoFleetKey, outcome);
        }
        let founded = control.init_fleet("home").await.unwrap();
        let ours = founded.membership.unwrap();
        assert!(founded.has_key && founded.problem.is_none() && ours.site == "home" && !ours.name.is_empty());
        assert_eq!(Some(&ours.id), control.status().await.ok().map(|status| status.node_id).as_ref());
        listener.hears(EventKind::FleetChanged, |event| event.to.as_deref() == Some("founded")).await;
    }
    let fleet = control.fleet().await.unwrap();
    // Who founded a fleet neither founds nor joins another.
    round.refuses_this(ErrorKind::OtherFleet, control.init_fleet("").await);
    round.refuses_this(ErrorKind::OtherFleet, control.join_fleet("37-4821-9375", None).await);
    round.refuses(ErrorKind::InvalidArgument, control.join_fleet("37-4821", None).await);
    round.refuses(ErrorKind::InvalidArgument, control.join_fleet("not.one", None).await);
    round.refuses(ErrorKind::InvalidArgument, control.join_fleet("not.one", Some("h:1")).await);
    round.refuses(ErrorKind::NoSuchPeer, control.revoke_member("nobody").await);

    let invitation = control.invite_member().await.unwrap();
    let digits = invitation.code.chars().filter(char::is_ascii_digit).count();
    assert!(digits == 10 && invitation.code.len() == 12 && invitation.expires_timestamp > 0, "{invitation:?}");

    let enrolment = |id: &str, name: &str, valid_usec| Enrolment {
        id: id.to_owned(),
        name: Some(name.to_owned()),
        site: Some("office".to_owned()),
        roles: vec!["gateway".to_owned()],
        valid_usec,
    };
    round.refuses(ErrorKind::InvalidArgument, control.enroll_member(enrolment(&another, "a", Some(0))).await);
    round.refuses(ErrorKind::InvalidArgument, control.enroll_member(enrolment(&another, &"a".repeat(65), None)).await);
    let membership = control.enroll_member(enrolment(&another, "birch", Some(3_600_000_000))).await.unwrap();
    assert_eq!(membership.split('.').count(), 2);
    listener.hears(EventKind::FleetChanged, |event| event.to.as_deref() == Some("enrolled")).await;
    // It is another machine's.
    round.refuses(ErrorKind::InvalidArgument, control.join_fleet(&membership, None).await);

    assert!(control.revoke_member(&another).await.unwrap() && !control.revoke_member(&another).await.unwrap());
    let event = listener.hears(EventKind::FleetChanged, |event| event.to.as_deref() == Some("revoked")).await;
    assert_eq!(event.peer.as_ref(), Some(&another));
    let revoked = control.fleet().await.unwrap().revoked;
    assert!(revoked.len() == 1 && revoked[0].id == another && revoked[0].since_timestamp > 0, "{revoked:?}");
    control.enroll_member(enrolment(&another, "birch", None)).await.unwrap();
    assert_eq!(control.fleet().await.unwrap(), fleet, "who is enrolled anew is not on the list any more");
}
