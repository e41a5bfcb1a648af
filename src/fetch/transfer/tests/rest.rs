//! Transfers that do not come to their end, and those that go on.

use super::*;
use crate::fetch::transfer::rest::RESTS_MIN;

const MIB: usize = 1024 * 1024;

/// A NAR of 20 MiB, and a cache directory.
fn world() -> (World, tempfile::TempDir) {
    let mut world = World::new(20 * MIB, 4 << 20);
    let dir = tempfile::tempdir().unwrap();
    let options = SpoolOptions { dir: Some(dir.path().to_owned()), max_size: 1 << 30, keep: Duration::from_secs(60) };
    if let Some(shared) = Arc::get_mut(&mut world.shared) {
        shared.place.spools = Spools::new(options);
    }
    assert!(world.content.len() as u64 >= RESTS_MIN);
    (world, dir)
}

/// Sends so many MiB, one a second, and is gone then.
fn slow_and_gone(number: u8, world: &World, mebibytes: usize, last: Act) -> Scripted {
    let acts = [Act::Wait(Duration::from_secs(1)), Act::Send(MIB)];
    let acts: Vec<Act> = acts.into_iter().cycle().take(mebibytes * 2).chain([last, Act::Die]).collect();
    Scripted::peer(number, &world.content, [Script::at_once(&acts), Script::Refuse(404)]).for_ever()
}

async fn is_empty(dir: &tempfile::TempDir) -> bool {
    for _ in 0..1000 {
        if std::fs::read_dir(dir.path()).unwrap().next().is_none() {
            return true;
        }
        sleep(Duration::from_millis(1)).await; // poll
    }
    false
}

#[tokio::test(start_paused = true)]
async fn what_came_of_a_transfer_that_failed_need_not_come_again() {
    let (world, dir) = world();
    let (outcome, _) = world.from(vec![slow_and_gone(1, &world, 10, Act::Die)]).await;
    assert!(outcome.result.is_err());
    let (outcome, sources) = world.from(vec![near(2, &world, &[])]).await;
    assert_eq!(outcome.result, Ok(()));
    assert!(outcome.read == world.content);
    assert_eq!(sources[0].record().opened, [10 * MIB as u64]);
    assert!(is_empty(&dir).await, "it is of no use any more");
}

#[tokio::test(start_paused = true)]
async fn what_is_left_and_wrong_costs_one_transfer() {
    let (world, dir) = world();
    let (outcome, _) = world.from(vec![slow_and_gone(1, &world, 10, Act::Corrupt(1000))]).await;
    assert!(outcome.result.is_err());
    let (outcome, sources) = world.from(vec![near(2, &world, &[])]).await;
    assert!(matches!(outcome.result, Err(TransferError::Corrupt(_))), "{:?}", outcome.result);
    assert!(sources[0].record().is_blameless());
    assert!(is_empty(&dir).await);
    let (outcome, _) = world.from(vec![near(2, &world, &[])]).await;
    assert_eq!(outcome.result, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_comes_fast_is_not_kept() {
    let (world, dir) = world();
    let dies =
        Scripted::peer(1, &world.content, [Script::at_once(&[Act::Send(10 * MIB), Act::Die]), Script::Refuse(404)]);
    let (outcome, _) = world.from(vec![dies.for_ever()]).await;
    assert!(outcome.result.is_err() && is_empty(&dir).await);
}

#[tokio::test(start_paused = true)]
async fn what_is_left_is_not_begun_with_where_nobody_can_go_on() {
    let (world, _dir) = world();
    let (outcome, _) = world.from(vec![slow_and_gone(1, &world, 10, Act::Die)]).await;
    assert!(outcome.result.is_err());
    let outcome = world.transfer(&[(Arc::new(near(2, &world, &[])), Arrival::Gone)]).await;
    assert!(outcome.result.is_err() && outcome.read.is_empty(), "{} bytes of no NAR", outcome.read.len());
    let (outcome, sources) = world.from(vec![near(2, &world, &[])]).await;
    assert_eq!(
        (outcome.result, &sources[0].record().opened[..]),
        (Ok(()), &[10 * MIB as u64][..]),
        "it is still there"
    );
}
