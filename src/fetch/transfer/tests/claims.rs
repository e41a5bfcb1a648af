//! Transfers of what nobody near has, among others who want the same.

use super::*;
use crate::fetch::claims::directory::{Loss, Role};
use crate::fetch::claims::scripted::Says;
pub(super) use crate::fetch::claims::scripted::Scripted as Others;
use crate::fetch::source::{SourceId, SourceName};
use crate::peers::{NodeId, NodeKey};
use tokio::sync::broadcast::Receiver;

fn id(number: u8) -> NodeId {
    NodeKey::from_seed([number; 32]).id()
}

/// One that is fetching it, and does this.
fn partial(number: u8, world: &World, acts: &[Act]) -> Arc<Scripted> {
    Arc::new(Scripted::partial(number, &world.content, [Script::at_once(acts)]))
}

fn follow(number: u8, source: &Arc<Scripted>) -> Says {
    Says::Follow(id(number), Arc::clone(source) as Arc<dyn Source>)
}

/// Whom the events say that this machine follows; `None` in it: it downloads.
fn claimed(events: &mut Receiver<FetchEvent>) -> Vec<Option<SourceName>> {
    let events = std::iter::from_fn(|| events.try_recv().ok());
    let claimed = |event| if let FetchEvent::TransferClaimed { follows, .. } = event { Some(follows) } else { None };
    events.filter_map(claimed).collect()
}

/// What others may stream of it by now.
async fn spooled(world: &World) -> Option<Bytes> {
    let body = world.shared.place.spools.read(world.info().nar_hash, 0)?;
    Some(body.collect().await.ok()?.to_bytes())
}

