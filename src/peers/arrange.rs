//! The task that decides anew who knows whom, whenever somebody came or went; by what rule is said in `relays`.

use super::fleet::Role;
use super::relays::{Layout, Member};
use super::shared::Shared;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;

/// How long after a change it is decided anew, once relays are there.
const GAP: Duration = Duration::from_millis(500);

/// Decides until everything stops; `is_willing`: this machine relays if it has to.
pub(super) async fn keep(shared: Arc<Shared>, is_willing: bool) {
    let mut events = shared.notices.events.subscribe();
    let arranging = async {
        loop {
            decide(&shared, is_willing);
            tokio::select! {
                event = events.recv() => if matches!(event, Err(RecvError::Closed)) { return },
                () = shared.notices.willing.notified() => {}
            }
            // Many come at once. The moment in which there are too many for everybody to know everybody is not to be missed: each one more is
            // a connection.
            if **shared.layout().borrow() != Layout::Mesh {
                tokio::time::sleep(GAP).await; // pace
                events = events.resubscribe();
            }
        }
    };
    shared.stop.run_until_cancelled(arranging).await;
}

fn decide(shared: &Shared, is_willing: bool) {
    // In a fleet also those whose membership says that they are not to.
    let may = |member: Member| {
        let is_willing =
            member.is_willing.map(|is_willing| is_willing && shared.admission.allows(member.id, Role::Relay));
        Member { is_willing, ..member }
    };
    let us = may(Member { id: shared.id, is_proved: true, is_willing: Some(is_willing) });
    let peers = shared.table.all();
    // Before the layout is locked: each has a lock of its own.
    let members: Vec<Member> = peers.iter().filter_map(|peer| peer.record().member(peer.id())).map(may).collect();
    shared.layout().send_if_modified(|layout| {
        let next = Layout::of(layout, us, members.into_iter());
        let is_another = next != **layout;
        if is_another {
            log::info!("{}", next.said());
            *layout = Arc::new(next);
        }
        is_another
    });
    if shared.layout().borrow().is_leaf() {
        shared.table.shorten().iter().for_each(|peer| shared.dismiss(peer));
    }
}
