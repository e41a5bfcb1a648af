//! Every method is called, and every answer held against the description of its interface.

use super::super::interfaces::{FLEET, KEYS, MANAGER, PEERS, STORE};
use super::super::{Access, DESCRIPTIONS, METHODS};
use super::{LIMIT, Raw, Served, idl, until};
use crate::control::{Event, EventKind, JobOutcome, JobPath, Operation};
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::atomic::Ordering::SeqCst;

/// A call for every method, with every parameter that it takes.
fn calls() -> Vec<(&'static str, &'static str, Value)> {
    vec![
        ("org.varlink.service", "GetInfo", json!({})),
        ("org.varlink.service", "GetInterfaceDescription", json!({ "interface": STORE })),
        ("io.systemd.service", "Ping", json!({})),
        ("io.systemd.service", "Reload", json!({ "allowInteractiveAuthentication": true })),
        ("io.systemd.service", "GetLogLevel", json!({})),
        ("io.systemd.service", "SetLogLevel", json!({ "level": 7, "allowInteractiveAuthentication": false })),
        ("io.systemd.service", "GetEnvironment", json!({})),
        ("io.systemd.Metrics", "List", json!({})),
        ("io.systemd.Metrics", "Describe", json!({})),
        (MANAGER, "Describe", json!({})),
        (MANAGER, "DumpStatistics", json!({})),
        (MANAGER, "ListTransfers", json!({})),
        (MANAGER, "ListHistory", json!({})),
        (MANAGER, "ResetStatistics", json!({})),
        (MANAGER, "Drain", json!({ "limitUSec": 5 })),
        (MANAGER, "Undrain", json!({})),
        (MANAGER, "SetOffline", json!({ "offline": true })),
        (MANAGER, "Reload", json!({})),
        (MANAGER, "GetLogLevel", json!({})),
        (MANAGER, "SetLogLevel", json!({ "level": "debug" })),
        (PEERS, "List", json!({ "id": "a", "state": "online" })),
        (PEERS, "Add", json!({ "uri": "h:1" })),
        (PEERS, "Forget", json!({ "id": "a" })),
        (PEERS, "Block", json!({ "id": "a", "reason": "r" })),
        (PEERS, "Unblock", json!({ "id": "a" })),
        (PEERS, "Ping", json!({ "id": "a" })),
        (PEERS, "Measure", json!({ "id": "a" })),
        (PEERS, "Refresh", json!({})),
        (STORE, "QueryPath", json!({ "path": "p" })),
        (STORE, "Pin", json!({ "path": "p", "reason": "r", "untilTimestamp": 5, "copies": 2 })),
        (STORE, "Unpin", json!({ "path": "p" })),
        (STORE, "ListPins", json!({ "path": null })),
        (KEYS, "List", json!({ "fingerprint": null })),
        (KEYS, "Rotate", json!({ "graceUSec": 5 })),
        (KEYS, "Revoke", json!({ "fingerprint": "f", "reason": "r" })),
        (KEYS, "ExportPublic", json!({})),
        (KEYS, "ListTrusted", json!({ "key": null })),
        (KEYS, "Trust", json!({ "publicKey": "k", "comment": "c" })),
        (KEYS, "Distrust", json!({ "key": "k" })),
        (FLEET, "Show", json!({})),
        (FLEET, "Init", json!({ "site": "s" })),
        (FLEET, "Invite", json!({})),
        (FLEET, "Join", json!({ "code": "c", "address": "h:1" })),
        (FLEET, "Enroll", json!({ "id": "a", "name": "n", "site": "s", "roles": ["gateway"], "validUSec": 5 })),
        (FLEET, "Revoke", json!({ "id": "m" })),
        (MANAGER, "SubscribeEvents", json!({ "kinds": ["reloaded"], "after": 5 })),
        (STORE, "CollectGarbage", json!({ "dryRun": true, "maxFreed": 1, "olderThanUSec": 1 })),
        (MANAGER, "CancelJob", json!({ "id": 1 })),
        (STORE, "Prefetch", json!({ "paths": ["p"] })),
        (MANAGER, "ListJobs", json!({ "id": null })),
        (MANAGER, "ListJobPaths", json!({ "id": 1, "offset": 0, "limit": 1 })),
        (MANAGER, "WatchJob", json!({ "id": 1 })),
    ]
}

/// Makes sure that the answer fits, and is no error.
fn fits(interface: &str, method: &str, answer: &Value) {
    let described = idl::parse(DESCRIPTIONS.iter().find(|(name, _)| *name == interface).unwrap().1);
    assert_eq!(answer.get("error"), None, "{interface}.{method}");
    let (_, output) = &described.methods[method];
    if let Err(error) = described.check(&answer["parameters"], output) {
        panic!("{interface}.{method}: {error} in {answer}");
    }
}

