//! A server that is far away. The kernels of test machines have no netem, so what is delayed is what a connection carries:
//! half a round trip each way, and a whole one more before the first bytes, which a handshake of TCP would have taken.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Bytes that are on the way at most: more than a fast line holds in the longest round trip of a case.
const ON_THE_WAY: usize = 4 << 20;
/// The most bytes that travel as one.
const PACKET: usize = 64 << 10;

/// The near end of a connection whose other end is `round_trip` away.
pub(crate) fn away(stream: TcpStream, round_trip: Duration) -> DuplexStream {
    let (near, far) = tokio::io::duplex(ON_THE_WAY);
    let (from_client, to_client) = stream.into_split();
    let (from_server, to_server) = tokio::io::split(far);
    let way = round_trip / 2;
    tokio::spawn(carry(from_client, to_server, way, round_trip));
    tokio::spawn(carry(from_server, to_client, way, Duration::ZERO));
    near
}

/// Hands on what comes, `way` later; nothing before `handshake` and that are over.
async fn carry(
    mut from: impl AsyncRead + Unpin + Send,
    mut to: impl AsyncWrite + Unpin + Send,
    way: Duration,
    handshake: Duration,
) {
    let opened = Instant::now() + handshake;
    let mut under_way: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
    let mut buffer = vec![0; PACKET];
    let mut open = true;
    while open || !under_way.is_empty() {
        let next = under_way.front().map(|(at, _)| *at);
        tokio::select! {
            read = from.read(&mut buffer), if open => match read {
                Ok(count @ 1..) => {
                    under_way.push_back((Instant::now().max(opened) + way, buffer[..count].to_vec()));
                }
                _ => open = false,
            },
            // pace: the way itself.
            () = tokio::time::sleep_until(next.unwrap_or(opened)), if next.is_some() => {
                if let Some((_, bytes)) = under_way.pop_front()
                    && to.write_all(&bytes).await.is_err()
                {
                    return;
                }
            }
        }
    }
    // The other side learns of the end likewise; whether it is still there does not matter.
    let _ = to.shutdown().await;
}
