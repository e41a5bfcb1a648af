//! Which requests share a connection, and what a full share is taken for.

use super::*;
use crate::peers::link::pool::IDLE_MAX;

/// A server that knows HTTP/2.
async fn serve_many(key: &NodeKey) -> (SocketAddr, Arc<Seen>) {
    let acceptor = Acceptor::new(key, Admission::Open).unwrap().multiplexed();
    let (address, seen, mut tasks) = serve_with(acceptor).await;
    tasks.detach_all();
    (address, seen)
}

/// So many GETs at once, each read to its end.
async fn gets(pool: &Arc<Pool>, target: &'static str, address: SocketAddr, count: usize) {
    let mut all = JoinSet::new();
    for _ in 0..count {
        let pool = Arc::clone(pool);
        all.spawn(async move {
            let (response, _) = pool.get(target, None, &[address]).await.unwrap();
            response.into_body().collect().await.unwrap().to_bytes().len()
        });
    }
    let size: usize = target.rsplit('/').next().unwrap().parse().unwrap();
    assert!(all.join_all().await.into_iter().all(|got| got == size));
}

#[tokio::test]
async fn what_is_small_shares_one_connection() {
    let server = key(1);
    let (address, seen) = serve_many(&server).await;
    let pool = Arc::new(pool(&server));
    for _ in 0..3 {
        gets(&pool, "/100000", address, 50).await;
    }
    let counts = (seen.connections.load(Ordering::Relaxed), seen.multiplexed.load(Ordering::Relaxed));
    assert_eq!(counts, (1, 1));
}

#[tokio::test]
async fn each_nar_has_a_connection_and_few_are_kept() {
    let server = key(1);
    let (address, seen) = serve_many(&server).await;
    let pool = Arc::new(pool(&server));
    gets(&pool, "/nar/300000", address, 20).await;
    let first = seen.connections.load(Ordering::Relaxed);
    assert_eq!(seen.multiplexed.load(Ordering::Relaxed), 0, "over HTTP/1.1");
    assert!((2..=20).contains(&first), "{first}");
    // Until the tasks that wait for the ends of the bodies have given the connections back.
    while pool.idle_now() < IDLE_MAX {
        tokio::task::yield_now().await;
    }
    gets(&pool, "/nar/10", address, 1).await;
    assert_eq!(seen.connections.load(Ordering::Relaxed), first, "one that was kept");
    assert!(pool.idle_now() <= IDLE_MAX);
}

#[tokio::test]
async fn old_and_new_machines_understand_each_other() {
    let server = key(1);
    // A new client: an old server.
    let (address, seen) = serve_forever(&server).await;
    let pool = Arc::new(pool(&server));
    gets(&pool, "/10", address, 10).await;
    gets(&pool, "/10", address, 10).await;
    assert_eq!(seen.multiplexed.load(Ordering::Relaxed), 0);
    assert!(seen.connections.load(Ordering::Relaxed) <= 11, "{:?}", seen.connections);
    // It is updated.
    let (address, seen) = serve_many(&server).await;
    pool.clear();
    drop(pool.dial(&[address]).await.unwrap());
    gets(&pool, "/10", address, 10).await;
    assert_eq!(seen.multiplexed.load(Ordering::Relaxed), 2, "noticed when it was dialled");
    // An old client, which offers nothing else: a new server.
    let old = target(&key(2), Admission::Open, None);
    let mut connection = old.dial_single(&[address]).await.unwrap();
    let message = Call::Get { target: "/10", from: None }.to_message(connection.id()).unwrap();
    let (response, _) = connection.request(message).await.unwrap();
    assert_eq!((connection.is_multiplexed(), response.version()), (false, hyper::Version::HTTP_11));
}

#[tokio::test]
async fn a_shared_connection_that_fails_is_replaced() {
    let server = key(1);
    let (address, seen) = serve_many(&server).await;
    let pool = pool(&server);
    for _ in 0..4 {
        pool.get("/once", None, &[address]).await.unwrap();
    }
    assert_eq!(seen.connections.load(Ordering::Relaxed), 4);
}

#[tokio::test]
async fn a_connection_that_somebody_watches_carries_what_is_small() {
    let server = key(1);
    let (address, seen) = serve_many(&server).await;
    let pool = Arc::new(pool(&server));
    let watched = pool.dial(&[address]).await.unwrap();
    pool.adopt(&watched);
    gets(&pool, "/10", address, 20).await;
    assert_eq!(seen.connections.load(Ordering::Relaxed), 1);
    pool.clear();
    gets(&pool, "/10", address, 20).await;
    assert_eq!(seen.connections.load(Ordering::Relaxed), 2, "not when it is in doubt");
}

/// Answers connections with these bytes and their end; counts them.
async fn closing(says: &'static [u8]) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, count) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let _ = stream.write_all(says).await;
        }
    });
    (address, count)
}

#[tokio::test]
async fn a_close_without_a_word_is_no_fault() {
    let server = key(1);
    let (full, count) = closing(b"").await;
    let (broken, _) = closing(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let pool = Arc::new(pool(&server));
    for target in ["/10", "/nar/10"] {
        let error = pool.get(target, None, &[full]).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, LinkError::Busy(address) if address == full), "{error}");
        assert!(!error.doubts_peer());
        let error = pool.get(target, None, &[broken]).await.map(|_| ()).unwrap_err();
        assert!(matches!(error, LinkError::Handshake { .. }), "{error}");
        assert!(error.doubts_peer());
    }
    // All who wait for one connection learn from its end.
    count.store(0, Ordering::Relaxed);
    let mut waiting = JoinSet::new();
    for _ in 0..25 {
        let pool = pool.clone();
        waiting.spawn(async move { pool.get("/10", None, &[full]).await.map(|_| ()).unwrap_err() });
    }
    assert!(waiting.join_all().await.iter().all(|error| matches!(error, LinkError::Busy(_))));
    assert!(count.load(Ordering::Relaxed) <= 2, "{count:?}");
}