/// Makes sure that the answer is this error, and that it is described.
fn refused(answer: &Value, name: &str) -> Value {
    assert_eq!(answer["error"], name, "{answer}");
    let (interface, error) = name.rsplit_once('.').unwrap();
    let described = idl::parse(DESCRIPTIONS.iter().find(|(name, _)| *name == interface).unwrap().1);
    described.check(&answer["parameters"], &described.errors[error]).unwrap();
    answer["parameters"].clone()
}

async fn first_of_many(client: &mut Raw, method: &str, parameters: Value) -> Value {
    client.say(json!({ "method": method, "parameters": parameters, "more": true })).await;
    client.hear().await.unwrap()
}

#[tokio::test]
async fn every_method_answers_as_described() {
    let served = Served::start();
    for sparse in [false, true] {
        served.stub.sparse.store(sparse, SeqCst);
        let mut called = 0;
        for (interface, method, parameters) in calls() {
            called += 1;
            let described = idl::parse(DESCRIPTIONS.iter().find(|(name, _)| *name == interface).unwrap().1);
            let idl::Type::Struct(inputs) = &described.methods[method].0 else { panic!() };
            let given: Vec<&String> = parameters.as_object().unwrap().keys().collect();
            assert!(inputs.iter().all(|(name, _)| given.contains(&name)) && inputs.len() == given.len(), "{method}");
            described.check(&parameters, &described.methods[method].0).unwrap();
            if sparse && method == "Reload" {
                continue;
            }
            let mut client = served.raw(Access::Admin).await;
            let answer = first_of_many(&mut client, &format!("{interface}.{method}"), parameters).await;
            fits(interface, method, &answer);
            // The job ends, so that the next one may begin.
            served.stub.handle.lock().take();
        }
        assert_eq!(called, idl::all().values().map(|interface| interface.methods.len()).sum::<usize>());
    }
    served.end().await;
}

#[tokio::test]
async fn what_is_left_out_may_be_left_out() {
    let served = Served::start();
    let interfaces = idl::all();
    for (interface, method, mut parameters) in calls() {
        let idl::Type::Struct(inputs) = &interfaces[interface].methods[method].0 else { panic!() };
        for (name, of) in inputs {
            let mut without = parameters.clone();
            without.as_object_mut().unwrap().remove(name);
            if matches!(of, idl::Type::Maybe(_)) {
                parameters = without;
                continue;
            }
            let mut client = served.raw(Access::Admin).await;
            let answer = first_of_many(&mut client, &format!("{interface}.{method}"), without).await;
            assert_eq!(refused(&answer, "org.varlink.service.InvalidParameter")["parameter"], **name, "{method}");
        }
        let mut unknown = parameters.clone();
        unknown["dryrun"] = json!(true);
        let mut client = served.raw(Access::Admin).await;
        let answer = first_of_many(&mut client, &format!("{interface}.{method}"), unknown).await;
        assert_eq!(refused(&answer, "org.varlink.service.InvalidParameter")["parameter"], "dryrun", "{method}");
        served.stub.done.lock().clear();
        let answer = first_of_many(&mut client, &format!("{interface}.{method}"), parameters).await;
        fits(interface, method, &answer);
        served.stub.handle.lock().take();
    }
    served.end().await;
}

#[tokio::test]
async fn who_may_only_ask_can_change_nothing() {
    let served = Served::start();
    let (mut refusals, mut client) = (0, served.raw(Access::ReadOnly).await);
    for (interface, method, parameters) in calls() {
        if METHODS.iter().find(|row| (row.interface, row.name) == (interface, method)).unwrap().changes() {
            let answer = client.ask(&format!("{interface}.{method}"), parameters).await;
            refused(&answer, "org.varlink.service.PermissionDenied");
            refusals += 1;
        }
    }
    assert!(refusals > 15);
    assert_eq!(*served.stub.done.lock(), Vec::<String>::new());
    fits(MANAGER, "Describe", &client.ask("org.peernix.Manager.Describe", json!({})).await);
    served.end().await;
}

#[test]
fn everything_that_can_be_asked_of_the_service_can_be_asked_here() {
    let asked: HashSet<Operation> = METHODS.iter().flat_map(|method| method.operations).copied().collect();
    assert_eq!(asked, Operation::ALL.iter().copied().collect());
}

