use super::*;
use http_body_util::BodyExt;

fn chunk(byte: u8, length: usize) -> Bytes {
    vec![byte; length].into()
}

/// Writes a chunk, and releases all but the last `withheld` bytes.
async fn write(stream: &Fanout, chunk: Bytes, withheld: u64) -> Result<(), TransferError> {
    stream.write(chunk).await?;
    let end = stream.state().end;
    stream.release(end.saturating_sub(withheld));
    Ok(())
}

/// All that `reader` gives, and how it ended.
async fn drain(mut reader: FanoutBody) -> (Vec<u8>, Result<(), TransferError>) {
    let mut all = Vec::new();
    while let Some(frame) = reader.frame().await {
        match frame {
            Ok(frame) => all.extend_from_slice(&frame.into_data().unwrap()),
            Err(error) => return (all, Err(error)),
        }
    }
    (all, Ok(()))
}

#[tokio::test]
async fn readers_get_the_same_bytes_from_their_offsets() {
    let stream = Fanout::new(3000, 1000, None);
    let readers: Vec<_> = [0, 500, 1500, 3000].map(|offset| (offset, stream.reader(offset).unwrap())).into();
    let readers: Vec<_> = readers.into_iter().map(|(offset, reader)| (offset, tokio::spawn(drain(reader)))).collect();
    for byte in 0..3 {
        write(&stream, chunk(byte, 1000), 0).await.unwrap();
    }
    stream.finish(Ok(()));
    let all: Vec<u8> = (0..3).flat_map(|byte| [byte; 1000]).collect();
    for (offset, reader) in readers {
        assert_eq!(reader.await.unwrap(), (all[usize::try_from(offset).unwrap()..].to_vec(), Ok(())), "from {offset}");
    }
}

#[tokio::test]
async fn nothing_is_read_before_it_is_released() {
    let stream = Fanout::new(2000, 2000, None);
    let mut progress = stream.progress();
    let mut reader = stream.reader(0).unwrap();
    write(&stream, chunk(1, 1000), 2000).await.unwrap();
    assert_eq!(*progress.borrow_and_update(), Progress::Pending);
    assert!(futures_poll(&mut reader).await.is_pending());

    assert_eq!(stream.restart(), [chunk(1, 1000)]);
    write(&stream, chunk(2, 2000), 1500).await.unwrap();
    assert_eq!(*progress.borrow_and_update(), Progress::Flowing);
    let first = reader.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(first, chunk(2, 500), "what was written before the restart is gone");
    stream.finish(Err(TransferError::Corrupt("test".into())));
    assert_eq!(drain(reader).await, (vec![], Err(TransferError::Corrupt("test".into()))));
}

async fn futures_poll(reader: &mut FanoutBody) -> Poll<Option<Result<Frame<Bytes>, TransferError>>> {
    std::future::poll_fn(|context| Poll::Ready(Pin::new(&mut *reader).poll_frame(context))).await
}

#[tokio::test]
async fn a_stream_that_keeps_everything_takes_late_readers() {
    let stream = Fanout::new(1000, 1000, None);
    let early = stream.reader(0).unwrap();
    write(&stream, chunk(1, 1000), 0).await.unwrap();
    let early = tokio::spawn(drain(early));
    tokio::task::yield_now().await;
    let late = stream.reader(0).unwrap();
    stream.finish(Ok(()));
    assert_eq!(early.await.unwrap().0.len(), 1000);
    assert_eq!(drain(late).await, (vec![1; 1000], Ok(())));
}

#[tokio::test]
async fn a_window_forgets_and_refuses_who_comes_too_late() {
    let stream = Fanout::new(4000, 1000, None);
    let mut reader = stream.reader(0).unwrap();
    for byte in 0..3 {
        write(&stream, chunk(byte, 1000), 0).await.unwrap();
        reader.frame().await.unwrap().unwrap();
    }
    write(&stream, chunk(3, 1000), 0).await.unwrap();
    assert!(stream.reader(0).is_none());
    assert!(stream.reader(3000).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_single_slow_reader_holds_the_writer_without_losing_anything() {
    let stream = Fanout::new(3000, 1000, None);
    let reader = stream.reader(0).unwrap();
    let writer = tokio::spawn({
        let stream = Arc::clone(&stream);
        async move {
            for byte in 0..3 {
                write(&stream, chunk(byte, 1000), 0).await.unwrap();
            }
            stream.finish(Ok(()));
        }
    });
    // Far longer than LAG; time is virtual.
    tokio::time::sleep(Duration::from_secs(600)).await; // pace
    assert!(!writer.is_finished());
    assert_eq!(drain(reader).await.0.len(), 3000);
    writer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_stuck_reader_does_not_hold_up_the_others_for_ever() {
    let stream = Fanout::new(3000, 1000, None);
    let stuck = stream.reader(0).unwrap();
    let good = tokio::spawn(drain(stream.reader(0).unwrap()));
    for byte in 0..3 {
        write(&stream, chunk(byte, 1000), 0).await.unwrap();
    }
    stream.finish(Ok(()));
    assert_eq!(good.await.unwrap().0.len(), 3000);
    assert_eq!(drain(stuck).await.1, Err(TransferError::Lagging));
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_readers_is_given_up_after_a_while() {
    let stream = Fanout::new(3000, 1000, None);
    drop(stream.reader(0));
    let written = write(&stream, chunk(0, 1000), 0).await;
    assert_eq!(written, Err(TransferError::Abandoned));
}

#[tokio::test]
async fn failure_is_told_to_those_who_wait_for_the_start() {
    let stream = Fanout::new(1000, 1000, None);
    let mut progress = stream.progress();
    let error = TransferError::NoSource("test".into());
    stream.finish(Err(error.clone()));
    assert_eq!(*progress.wait_for(|p| *p != Progress::Pending).await.unwrap(), Progress::Failed(error));
}

#[tokio::test]
async fn an_empty_stream_flows() {
    let stream = Fanout::new(0, 0, None);
    let reader = stream.reader(0).unwrap();
    stream.finish(Ok(()));
    assert_eq!(*stream.progress().borrow(), Progress::Flowing);
    assert_eq!(drain(reader).await, (vec![], Ok(())));
}

#[tokio::test]
async fn tiny_chunks_are_gathered() {
    let stream = Fanout::new(100_000, 100_000, None);
    let reader = stream.reader(0).unwrap();
    for byte in 0..100_000u32 {
        write(&stream, chunk(byte.to_le_bytes()[0], 1), 0).await.unwrap();
    }
    let kept = stream.kept();
    assert!(kept.len() <= 100_000 / (GATHERED - SMALL), "{} chunks", kept.len());
    stream.finish(Ok(()));
    let expected: Vec<u8> = (0..100_000u32).map(|byte| byte.to_le_bytes()[0]).collect();
    assert!(drain(reader).await.0 == expected);
}
