//! The service on a private bus with our real policy file: what it shows and says, and that the client says it back.

mod access;
mod harm;
mod objects;
mod real;

use super::bus::PrivateBus;
use super::stub::{self, Stub};
use crate::support::until;
use peernix::control::dbus::{Bus, Client, METHODS, Service, serve};
use peernix::control::{
    Control, ControlError, Enrolment, ErrorKind, Event, EventFilter, EventItem, EventKind, GarbageOptions, JobOutcome,
    JobPath, JobState, Key, KeyState, LogLevel, Method, Operation, Peer, PeerFilter, PinRequest, Reload, Rotation,
    ServiceState,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

fn peer(id: &str, name: &str) -> Peer {
    stub::peer(id, name, "online")
}

fn key(name: &str) -> Key {
    stub::key(&format!("f{name}"), name, KeyState::Active)
}

/// A service with two peers and a key.
fn made_up() -> Arc<Stub> {
    let mut stub = Stub {
        peers: vec![peer("aa11", "one"), peer("bb22", "two")].into(),
        ping: Duration::from_micros(1500),
        keys: vec![key("k")],
        rotation: Rotation { old: Some(key("k")), new: key("l") },
        says: |_, what| match what {
            "reload" => Err(ControlError::new(ErrorKind::ConfigInvalid, "line 3 makes no sense")),
            _ => Ok(true),
        },
        ..Stub::default()
    };
    stub.statistics.faces.truncate(1);
    stub.statistics.faces[0].bytes_served = 5;
    let status = stub.status.get_mut();
    (status.state, status.active_key) = (ServiceState::Running, Some("fk".into()));
    status.last_reload =
        Some(Reload { timestamp: 5, success: false, error: Some("no".into()), restart_needed: vec![] });
    Arc::new(stub)
}

/// A made-up service on a bus of its own.
struct World {
    bus: PrivateBus,
    stub: Arc<Stub>,
    service: Service,
    stop: CancellationToken,
}

impl World {
    /// `None` where there is no dbus-daemon.
    async fn start() -> Option<Self> {
        let bus = PrivateBus::start()?;
        let (stub, stop) = (made_up(), CancellationToken::new());
        let service = serve(stub.clone(), Bus::Address(bus.address()), stop.clone()).await.unwrap();
        assert_eq!(Client::connect(Bus::Address(bus.address())).await.err().unwrap().kind, ErrorKind::NotRunning);
        assert!(service.own_name().await);
        Some(Self { bus, stub, service, stop })
    }

    async fn client(&self) -> Client {
        Client::connect(Bus::Address(self.bus.address())).await.unwrap()
    }
}

#[tokio::test]
async fn the_client_says_what_the_service_says() {
    let Some(world) = World::start().await else { return };
    let (client, stub) = (world.client().await, &world.stub);
    assert_eq!(client.status().await.unwrap(), stub.status().await.unwrap());
    assert_eq!(client.statistics().await.unwrap(), stub.statistics().await.unwrap());
    assert_eq!(client.log_level().await.unwrap(), LogLevel::Info);
    let all = PeerFilter::default();
    assert_eq!(client.peers(all.clone()).await.unwrap(), stub.peers(all).await.unwrap());
    let gone = PeerFilter { id: None, state: Some("offline".into()) };
    assert!(client.peers(gone).await.unwrap().is_empty());
    assert_eq!(client.peer("two").await.unwrap(), peer("bb22", "two"));
    assert_eq!(client.ping_peer("two").await.unwrap(), Duration::from_micros(1500));
    assert_eq!(client.query_path("p").await.unwrap(), stub.query_path("p").await.unwrap());
    assert_eq!(client.pins().await.unwrap(), stub.pins().await.unwrap());
    assert_eq!(client.transfers().await.unwrap(), stub.transfers().await.unwrap());
    assert_eq!(client.history().await.unwrap(), stub.history().await.unwrap());
    assert_eq!(client.measure_peer("two").await.unwrap(), stub.measure_peer("two").await.unwrap());
    assert_eq!(client.keys().await.unwrap(), stub.keys().await.unwrap());
    assert_eq!(client.trusted_keys().await.unwrap(), stub.trusted_keys().await.unwrap());
    assert_eq!(client.fleet().await.unwrap(), stub.fleet().await.unwrap());
    assert!(stub.done().is_empty());

    client.reset_statistics().await.unwrap();
    assert!(client.drain(Some(Duration::from_secs(2))).await.unwrap());
    assert!(client.undrain().await.unwrap());
    assert!(client.set_offline(true).await.unwrap());
    client.set_log_level(LogLevel::Trace).await.unwrap();
    assert!(client.add_peer("host:1").await.unwrap());
    assert!(client.forget_peer("one").await.unwrap());
    assert!(client.block_peer("one", "because").await.unwrap());
    assert!(client.unblock_peer("one").await.unwrap());
    client.refresh_peers().await.unwrap();
    let request = PinRequest { path: "p".into(), reason: Some("r".into()), until_timestamp: Some(3), copies: Some(2) };
    assert!(client.pin(request).await.unwrap());
    assert!(client.unpin("p").await.unwrap());
    let rotation = client.rotate_key(Some(Duration::from_secs(9))).await.unwrap();
    assert_eq!((rotation.old, rotation.new), (Some(key("k")), key("l")));
    assert!(client.revoke_key("fk", "lost").await.unwrap());
    assert!(client.trust("k:x", "mine").await.unwrap());
    assert!(client.distrust("k").await.unwrap());
    assert_eq!(client.init_fleet("s").await.unwrap(), stub.fleet().await.unwrap());
    assert_eq!(client.invite_member().await.unwrap().code, "37-4821-9375");
    client.join_fleet("c", Some("h:1")).await.unwrap();
    let enrolment = Enrolment {
        id: "a".into(),
        name: Some("n".into()),
        site: None,
        roles: vec!["relay".into()],
        valid_usec: Some(7),
    };
    client.enroll_member(enrolment).await.unwrap();
    assert!(client.revoke_member("m").await.unwrap());
    let done = [
        "reset",
        "drain Some(2s)",
        "undrain",
        "offline true",
        "log trace",
        "add host:1",
        "forget one",
        "block one because",
        "unblock one",
        "refresh",
        "pin p in 2 copies Some(\"r\") Some(3)",
        "unpin p",
        "rotate Some(9s)",
        "revoke fk lost",
        "trust k:x mine",
        "distrust k",
        "init s",
        "invite",
        "join c Some(\"h:1\")",
        "enroll a Some(\"n\") None [\"relay\"] Some(7)",
        "expel m",
    ];
    assert_eq!(stub.done(), done);

    let error = client.reload().await.unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (ErrorKind::ConfigInvalid, "line 3 makes no sense"));
    assert_eq!(client.peer("three").await.unwrap_err().kind, ErrorKind::NoSuchPeer);
    assert_eq!(client.cancel_job(99).await.unwrap_err().kind, ErrorKind::NoSuchJob);
    assert_eq!(client.add_peer(&"x".repeat(5000)).await.unwrap_err().kind, ErrorKind::InvalidArgument);
    world.stop.cancel();
    world.service.stopped().await;
    assert_eq!(client.status().await.unwrap_err().kind, ErrorKind::NotRunning);
}

