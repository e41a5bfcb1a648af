//! A plain HTTP client for the gateway on this machine.

use anyhow::{anyhow, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::fmt::Display;
use std::net::SocketAddr;
use tokio::net::TcpStream;

/// The body of a 200 of at most `limit` bytes, on a connection of its own.
pub(super) async fn get(address: SocketAddr, path: &str, limit: usize) -> anyhow::Result<Bytes> {
    let broken = |error: &dyn Display| anyhow!("{address}: the answer is broken: {error}");
    let stream = TcpStream::connect(address).await.map_err(|error| anyhow!("{address}: {error}"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    // It ends with its only request; what goes wrong on it is seen by who waits for the response.
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, address.to_string()).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
    ensure!(response.status() == StatusCode::OK, "{address}{path}: the answer is {}", response.status());
    let body = Limited::new(response.into_body(), limit).collect().await.map_err(|error| broken(&error))?;
    Ok(body.to_bytes())
}