#[tokio::test]
async fn standard_errors_say_what_is_wrong() {
    let served = Served::start();
    let mut client = served.raw(Access::Admin).await;
    let answer = client.ask("org.peernix.Manager.Nothing", json!({})).await;
    assert_eq!(refused(&answer, "org.varlink.service.MethodNotFound")["method"], "org.peernix.Manager.Nothing");
    for method in ["org.peernix.Nothing.Ping", "org.peernix.Manager.a.Ping"] {
        let answer = client.ask(method, json!({})).await;
        let interface = method.rsplit_once('.').unwrap().0;
        assert_eq!(refused(&answer, "org.varlink.service.InterfaceNotFound")["interface"], interface);
    }
    let answer = client.ask("Ping", json!({})).await;
    assert_eq!(refused(&answer, "org.varlink.service.InterfaceNotFound")["interface"], "");
    let answer = client.ask("org.varlink.service.GetInterfaceDescription", json!({ "interface": "a.b" })).await;
    assert_eq!(refused(&answer, "org.varlink.service.InterfaceNotFound")["interface"], "a.b");
    for method in [
        "Manager.SubscribeEvents",
        "Manager.ListTransfers",
        "Manager.ListHistory",
        "Manager.ListJobs",
        "Manager.ListJobPaths",
        "Manager.WatchJob",
        "Peers.List",
        "Store.ListPins",
        "Keys.List",
        "Keys.ListTrusted",
    ] {
        let answer = client.ask(&format!("org.peernix.{method}"), json!({})).await;
        refused(&answer, "org.varlink.service.ExpectedMore");
    }
    client.say(json!({ "method": "io.systemd.service.Ping", "upgrade": true })).await;
    refused(&client.hear().await.unwrap(), "org.varlink.service.MethodNotImplemented");
    let answer = client.ask("io.systemd.service.SetLogLevel", json!({ "level": 8 })).await;
    assert_eq!(refused(&answer, "org.varlink.service.InvalidParameter")["parameter"], "level");
    let answer = client.ask("org.peernix.Manager.SubscribeEvents", json!({ "kinds": ["nothing"] })).await;
    refused(&answer, "org.varlink.service.ExpectedMore");
    let answer =
        first_of_many(&mut client, "org.peernix.Manager.SubscribeEvents", json!({ "kinds": ["nothing"] })).await;
    assert_eq!(refused(&answer, "org.varlink.service.InvalidParameter")["parameter"], "kinds");
    let answer = first_of_many(&mut client, "org.peernix.Peers.List", json!({ "state": "strange" })).await;
    assert_eq!(refused(&answer, "org.varlink.service.InvalidParameter")["parameter"], "state");
    served.end().await;
}

#[tokio::test]
async fn errors_of_the_service_have_their_names() {
    let served = Served::start();
    let mut client = served.raw(Access::Admin).await;
    let answer = client.ask("org.peernix.Peers.List", json!({ "id": "nobody" })).await;
    assert_eq!(refused(&answer, "org.peernix.Peers.NoSuchPeer")["message"], "no: NoSuchPeer");
    let answer = client.ask("org.peernix.Peers.List", json!({ "id": "key" })).await;
    assert_eq!(refused(&answer, "org.peernix.Peers.Failed")["message"], "no: KeyInUse");
    refused(&client.ask("org.peernix.Manager.ListJobs", json!({ "id": 9 })).await, "org.peernix.Manager.NoSuchJob");
    served.stub.sparse.store(true, SeqCst);
    refused(&client.ask("org.peernix.Manager.Reload", json!({})).await, "org.peernix.Manager.ConfigInvalid");
    refused(&client.ask("io.systemd.service.Reload", json!({})).await, "org.peernix.Manager.ConfigInvalid");
    refused(&client.ask("org.peernix.Store.ListPins", json!({ "path": "a" })).await, "org.peernix.Store.NoSuchPin");
    refused(&client.ask("org.peernix.Keys.List", json!({ "fingerprint": "a" })).await, "org.peernix.Keys.NoSuchKey");
    served.end().await;
}

#[tokio::test]
async fn lists_have_an_object_in_each_reply() {
    let served = Served::start();
    let mut client = served.raw(Access::ReadOnly).await;
    let answers = client.ask_all("org.peernix.Peers.List", json!({})).await;
    let ids: Vec<&Value> = answers.iter().map(|answer| &answer["parameters"]["peer"]["id"]).collect();
    assert_eq!(ids, ["a", "b"]);
    let one = client.ask("org.peernix.Keys.List", json!({ "fingerprint": "f-b" })).await;
    assert_eq!(one["parameters"]["key"]["name"], "b");
    let one = client.ask("org.peernix.Store.ListPins", json!({ "path": "a-b" })).await;
    assert_eq!(one["parameters"]["pin"]["path"], "/nix/store/a-b");
    let keys = client.ask("org.peernix.Keys.ExportPublic", json!({})).await;
    assert_eq!(keys["parameters"]["keys"], json!(["a:x"]), "not the revoked one");
    served.stub.sparse.store(true, SeqCst);
    assert_eq!(client.ask_all("org.peernix.Peers.List", json!({})).await, [json!({ "parameters": {} })]);
    served.end().await;
}

