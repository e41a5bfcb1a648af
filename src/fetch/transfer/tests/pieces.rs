//! Transfers of large NARs that several machines have.

use super::*;
use crate::fetch::pieces::table::{Chain, LINK, PIECE, PieceTable};
use crate::nix::StorePath;

const PIECES: u64 = 24;
/// So much of the last piece is missing, in bytes.
const SHORT: u64 = 100;

fn world() -> World {
    World::new(usize::try_from(PIECES * PIECE - SHORT).unwrap(), 4 << 20)
}

fn table(content: &[u8]) -> PieceTable {
    let mut chain = Chain::start();
    chain.update(content);
    chain.finish().1.expect("it has one")
}

/// A member that takes so many milliseconds for each request, beside what it does; all of its requests meet that.
fn member(number: u8, world: &World, table: &PieceTable, script: Script) -> Scripted {
    Scripted::peer(number, &world.content, [script]).for_ever().telling(table.clone())
}

fn pieces_sent(source: &Scripted) -> u64 {
    source.record().successes.iter().sum::<u64>().div_ceil(PIECE)
}

const fn after(milliseconds: u64) -> Script {
    Script::Answer(Duration::from_millis(milliseconds), Vec::new())
}

#[tokio::test(start_paused = true)]
async fn several_send_other_pieces_of_one_nar() {
    let world = world();
    let table = table(&world.content);
    let mut events = world.shared.activity.subscribe();
    let (outcome, sources) =
        world.from((1..=4).map(|number| member(number, &world, &table, after(50))).collect()).await;
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.read == world.content);
    let sent: Vec<u64> = sources.iter().map(|source| pieces_sent(source)).collect();
    assert!(sent.iter().all(|sent| *sent >= 3) && sent.iter().sum::<u64>() == PIECES, "{sent:?}");
    assert!(sources.iter().all(|source| source.record().is_blameless()));
    let metrics = &world.shared.metrics;
    assert_eq!((metrics.pieces_right.get(), metrics.pieces_wrong.get()), (PIECES, 0));
    let size = world.content.len() as u64;
    assert!((size..=size + 2 * PIECE).contains(&metrics.fetched_peer_bytes.get()));
    assert_eq!(world.shared.pieces.tables.get(&world.info().nar_hash), Some(table), "others can be told it now");
    let named = std::iter::from_fn(|| events.try_recv().ok()).find_map(|event| match event {
        FetchEvent::TransferFinished { sources, .. } => Some(sources.len()),
        _ => None,
    });
    assert!(named.is_none() || named == Some(4), "the registry tells of the end: {named:?}");
}

#[tokio::test(start_paused = true)]
async fn a_liar_wastes_one_piece_and_is_named() {
    let world = world();
    let table = table(&world.content);
    let lies = member(1, &world, &table, Script::at_once(&[Act::Corrupt(1000)]));
    let others = [2, 3].map(|number| member(number, &world, &table, after(30)));
    let mut events = world.shared.activity.subscribe();
    let (outcome, sources) = world.from(std::iter::once(lies).chain(others).collect()).await;
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.read == world.content);
    assert_eq!((world.shared.metrics.pieces_wrong.get(), sources[0].record().barred.len()), (1, 1));
    assert!(sources[1..].iter().all(|source| source.record().is_blameless()));
    let told: Vec<StorePath> = std::iter::from_fn(|| events.try_recv().ok())
        .filter_map(|event| if let FetchEvent::Violation { path, .. } = event { path } else { None })
        .collect();
    assert_eq!(told, [world.info().path]);
}

#[tokio::test(start_paused = true)]
async fn whoever_tells_another_table_than_most_takes_no_part_and_is_named_at_the_end() {
    let world = world();
    let table = table(&world.content);
    let mut forged = table.to_bytes().to_vec();
    forged[3 * LINK] ^= 1;
    let forged = PieceTable::parse(forged.into(), world.content.len() as u64).unwrap();
    let liar = member(1, &world, &forged, after(0));
    let others = [2, 3].map(|number| member(number, &world, &table, after(30)));
    let (outcome, sources) = world.from(std::iter::once(liar).chain(others).collect()).await;
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.read == world.content);
    let record = sources[0].record();
    assert!(record.opened.is_empty() && record.banned.len() == 1, "{record:?}");
}

#[tokio::test(start_paused = true)]
async fn with_one_word_against_another_nobody_is_believed_and_one_sends_all() {
    let world = world();
    let table = table(&world.content);
    let mut forged = table.to_bytes().to_vec();
    forged[3 * LINK] ^= 1;
    let forged = PieceTable::parse(forged.into(), world.content.len() as u64).unwrap();
    let sources = vec![member(1, &world, &forged, after(0)), member(2, &world, &table, after(0))];
    let (outcome, sources) = world.from(sources).await;
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(sources.iter().map(|source| source.record().opened.len()).sum::<usize>(), 1);
}

#[tokio::test(start_paused = true)]
async fn members_that_die_or_stall_are_replaced_by_the_others_in_less_than_two_seconds() {
    let world = world();
    let table = table(&world.content);
    for act in [Act::Die, Act::Stall] {
        let fails = member(1, &world, &table, Script::at_once(&[act]));
        let honest = [2, 3].map(|number| member(number, &world, &table, after(10)));
        let (outcome, sources) = world.from(std::iter::once(fails).chain(honest).collect()).await;
        assert_eq!(outcome.result, Ok(()));
        assert!(outcome.elapsed < Duration::from_secs(2), "{act:?}: {:?}", outcome.elapsed);
        assert!(sources[0].record().is_blameless());
    }
}

#[tokio::test(start_paused = true)]
async fn where_all_members_fail_somebody_else_goes_on() {
    let world = world();
    let table = table(&world.content);
    let dies = |number| member(number, &world, &table, Script::Refuse(404));
    let upstream = Scripted::upstream(9, &world.content, []);
    let (outcome, sources) = world.from(vec![dies(1), dies(2), upstream]).await;
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.read == world.content);
    assert!(sources[2].record().opened.len() == 1 && outcome.elapsed < Duration::from_secs(5), "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn what_is_small_or_has_one_machine_comes_as_ever() {
    let large = world();
    let alone = member(1, &large, &table(&large.content), after(0));
    let (outcome, sources) = large.from(vec![alone, near(2, &large, &[])]).await;
    assert_eq!(outcome.result, Ok(()));
    assert_eq!(sources.iter().map(|source| source.record().opened.len()).sum::<usize>(), 1);
    let small = World::streamed(3000 * KIB);
    let of = |number| member(number, &small, &table(&small.content), after(0));
    let (outcome, _) = small.from(vec![of(1), of(2)]).await;
    assert_eq!((outcome.result, small.shared.metrics.pieces_right.get()), (Ok(()), 0));
}
