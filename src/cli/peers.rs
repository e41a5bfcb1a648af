//! `peernixctl peers`.

use super::{client, output};
use anyhow::Context as _;
use serde::Deserialize;
use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;

/// How many characters of a node id tell machines apart for people.
const ID_SHOWN: usize = 12;

/// What the table shows of a peer; the service may say more.
#[derive(Debug, Deserialize)]
#[serde(default)]
#[derive(Default)]
pub(super) struct Row {
    pub(super) id: String,
    name: String,
    addresses: Vec<String>,
    pub(super) state: String,
    source: String,
    latency_us: Option<u64>,
    throughput: Option<u64>,
    failures: u64,
    ban: Option<Ban>,
}

#[derive(Debug, Deserialize)]
struct Ban {
    reason: String,
}

/// Lists the peers.
pub(super) async fn run(gateways: &[SocketAddr], json: bool) -> anyhow::Result<u8> {
    let (gateway, answer) = client::ask(gateways, "/peers").await?;
    let unexpected = || format!("{gateway}/peers is not what peernixd says");
    let text = if json {
        output::json(&serde_json::from_slice::<Value>(&answer).with_context(unexpected)?)
    } else {
        render(&serde_json::from_slice::<Vec<Row>>(&answer).with_context(unexpected)?)
    };
    output::print(&text)?;
    Ok(0)
}

fn render(peers: &[Row]) -> String {
    if peers.is_empty() {
        return "No peers yet. Machines on this network that run peernixd appear here by themselves; others are named in \
                [discovery] peers.\n"
            .to_owned();
    }
    let rows: Vec<Vec<String>> = peers
        .iter()
        .map(|peer| {
            vec![
                peer.id.chars().take(ID_SHOWN).collect(),
                peer.name.clone(),
                peer.ban.as_ref().map_or_else(|| peer.state.clone(), |ban| format!("{}: {}", peer.state, ban.reason)),
                peer.latency_us.map_or_else(|| "-".to_owned(), latency),
                peer.throughput.map_or_else(|| "-".to_owned(), |rate| format!("{}/s", output::size(rate))),
                peer.failures.to_string(),
                peer.source.clone(),
                peer.addresses.first().cloned().unwrap_or_default(),
            ]
        })
        .collect();
    let header = ["ID", "NAME", "STATE", "LATENCY", "SPEED", "FAILURES", "SOURCE", "ADDRESS"];
    let online = peers.iter().filter(|peer| peer.state == "online").count();
    format!("{}\n{} known, {online} online.\n", output::table(&header, &rows), peers.len())
}

fn latency(microseconds: u64) -> String {
    format!("{:.1?}", Duration::from_micros(microseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_service_says_is_shown() {
        let peers: Vec<Row> = serde_json::from_str(
            r#"[{"id":"0123456789abcdefgh","name":"tower","addresses":["192.0.2.7:7650"],"state":"online","source":"mdns",
                 "latency_us":420,"throughput":1048576,"failures":0,"later":true},
                {"id":"x","state":"blocked","ban":{"reason":"wrong hash","seconds":3},"addresses":[]}]"#,
        )
        .unwrap();
        let text = render(&peers);
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with("0123456789ab  tower  online") && lines[1].contains("420.0µs  1.0 MiB/s"),
            "{text}"
        );
        assert!(lines[2].contains("blocked: wrong hash"), "{text}");
        assert_eq!(lines[4], "2 known, 1 online.");
        assert!(render(&[]).starts_with("No peers yet"));
    }
}