#[tokio::test]
async fn events_are_told_after_ready() {
    let served = Served::start();
    let mut client = served.raw(Access::ReadOnly).await;
    let first = first_of_many(&mut client, "org.peernix.Manager.SubscribeEvents", json!({})).await;
    assert_eq!(first["parameters"], json!({ "ready": true, "cursor": served.stub.events.newest() }));
    let text = || Some("x".to_owned());
    served.stub.events.tell(Event {
        peer: text(),
        name: text(),
        path: text(),
        bytes: Some(1),
        id: Some(1),
        from: text(),
        to: text(),
        message: text(),
        ..Event::new(EventKind::PeerStateChanged)
    });
    let event = client.hear().await.unwrap();
    fits(MANAGER, "SubscribeEvents", &event);
    assert_eq!((&event["parameters"]["kind"], &event["continues"]), (&json!("peer-state-changed"), &json!(true)));
    // The description names every kind.
    let description = DESCRIPTIONS.iter().find(|(name, _)| *name == MANAGER).unwrap().1;
    assert!(EventKind::ALL.iter().all(|kind| description.contains(kind.as_str())));
    served.end().await;
}

#[tokio::test]
async fn a_job_is_followed_to_its_end() {
    let served = Served::start();
    let mut client = served.raw(Access::Admin).await;
    client
        .say(json!({ "method": "org.peernix.Store.CollectGarbage", "parameters": { "dryRun": true }, "more": true }))
        .await;
    let first = client.hear().await.unwrap();
    assert_eq!(first["parameters"]["job"]["state"], "running");
    let handle = served.stub.handle.lock().take().unwrap();
    let paths =
        (0..1500).map(|n| JobPath { path: n.to_string(), size: 1, result: "dead".into(), reason: None }).collect();
    handle.add(paths, 1500);
    handle.progress(0.5, "half");
    let (half, is_half) = tokio::sync::oneshot::channel();
    let mut half = Some(half);
    let watching = tokio::spawn(async move {
        let (mut paths, mut progress) = (Vec::new(), 0.0);
        loop {
            let answer = client.hear().await.unwrap();
            fits(STORE, "CollectGarbage", &answer);
            let parameters = &answer["parameters"];
            if let Some(path) = parameters.get("path") {
                paths.push(path["path"].as_str().unwrap().parse::<u32>().unwrap());
            } else if let Some(now) = parameters.get("progress") {
                progress = now.as_f64().unwrap();
                if progress == 0.5
                    && let Some(half) = half.take()
                {
                    half.send(()).unwrap();
                }
            } else {
                assert_eq!(answer.get("continues"), None);
                return (paths, progress, parameters["job"].clone(), client);
            }
        }
    });
    tokio::time::timeout(LIMIT, is_half).await.unwrap().unwrap();
    handle.end(JobOutcome::Done("all".into()));
    let (paths, progress, job, mut client) = watching.await.unwrap();
    assert_eq!(paths, (0..1500).collect::<Vec<_>>());
    assert_eq!((progress, &job["state"], &job["message"]), (0.5, &json!("done"), &json!("all")));
    // The connection is good for more.
    let answers = client.ask_all("org.peernix.Manager.WatchJob", json!({ "id": 1 })).await;
    assert_eq!(answers.len(), 1);
    let answers =
        client.ask_all("org.peernix.Manager.ListJobPaths", json!({ "id": 1, "offset": 10, "limit": 1100 })).await;
    assert_eq!(answers.len(), 1100);
    assert_eq!(answers[1099]["parameters"]["path"]["path"], "1109");
    let answers = client.ask_all("org.peernix.Manager.ListJobPaths", json!({ "id": 1, "limit": 0 })).await;
    assert_eq!(answers, [json!({ "parameters": {} })]);
    served.end().await;
}

#[tokio::test]
async fn who_wants_no_answer_gets_none_and_what_it_wants_is_done() {
    let served = Served::start();
    let mut client = served.raw(Access::Admin).await;
    client.say(json!({ "method": "org.peernix.Manager.Undrain", "oneway": true })).await;
    client.say(json!({ "method": "org.peernix.Nothing.At.All", "oneway": true })).await;
    let answer = client.ask("org.peernix.Manager.GetLogLevel", json!({})).await;
    assert_eq!(answer["parameters"]["level"], "info", "the first answer is the one that was asked for");
    // Said and gone: all of it is done.
    let mut client = served.raw(Access::Admin).await;
    for n in 0..50 {
        let parameters = json!({ "uri": format!("h:{n}") });
        client.say(json!({ "method": "org.peernix.Peers.Add", "parameters": parameters, "oneway": true })).await;
    }
    drop(client);
    until("all calls", || served.stub.done.lock().len() == 51).await;
    served.end().await;
}