#[tokio::test]
async fn a_job_is_begun_watched_listed_and_ended() {
    let Some(world) = World::start().await else { return };
    let client = world.client().await;
    let options = GarbageOptions { dry_run: true, max_freed: Some(5), older_than_usec: Some(6) };
    let job = client.collect_garbage(options).await.unwrap();
    assert_eq!(world.stub.done(), ["gc Some(5) Some(6)"]);
    assert!(job.dry_run && job.state == JobState::Running);
    assert_eq!(client.collect_garbage(GarbageOptions::default()).await.unwrap_err().kind, ErrorKind::Busy);
    let mut progress = client.watch_job(job.id).await.unwrap();
    assert_eq!(progress.next().await.unwrap().unwrap().paths, 0);
    let handle = world.stub.handle.lock().take().unwrap();
    let path = |path: &str| JobPath { path: path.into(), size: 1, result: "dead".into(), reason: None };
    handle.add(vec![path("a"), path("b")], 5);
    handle.progress(0.5, "half");
    loop {
        let job = progress.next().await.unwrap().unwrap();
        if job.paths == 2 && job.message == "half" {
            break;
        }
    }
    assert_eq!(client.job_paths(job.id, 1, 10).await.unwrap(), [path("b")]);
    assert!(client.cancel_job(job.id).await.unwrap());
    assert!(handle.cancelled().is_cancelled());
    handle.end(JobOutcome::Cancelled);
    let mut last = None;
    while let Some(job) = progress.next().await {
        last = Some(job.unwrap());
    }
    assert_eq!(last.unwrap().state, JobState::Cancelled);
    assert_eq!(client.jobs().await.unwrap().len(), 1);
    assert_eq!(client.prefetch(vec!["p".into()]).await.unwrap().id, job.id + 1);
}

