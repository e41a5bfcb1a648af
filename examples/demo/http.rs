//! A small HTTP client for a gateway.

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::{Response, StatusCode};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use std::net::SocketAddr;

/// A response with status 200, on a connection of its own.
pub(super) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<Response<Incoming>> {
    let client: Client<_, Empty<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
    let response = client.get(format!("http://{address}{path}").parse()?).await;
    let response = response.with_context(|| format!("{address}{path}"))?;
    ensure!(response.status() == StatusCode::OK, "{address}{path}: the answer is {}", response.status());
    Ok(response)
}

/// The body of a 200 of at most `limit` bytes.
pub(super) async fn get_whole(address: SocketAddr, path: &str, limit: usize) -> anyhow::Result<Bytes> {
    let body = Limited::new(get(address, path).await?.into_body(), limit).collect().await;
    Ok(body.map_err(|error| anyhow!("{address}{path}: the answer is broken: {error}"))?.to_bytes())
}
