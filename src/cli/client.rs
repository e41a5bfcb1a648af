//! A plain HTTP client for the gateway on this machine.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpStream;

/// How long the gateway may take for an answer about itself.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest answer about itself, in bytes; a table of peers has some hundred bytes a peer.
const ANSWER_MAX: usize = 8 * 1024 * 1024;

/// An answer that did not come.
#[derive(Debug, Error)]
pub(super) enum ClientError {
    /// Nobody listens at any of the addresses.
    #[error("peernixd does not run here (nobody listens on {})", list(.0))]
    NotRunning(Vec<SocketAddr>),
    /// The connection could not be made for another reason, or broke.
    #[error("{0}: {1}")]
    Connection(SocketAddr, io::Error),
    /// Not HTTP, or cut off.
    #[error("{0}: the answer is broken: {1}")]
    Http(SocketAddr, Box<dyn std::error::Error + Send + Sync>),
    /// Another status than 200.
    #[error("{0}{1}: the answer is {2}")]
    Status(SocketAddr, String, StatusCode),
    /// It took too long.
    #[error("{0}{1}: no answer within {time} s", time = ANSWER_TIMEOUT.as_secs())]
    Slow(SocketAddr, String),
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Asks the first gateway that is there, and returns which one it was.
pub(super) async fn ask(gateways: &[SocketAddr], path: &str) -> Result<(SocketAddr, Bytes), ClientError> {
    for address in gateways {
        match tokio::time::timeout(ANSWER_TIMEOUT, get_whole(*address, path, ANSWER_MAX)).await {
            Ok(Err(ClientError::Connection(_, error))) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(answer) => return answer.map(|answer| (*address, answer)),
            Err(_) => return Err(ClientError::Slow(*address, path.to_owned())),
        }
    }
    Err(ClientError::NotRunning(gateways.to_vec()))
}

/// The body of a 200 of at most `limit` bytes.
pub(super) async fn get_whole(address: SocketAddr, path: &str, limit: usize) -> Result<Bytes, ClientError> {
    let body = Limited::new(get(address, path).await?.into_body(), limit);
    body.collect().await.map(http_body_util::Collected::to_bytes).map_err(|error| ClientError::Http(address, error))
}

/// A response with status 200, on a connection of its own.
pub(super) async fn get(address: SocketAddr, path: &str) -> Result<Response<Incoming>, ClientError> {
    let broken = |error: Box<dyn std::error::Error + Send + Sync>| ClientError::Http(address, error);
    let stream = TcpStream::connect(address).await.map_err(|error| ClientError::Connection(address, error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.into()))?;
    // It ends with its only request; what goes wrong on it is seen by who waits for the response.
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, address.to_string()).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| broken(error.into()))?;
    let response = sender.send_request(request).await.map_err(|error| broken(error.into()))?;
    if response.status() != StatusCode::OK {
        return Err(ClientError::Status(address, path.to_owned(), response.status()));
    }
    Ok(response)
}
