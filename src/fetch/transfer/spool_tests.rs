use super::*;
use crate::nix::PathInfo;
use http_body_util::BodyExt;
use tokio::task::yield_now;

fn options(max_size: u64) -> SpoolOptions {
    SpoolOptions { dir: Some(std::env::temp_dir()), max_size, keep: Duration::from_secs(60) }
}

fn info(number: u8, size: usize) -> PathInfo {
    PathInfo { nar_hash: NarHash::new([number; 32]), nar_size: size as u64, ..PathInfo::example() }
}

fn content(size: usize) -> Bytes {
    crate::fetch::source::scripted::content(size)
}

/// A spool that is all there.
async fn proved(spools: &Spools, number: u8, size: usize) {
    let mut writer = spools.open(&info(number, size), false).expect("there is room");
    for chunk in content(size).chunks(100_000) {
        writer.push(Bytes::copy_from_slice(chunk)).await;
    }
    assert!(writer.proved().await.await);
}

async fn read(spools: &Spools, number: u8, from: u64) -> Option<Bytes> {
    Some(spools.read(NarHash::new([number; 32]), from)?.collect().await.ok()?.to_bytes())
}

#[tokio::test]
async fn what_was_written_is_read_from_any_byte_on() {
    let spools = Spools::new(options(1 << 30));
    // In memory, and in a file.
    for (number, size) in [(1, 200_000), (2, 3_000_000)] {
        proved(&spools, number, size).await;
        for from in [0, 1, 199_999] {
            let expected = content(size).slice(from..);
            assert!(read(&spools, number, from as u64).await == Some(expected), "{size} from {from}");
        }
        assert_eq!(read(&spools, number, size as u64).await, Some(Bytes::new()));
        assert_eq!(read(&spools, number, size as u64 + 1).await, None);
    }
    assert_eq!(spools.size(), 3_200_000);
}

#[tokio::test]
async fn it_is_streamed_as_it_comes_and_without_its_end_until_it_is_proved() {
    let spools = Spools::new(options(1 << 30));
    let size = 300_000;
    let mut writer = spools.open(&info(1, size), false).unwrap();
    let mut body = spools.read(NarHash::new([1; 32]), 0).unwrap();
    assert_eq!((spools.sends(), body.size_hint().exact()), (1, Some(size as u64)));
    let mut came = 0;
    for chunk in content(size).chunks(50_000) {
        writer.push(Bytes::copy_from_slice(chunk)).await;
        let may_have = (came + 50_000).min(size - usize::try_from(WITHHELD).unwrap());
        let mut had = came.min(may_have);
        while had < may_have {
            had += body.frame().await.unwrap().unwrap().into_data().unwrap().len();
        }
        assert_eq!(had, may_have);
        came = had;
    }
    // All was written, and nobody knows yet whether it is right.
    let waits = timeout(Duration::from_millis(50), body.frame()).await;
    assert!(waits.is_err(), "the end is withheld");
    assert!(writer.proved().await.await);
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(rest == content(size).slice(size - usize::try_from(WITHHELD).unwrap()..));
    while spools.sends() > 0 {
        yield_now().await; // poll
    }
}

#[tokio::test]
async fn what_does_not_come_to_its_end_has_none() {
    let spools = Spools::new(options(1 << 30));
    let mut writer = spools.open(&info(1, 200_000), false).unwrap();
    let body = spools.read(NarHash::new([1; 32]), 0).unwrap();
    writer.push(content(150_000)).await;
    assert!(spools.open(&info(1, 200_000), false).is_none(), "one is there");
    drop(writer);
    assert!(matches!(body.collect().await, Err(SpoolError::Ended)));
    assert!(read(&spools, 1, 0).await.is_none() && spools.size() == 0);
    proved(&spools, 1, 200_000).await;
    assert!(read(&spools, 1, 0).await.is_some(), "another try");
}

#[tokio::test]
async fn the_oldest_makes_room_and_what_is_in_use_does_not() {
    let spools = Spools::new(options(1_000_000));
    for number in 1..=3 {
        proved(&spools, number, 300_000).await;
        // Both have been read to their end, the second one last.
        assert!(read(&spools, number, 0).await.is_some());
    }
    let reading = spools.read(NarHash::new([1; 32]), 0).unwrap();
    proved(&spools, 4, 400_000).await;
    assert!(read(&spools, 1, 0).await.is_some() && read(&spools, 3, 0).await.is_some());
    assert!(read(&spools, 2, 0).await.is_none(), "it was used before the third");
    assert!(spools.open(&info(5, 1_000_001), false).is_none(), "larger than all may be");
    let mut growing = spools.open(&info(6, 600_000), false).unwrap();
    assert!(spools.open(&info(7, 600_000), false).is_none(), "neither what is read nor what grows makes room");
    growing.push(content(1)).await;
    drop(reading);
}

#[tokio::test(start_paused = true)]
async fn nobody_keeps_it_for_ever() {
    let spools = Spools::new(options(1 << 30));
    proved(&spools, 1, 200_000).await;
    sleep(Duration::from_secs(40)).await; // pace
    assert!(read(&spools, 1, 0).await.is_some());
    sleep(Duration::from_secs(40)).await; // pace
    assert_eq!(spools.size(), 200_000, "it was read since");
    sleep(Duration::from_secs(130)).await; // pace
    assert_eq!(spools.size(), 0);
    proved(&spools, 2, 200_000).await;
    spools.set(SpoolOptions { keep: Duration::ZERO, ..options(1 << 30) });
    sleep(Duration::from_secs(61)).await; // pace
    assert_eq!(spools.size(), 0, "and by other options sooner");
    let mut growing = spools.open(&info(3, 200_000), false).unwrap();
    sleep(Duration::from_secs(5)).await; // pace
    assert!(growing.push(content(1)).await && spools.size() == 200_000, "what comes is kept as long as it comes");
    drop(growing);
    for number in 4..8 {
        drop(spools.open(&info(number, 200_000), false));
    }
    let kept = || spools.0.spools.lock().is_swept;
    assert!(kept(), "one task looks after them");
    sleep(Duration::from_secs(61)).await; // pace
    assert!(!kept(), "and none when there is nothing");
}

#[tokio::test]
async fn without_a_directory_only_small_ones_are_kept() {
    let spools = Spools::new(SpoolOptions { dir: None, ..options(1 << 30) });
    proved(&spools, 1, 200_000).await;
    assert!(spools.open(&info(2, 2_000_000), false).is_none());
    let nowhere = Spools::new(SpoolOptions { dir: Some("/nonexistent".into()), ..options(1 << 30) });
    // That is known once it is tried.
    let mut writer = nowhere.open(&info(2, 2_000_000), false).unwrap();
    let chunk = content(1000);
    timeout(Duration::from_secs(10), async { while writer.push(chunk.clone()).await {} }).await.unwrap();
    assert!(!writer.proved().await.await && nowhere.size() == 0);
}