#[tokio::test]
async fn events_come_to_those_who_asked_and_from_where_they_were() {
    let Some(world) = World::start().await else { return };
    let client = world.client().await;
    let told = |id: u64| Event { id: Some(id), ..Event::new(EventKind::TransferStarted) };
    world.stub.events.tell(told(1));
    let kinds = vec![EventKind::TransferStarted];
    let mut events = client.events(EventFilter { kinds: kinds.clone(), after: None }).await.unwrap();
    let EventItem::Ready { cursor } = events.next().await.unwrap().unwrap() else { panic!("not ready") };
    assert_eq!(cursor, world.stub.events.newest());
    world.stub.events.tell(Event::new(EventKind::TrustChanged));
    // More than are sent without an answer to a ping.
    (2..1000).for_each(|id| world.stub.events.tell(told(id)));
    for id in 2..1000 {
        let EventItem::Event(event) = events.next().await.unwrap().unwrap() else { panic!("no event") };
        assert_eq!((event.kind, event.id), (EventKind::TransferStarted, Some(id)));
    }
    let mut again = client.events(EventFilter { kinds, after: Some(cursor + 1) }).await.unwrap();
    again.next().await.unwrap().unwrap();
    let EventItem::Event(event) = again.next().await.unwrap().unwrap() else { panic!("no event") };
    assert_eq!(event.id, Some(2));
    world.stop.cancel();
    assert_eq!(events.next().await.unwrap().unwrap_err().kind, ErrorKind::NotRunning);
    assert!(events.next().await.is_none());
}

/// The interface in an introspection, without what is around it.
fn interface<'a>(xml: &'a str, name: &str) -> &'a str {
    let begin = xml.find(&format!("<interface name=\"{name}\">")).unwrap_or_else(|| panic!("{name} is not in {xml}"));
    let end = xml[begin..].find("</interface>").unwrap() + "</interface>".len();
    &xml[begin..begin + end]
}

/// The paths of the objects, and the interface at each that is ours.
const SHOWN: &[(&str, &str)] = &[
    ("/org/peernix/Peernix1", "org.peernix.Peernix1.Manager"),
    ("/org/peernix/Peernix1/peer/aa11", "org.peernix.Peernix1.Peer"),
    ("/org/peernix/Peernix1/key/fk", "org.peernix.Peernix1.Key"),
    ("/org/peernix/Peernix1/job/1", "org.peernix.Peernix1.Job"),
    ("/org/freedesktop/LogControl1", "org.freedesktop.LogControl1"),
];

/// What the objects say of themselves is what the files say of them: `UPDATE_GOLDEN=1` writes these anew.
#[tokio::test]
async fn the_files_describe_the_live_objects() {
    let Some(world) = World::start().await else { return };
    world.client().await.prefetch(vec![]).await.unwrap();
    let connection = world.bus.connect().await;
    let mut methods = BTreeSet::new();
    for (path, name) in SHOWN {
        let proxy = zbus::Proxy::new(&connection, "org.peernix.Peernix1", *path, *name).await.unwrap();
        let xml = proxy.introspect().await.unwrap();
        let live = interface(&xml, name);
        if let Some(short) = name.strip_prefix("org.peernix.Peernix1.") {
            let method = |line: &str| line.trim().strip_prefix("<method name=\"")?.split('"').next().map(str::to_owned);
            methods.extend(live.lines().filter_map(method).map(|method| (short.to_owned(), method)));
            let document = format!(
                "<!DOCTYPE node PUBLIC \"-//freedesktop//DTD D-BUS Object Introspection 1.0//EN\"\n \
                 \"http://www.freedesktop.org/standards/dbus/1.0/introspect.dtd\">\n<node>\n  {live}\n</node>\n"
            );
            let file = format!("{}/dbus/{name}.xml", env!("CARGO_MANIFEST_DIR"));
            if std::env::var_os("UPDATE_GOLDEN").is_some() {
                std::fs::write(&file, &document).unwrap();
            }
            assert_eq!(std::fs::read_to_string(&file).unwrap_or_default(), document, "{file} differs: UPDATE_GOLDEN=1");
        } else {
            for property in ["LogLevel\" type=\"s\" access=\"readwrite", "LogTarget", "SyslogIdentifier"] {
                assert!(live.contains(property), "{property} is not in {live}");
            }
        }
    }
    let known = METHODS.iter().map(|method| (method.interface.to_owned(), method.name.to_owned())).collect();
    assert_eq!(methods, known);
}

