//! `io.systemd.Metrics`: what is counted, for `systemd-report`. The names begin with that of the socket in `/run/systemd/report`.
//!
//! Source: systemd's `src/shared/varlink-io.systemd.Metrics.c`.

use super::answer::{Answer, Answered, many};
use crate::control::varlink::protocol::{Call, Refusal};
use crate::control::{Control, Statistics, Status};
use serde_json::{Value, json};
use std::sync::Arc;

/// What all names begin with, and what the socket is called.
const PREFIX: &str = "org.peernix.";

/// A number of one kind; of several each has a word that tells it from the others.
struct Family {
    name: &'static str,
    description: &'static str,
    /// `counter` or `gauge`.
    kind: &'static str,
    /// What tells them apart.
    field: &'static str,
    values: fn(&Status, &Statistics) -> Vec<(&'static str, u64)>,
}

/// One that is alone.
fn only(value: u64) -> Vec<(&'static str, u64)> {
    vec![("", value)]
}

/// All of them. What was counted is so since the service began to count, over restarts.
const FAMILIES: &[Family] = &[
    Family {
        name: "Lookups",
        description: "Lookups by what they came to",
        kind: "counter",
        field: "result",
        values: |_, statistics| {
            let lookups = &statistics.lookups;
            vec![
                ("peer", lookups.peer),
                ("upstream", lookups.upstream),
                ("absent", lookups.absent),
                ("unknown", lookups.unknown),
                ("remembered", lookups.remembered),
            ]
        },
    },
    Family {
        name: "FetchedBytes",
        description: "Bytes of NARs received, by source",
        kind: "counter",
        field: "source",
        values: |_, statistics| {
            vec![("peer", statistics.bytes_from_peers), ("upstream", statistics.bytes_from_upstreams)]
        },
    },
    Family {
        name: "Transfers",
        description: "Transfers of NARs that ended, by how",
        kind: "counter",
        field: "result",
        values: |_, statistics| {
            let transfers = &statistics.transfers;
            vec![("completed", transfers.completed), ("failed", transfers.failed)]
        },
    },
    Family {
        name: "TransferFailovers",
        description: "Times a transfer went on from another source",
        kind: "counter",
        field: "",
        values: |_, statistics| only(statistics.transfers.failed_over),
    },
    Family {
        name: "Claims",
        description: "NARs that no peer had, by what became of them",
        kind: "counter",
        field: "result",
        values: |_, statistics| {
            let claims = &statistics.claims;
            vec![
                ("granted", claims.granted),
                ("taken-over", claims.taken_over),
                ("followed", claims.followed),
                ("alone", claims.alone),
            ]
        },
    },
    Family {
        name: "VerificationFailures",
        description: "NARs whose content was not what was signed",
        kind: "counter",
        field: "",
        values: |_, statistics| only(statistics.verification_failures),
    },
    Family {
        name: "PeersBanned",
        description: "Bans of peers that lied",
        kind: "counter",
        field: "",
        values: |_, statistics| only(statistics.peers_banned),
    },
    Family {
        name: "IndexEntries",
        description: "Paths that peers tell, all together",
        kind: "gauge",
        field: "",
        values: |_, statistics| only(statistics.index.entries),
    },
    Family {
        name: "Peers",
        description: "Peers that are known, and those of them that answer",
        kind: "gauge",
        field: "state",
        values: |status, _| vec![("known", status.peers_known.into()), ("online", status.peers_online.into())],
    },
    Family {
        name: "TransfersRunning",
        description: "Transfers under way",
        kind: "gauge",
        field: "",
        values: |status, _| only(status.transfers.into()),
    },
    Family {
        name: "Problems",
        description: "What is missing, in number",
        kind: "gauge",
        field: "",
        values: |status, _| only(status.problems.len() as u64),
    },
    Family {
        name: "MemoryBytes",
        description: "Memory of the service; 0 if not known",
        kind: "gauge",
        field: "",
        values: |_, statistics| only(statistics.resources.memory_bytes.unwrap_or_default()),
    },
];

pub(super) async fn answer(call: &Call, control: &Arc<dyn Control>) -> Answered {
    call.parameters(&[])?;
    let answers: Vec<Value> = match call.method.as_str() {
        "List" => {
            many(call)?;
            let (status, statistics) = (control.status().await?, control.statistics().await?);
            FAMILIES.iter().flat_map(|family| family.told(&status, &statistics)).collect()
        }
        "Describe" => {
            many(call)?;
            FAMILIES.iter().map(Family::described).collect()
        }
        _ => return Err(Refusal::MethodNotFound),
    };
    Ok(Answer::List(Box::new(answers.into_iter())))
}

impl Family {
    fn told(&self, status: &Status, statistics: &Statistics) -> Vec<Value> {
        let name = format!("{PREFIX}{}", self.name);
        let one = |(word, value): (&str, u64)| match self.field {
            "" => json!({ "name": name, "value": value }),
            field => json!({ "name": name, "value": value, "fields": { field: word } }),
        };
        (self.values)(status, statistics).into_iter().map(one).collect()
    }

    fn described(&self) -> Value {
        json!({ "name": format!("{PREFIX}{}", self.name), "description": self.description, "type": self.kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::stub::Stub;
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn each_value_is_told_by_itself() {
        let stub = Stub::default();
        let (status, statistics) = (stub.status().await.unwrap(), stub.statistics().await.unwrap());
        let told: Vec<Value> = FAMILIES.iter().flat_map(|family| family.told(&status, &statistics)).collect();
        let peer =
            json!({ "name": "org.peernix.Lookups", "value": statistics.lookups.peer, "fields": { "result": "peer" } });
        assert!(told.contains(&peer), "{told:?}");
        let keys: BTreeSet<String> = told.iter().map(|one| format!("{}{}", one["name"], one["fields"])).collect();
        assert_eq!(keys.len(), told.len(), "no two are the same");
        assert!(FAMILIES.iter().all(|family| ["counter", "gauge"].contains(&family.kind)));
    }
}