#[tokio::test(start_paused = true)]
async fn the_others_are_asked_before_the_internet_is_and_stream_what_comes() {
    for world in [World::whole(300 * KIB), World::streamed(3000 * KIB)] {
        let others = Others::new([Says::Download]);
        let world = world.among(&others);
        let mut events = world.shared.activity.subscribe();
        let (outcome, _) = world.from(vec![Scripted::upstream(1, &world.content, [])]).await;
        assert_eq!(outcome.result, Ok(()));
        assert_eq!(claimed(&mut events), [None], "it is told that this machine downloads");
        assert_eq!(others.asked.lock().as_slice(), [(0, vec![])]);
        assert!(spooled(&world).await.as_ref() == Some(&world.content), "it is kept for the others");
        while others.ended.lock().is_empty() {
            sleep(Duration::from_millis(1)).await; // poll
        }
        let ended = others.ended.lock().clone();
        assert_eq!((ended[0].role, ended[0].came), (Some(Role::Complete), world.content.len() as u64));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_peer_has_is_nobodys_download() {
    let others = Others::new([]);
    let world = World::whole(300 * KIB).among(&others);
    let upstream = Scripted::upstream(1, &world.content, []);
    let (outcome, sources) = world.from(vec![upstream, near(2, &world, &[])]).await;
    assert_eq!(outcome.result, Ok(()));
    assert!(others.asked.lock().is_empty() && sources[0].record().opened.is_empty());
    assert!(spooled(&world).await.is_none());
    // One that fails half-way is followed by others that are near, and then by what they say.
    let dies = [Script::at_once(&[Act::Send(100 * KIB), Act::Die]), Script::Refuse(404)];
    let dies = Scripted::peer(2, &world.content, dies).for_ever();
    let (outcome, _) = world.from(vec![Scripted::upstream(1, &world.content, []), dies]).await;
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(others.asked.lock().as_slice(), [(100 * KIB as u64, vec![])]);
    assert!(spooled(&world).await.is_none(), "its beginning is not there");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_followed_may_go_and_the_next_one_goes_on_at_the_byte() {
    let plain = World::streamed(300 * KIB);
    let dies = partial(1, &plain, &[Act::Send(100 * KIB), Act::Die]);
    let stalls = partial(2, &plain, &[Act::Send(50 * KIB), Act::Stall]);
    let others = Others::new([follow(1, &dies), follow(2, &stalls), Says::Download]);
    let world = plain.among(&others);
    let mut events = world.shared.activity.subscribe();
    // It has the file as it is, and can begin anywhere.
    let upstream = Scripted::upstream(3, &world.content, []);
    let (outcome, sources) = world.from(vec![upstream]).await;
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(claimed(&mut events), [Some(SourceName::Peer(id(1))), Some(SourceName::Peer(id(2))), None]);
    assert!(outcome.read == world.content);
    assert_eq!(sources[0].record().opened, [150 * KIB as u64]);
    let lost = |number, how| (id(number), how);
    let asked = others.asked.lock().clone();
    assert_eq!(asked[1], (100 * KIB as u64, vec![lost(1, Loss::Broke)]));
    assert_eq!(asked[2], (150 * KIB as u64, vec![lost(1, Loss::Broke), lost(2, Loss::Stalled)]));
    assert!((3..4).contains(&outcome.elapsed.as_secs()), "{:?}", outcome.elapsed);
    assert!([&dies, &stalls].iter().all(|source| source.record().is_blameless()));
    assert!(spooled(&world).await.as_ref() == Some(&world.content));
}

#[tokio::test(start_paused = true)]
async fn one_that_is_as_slow_as_the_internet_is_followed_and_one_that_drips_is_not() {
    let plain = World::whole(300 * KIB);
    let sends =
        |bytes| -> Vec<Act> { (0..100).flat_map(|_| [Act::Send(bytes), Act::Wait(Duration::from_secs(1))]).collect() };
    let others = Others::new([follow(1, &partial(1, &plain, &sends(5 * KIB)))]);
    let world = plain.among(&others);
    let (outcome, sources) = world.from(vec![Scripted::upstream(1, &world.content, [])]).await;
    assert_eq!((outcome.result, outcome.elapsed.as_secs()), (Ok(()), 59));
    assert!(sources[0].record().opened.is_empty());
    let plain = World::whole(300 * KIB);
    let others = Others::new([follow(1, &partial(1, &plain, &sends(KIB))), Says::Download]);
    let world = plain.among(&others);
    let (outcome, _) = world.from(vec![Scripted::upstream(1, &world.content, [])]).await;
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.elapsed < Duration::from_secs(7), "{:?}", outcome.elapsed);
    assert_eq!(others.asked.lock()[1].1, [(id(1), Loss::Stalled)]);
}

#[tokio::test(start_paused = true)]
async fn others_are_not_followed_for_longer_than_nix_waits() {
    let slowly: Vec<Act> = (0..400).flat_map(|_| [Act::Send(5 * KIB), Act::Wait(Duration::from_secs(1))]).collect();
    // Fast enough, and of so much that it would take 400 s.
    let plain = World::whole(2000 * KIB);
    let others = Others::new([follow(1, &partial(1, &plain, &slowly))]);
    let world = plain.among(&others);
    let (outcome, sources) = world.from(vec![Scripted::upstream(1, &world.content, [])]).await;
    assert_eq!((outcome.result, outcome.elapsed.as_secs()), (Ok(()), 150));
    assert_eq!(sources[0].record().opened.len(), 1);
    assert_eq!(others.asked.lock().len(), 1, "they are not asked once more");
    // Of what is there in time, or comes from nowhere else, or is read as it comes, there is no such end.
    let takes = async |world: World, has_upstream: bool| {
        let others = Others::new([follow(1, &partial(1, &world, &slowly))]);
        let world = world.among(&others);
        let busy = Scripted::peer(2, &world.content, [Script::Busy]).for_ever();
        let source = if has_upstream { Scripted::upstream(1, &world.content, []) } else { busy };
        let (outcome, _) = world.from(vec![source]).await;
        assert_eq!(outcome.result, Ok(()));
        outcome.elapsed.as_secs()
    };
    assert_eq!(takes(World::whole(1300 * KIB), true).await, 259);
    assert_eq!(takes(World::whole(2000 * KIB), false).await, 399);
    assert_eq!(takes(World::streamed(2000 * KIB), true).await, 399);
}

#[tokio::test(start_paused = true)]
async fn whoever_passed_on_what_was_wrong_is_not_followed_for_a_while() {
    let plain = World::streamed(300 * KIB);
    let passes_on = partial(1, &plain, &[Act::Corrupt(200 * KIB), Act::Die]);
    let others = Others::new([follow(1, &passes_on), Says::Download, follow(1, &passes_on)]);
    let mut world = plain.among(&others);
    let (outcome, _) = world.from(vec![Scripted::upstream(1, &world.content, [])]).await;
    assert!(matches!(outcome.result, Err(TransferError::Corrupt(_))), "readers have seen it");
    assert_eq!(others.asked.lock().len(), 2);
    // Again: nobody is asked about this NAR, and it comes from where it is right.
    let (outcome, _) = world.from(vec![Scripted::upstream(1, &world.content, [])]).await;
    assert_eq!((outcome.result, others.asked.lock().len()), (Ok(()), 2));
    // And of another one it is not taken.
    world.content = content(400 * KIB);
    let (outcome, sources) = world.from(vec![Scripted::upstream(1, &world.content, [])]).await;
    assert_eq!((outcome.result, others.asked.lock().len()), (Ok(()), 3));
    assert_eq!((sources[0].record().opened.len(), passes_on.record().opened.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn where_those_that_have_it_are_busy_others_may_have_got_it_from_them() {
    let plain = World::whole(300 * KIB);
    let busy = Arc::new(Scripted::peer(2, &plain.content, [Script::Busy]).for_ever());
    let others = Others::new([follow(1, &partial(1, &plain, &[]))]);
    let world = plain.among(&others);
    let outcome = world.transfer(&[(busy, Arrival::First)]).await;
    assert_eq!((outcome.result, others.asked.lock().len()), (Ok(()), 1));
    assert!(outcome.elapsed < Duration::from_secs(1), "{:?}", outcome.elapsed);
    // If nobody has, those that sent us away are asked again at once, before anything far away is.
    for says in [vec![Says::Download], vec![]] {
        let others = Others::new(says);
        let world = World::whole(300 * KIB).among(&others);
        let once = Scripted::peer(2, &world.content, [Script::Busy]);
        let (outcome, sources) = world.from(vec![Scripted::upstream(1, &world.content, []), once]).await;
        assert_eq!((outcome.result, others.asked.lock().len()), (Ok(()), 1));
        assert_eq!((sources[0].record().opened.len(), sources[1].record().opened.len()), (0, 2));
        assert!(outcome.elapsed < Duration::from_secs(1), "{:?}", outcome.elapsed);
    }
}

#[tokio::test(start_paused = true)]
async fn who_passes_on_what_is_wrong_is_to_blame_only_for_the_end() {
    // It was wrong where it came from, was found out there, and so had no end.
    let plain = World::whole(300 * KIB);
    let passes_on = partial(1, &plain, &[Act::Corrupt(100 * KIB), Act::Die]);
    let others = Others::new([follow(1, &passes_on), Says::Download]);
    let world = plain.among(&others);
    let (outcome, _) = world.from(vec![Scripted::upstream(1, &world.content, [])]).await;
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.read == world.content && passes_on.record().is_blameless());
    let suspicion = |world: &World| world.shared.suspects.suspicion(world.info().nar_hash, &SourceId::Partial(id(1)));
    assert_eq!(suspicion(&world), 1, "but it is not mixed with others any more");
    assert!(spooled(&world).await.is_none(), "what others had of it was as wrong");
    // It vouched for it.
    let plain = World::whole(300 * KIB);
    let liar = partial(1, &plain, &[Act::Corrupt(100 * KIB)]);
    let others = Others::new([follow(1, &liar), Says::Download]);
    let world = plain.among(&others);
    let (outcome, _) = world.from(vec![Scripted::upstream(1, &world.content, [])]).await;
    assert_eq!((outcome.result, liar.record().barred.len()), (Ok(()), 1));
    assert_eq!(others.asked.lock()[1], (0, vec![(id(1), Loss::Broke)]));
}

#[tokio::test(start_paused = true)]
async fn others_who_send_it_from_one_to_the_next_are_not_asked_for_ever() {
    let plain = World::whole(300 * KIB);
    let gone = Arc::new(Scripted::partial(1, &plain.content, [Script::Refuse(404)]).for_ever());
    let others = Others::new((0..100).map(|_| follow(1, &gone)));
    let world = plain.among(&others);
    let (outcome, _) = world.from(vec![Scripted::upstream(1, &world.content, [])]).await;
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(others.asked.lock().len(), 6);
    assert!(outcome.elapsed < Duration::from_secs(1), "{:?}", outcome.elapsed);
}

#[tokio::test(start_paused = true)]
async fn a_download_that_comes_to_nothing_is_given_up() {
    let others = Others::new([Says::Download]);
    let world = World::whole(300 * KIB).among(&others);
    let refuses = Scripted::upstream(1, &world.content, [Script::Refuse(404)]).for_ever();
    let (outcome, _) = world.from(vec![refuses]).await;
    assert!(matches!(outcome.result, Err(TransferError::NoSource(_))));
    let ended = others.ended.lock().clone();
    assert_eq!(ended.iter().map(|last| last.role).collect::<Vec<_>>(), [None]);
    assert!(spooled(&world).await.is_none());
}