#[tokio::test]
async fn what_nobody_knows_is_refused() {
    let Some(world) = World::start().await else { return };
    let said = tokio::process::Command::new("busctl")
        .arg(format!("--address={}", world.bus.address()))
        .args([
            "call",
            "org.peernix.Peernix1",
            "/org/peernix/Peernix1",
            "org.peernix.Peernix1.Manager",
            "CollectGarbage",
        ])
        .args(["a{sv}", "2", "DryRun", "b", "true", "Fast", "b", "true"])
        .output()
        .await
        .unwrap();
    let said = super::bus::Said::from(said);
    assert!(!said.ok && said.err.contains("there is no option 'Fast' here"), "{said:?}");
    let connection = world.bus.connect().await;
    let proxy = zbus::Proxy::new(&connection, "org.peernix.Peernix1", SHOWN[0].0, SHOWN[0].1).await.unwrap();
    let options = std::collections::HashMap::from([("Fast", zbus::Variant::from(1_u32))]);
    let answer: zbus::Result<bool> = proxy.call("Drain", &(options,)).await;
    let Err(zbus::Error::FDO(error)) = answer else { panic!("{answer:?}") };
    assert_eq!(*error, zbus::fdo::Error::InvalidArgs("there is no option 'Fast' here".into()));
    assert!(world.stub.done().is_empty());
}

#[tokio::test]
async fn the_bus_may_go_away_and_come_back() {
    let Some(mut world) = World::start().await else { return };
    assert!(world.client().await.status().await.is_ok());
    for _ in 0..2 {
        world.bus.stop();
        assert_eq!(Client::connect(Bus::Address(world.bus.address())).await.err().unwrap().kind, ErrorKind::NotRunning);
        world.bus.start_again();
        let bus = Bus::Address(world.bus.address());
        until("the service is back", async || Client::connect(bus.clone()).await.is_ok()).await;
        assert_eq!(world.client().await.peers(PeerFilter::default()).await.unwrap().len(), 2);
    }
}

#[tokio::test]
async fn the_service_begins_without_a_bus() {
    let Some(mut bus) = PrivateBus::start() else { return };
    bus.stop();
    let stop = CancellationToken::new();
    let service = serve(made_up(), Bus::Address(bus.address()), stop.clone()).await.unwrap();
    assert!(!service.own_name().await);
    bus.start_again();
    let address = Bus::Address(bus.address());
    until("the service is there", async || Client::connect(address.clone()).await.is_ok()).await;
    stop.cancel();
    service.stopped().await;
}

/// What can be asked and done can be on both ways in.
#[test]
fn every_method_has_its_twin_in_varlink() {
    use peernix::control::varlink::METHODS as VARLINK;
    let operations = |methods: &[Method]| methods.iter().flat_map(|method| method.operations).copied().collect();
    let (here, there): (BTreeSet<Operation>, BTreeSet<Operation>) = (operations(METHODS), operations(VARLINK));
    // So many methods of the trait change something.
    assert_eq!(here.iter().filter(|operation| !operation.actions().is_empty()).count(), 26);
    // A property, and signals, in D-Bus.
    let elsewhere = BTreeSet::from([Operation::LogLevel, Operation::WatchJob]);
    assert_eq!(there.difference(&here).copied().collect::<BTreeSet<_>>(), elsewhere);
    assert!(here.difference(&there).next().is_none());
}
