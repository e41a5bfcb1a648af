//! Objects come and go with what they stand for, and say what changed.

use super::{SHOWN, World, peer};
use peernix::control::{Event, EventKind, JobOutcome};
use std::collections::HashMap;
use zbus::fdo::{ObjectManagerProxy, PropertiesProxy};
use zbus::wire::OwnedVariant;
use zbus::{Connection, MessageStream};

/// What was told to everybody: the signals of a connection, as they come.
struct Told(MessageStream);

impl Told {
    async fn by(connection: &Connection) -> Self {
        let rule = zbus::MatchRule::builder().msg_type(zbus::message::Type::Signal).sender("org.peernix.Peernix1");
        Self(
            MessageStream::for_match_rule(rule.build().unwrap(), connection, Some(1000.try_into().unwrap()))
                .await
                .unwrap(),
        )
    }

    /// Waits for a signal of this name at this path.
    async fn wait(&mut self, name: &str, path: &str) -> zbus::Message {
        let mut others = Vec::new();
        loop {
            let next = std::future::poll_fn(|context| {
                futures_core::Stream::poll_next(std::pin::Pin::new(&mut self.0), context)
            });
            let next = tokio::time::timeout(std::time::Duration::from_secs(10), next).await;
            let message = next.unwrap_or_else(|_| panic!("no {name} of {path}, but {others:?}")).unwrap().unwrap();
            let (member, at) = {
                let header = message.header();
                (header.member().unwrap().to_string(), header.path().unwrap().to_string())
            };
            if member == name && at == path {
                return message;
            }
            others.push((member, at));
        }
    }
}

async fn properties(connection: &Connection, path: &str, interface: &str) -> HashMap<String, OwnedVariant> {
    let proxy = PropertiesProxy::new(connection, "org.peernix.Peernix1", path).await.unwrap();
    proxy.get_all(interface.try_into().unwrap()).await.unwrap()
}

#[tokio::test]
async fn peers_have_objects_as_long_as_they_are_known() {
    let Some(world) = World::start().await else { return };
    let connection = world.bus.connect().await;
    let root = SHOWN[0].0;
    let manager = ObjectManagerProxy::new(&connection, "org.peernix.Peernix1", root).await.unwrap();
    let known = async || {
        let objects = manager.get_managed_objects().await.unwrap();
        let mut peers: Vec<String> = objects
            .into_iter()
            .filter(|(_, interfaces)| interfaces.keys().any(|name| name.as_str() == "org.peernix.Peernix1.Peer"))
            .map(|(path, _)| path.as_str().rsplit('/').next().unwrap().to_owned())
            .collect();
        peers.sort_unstable();
        peers
    };
    assert_eq!(known().await, ["aa11", "bb22"]);
    let mut told = Told::by(&connection).await;

    world.stub.peers.lock().push(peer("cc33", "three\0"));
    world.stub.events.tell(Event { peer: Some("cc33".into()), ..Event::new(EventKind::PeerAdded) });
    let added = told.wait("InterfacesAdded", root).await;
    let path = "/org/peernix/Peernix1/peer/cc33";
    let (object, interfaces): (zbus::OwnedObjectPath, HashMap<String, HashMap<String, OwnedVariant>>) =
        added.body().deserialize().unwrap();
    assert_eq!(object.as_str(), path);
    // A name that D-Bus cannot carry is shown all the same.
    let name: String = interfaces["org.peernix.Peernix1.Peer"]["Name"].clone().try_into().unwrap();
    assert_eq!(name, "three\u{fffd}");
    let added = told.wait("PeerAdded", root).await;
    let (id, object): (String, zbus::OwnedObjectPath) = added.body().deserialize().unwrap();
    assert_eq!((id.as_str(), object.as_str()), ("cc33", path));

    let offline = |peer: &mut peernix::control::Peer| (peer.state, peer.bytes_in) = ("offline".into(), 99);
    world.stub.peers.lock().iter_mut().filter(|peer| peer.id == "cc33").for_each(offline);
    let state = Event {
        peer: Some("cc33".into()),
        from: Some("online".into()),
        to: Some("offline".into()),
        ..Event::new(EventKind::PeerStateChanged)
    };
    world.stub.events.tell(state);
    let changed = told.wait("PropertiesChanged", path).await;
    let (interface, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) =
        changed.body().deserialize().unwrap();
    assert_eq!(interface, "org.peernix.Peernix1.Peer");
    assert_eq!(changed.keys().collect::<Vec<_>>(), ["State"], "counters are not told");
    told.wait("PeerStateChanged", root).await;
    let now = properties(&connection, path, "org.peernix.Peernix1.Peer").await;
    assert_eq!(u64::try_from(now["BytesIn"].clone()).unwrap(), 99);

    world.stub.peers.lock().retain(|peer| peer.id != "cc33");
    world.stub.events.tell(Event { peer: Some("cc33".into()), ..Event::new(EventKind::PeerRemoved) });
    told.wait("InterfacesRemoved", root).await;
    told.wait("PeerRemoved", root).await;
    assert_eq!(known().await, ["aa11", "bb22"]);
}

#[tokio::test]
async fn the_service_and_its_jobs_tell_what_changes() {
    let Some(world) = World::start().await else { return };
    let connection = world.bus.connect().await;
    let client = world.client().await;
    let mut told = Told::by(&connection).await;
    let (root, manager) = SHOWN[0];
    let before = properties(&connection, root, manager).await;
    assert_eq!(String::try_from(before["LastReloadResult"].clone()).unwrap(), "no");
    assert_eq!(u64::try_from(before["BytesServed"].clone()).unwrap(), 5);
    assert_eq!(before["ActiveKey"].to_string(), "objectpath \"/org/peernix/Peernix1/key/fk\"");

    peernix::control::Control::drain(&client, None).await.unwrap();
    let changed = told.wait("PropertiesChanged", root).await;
    let (_, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) = changed.body().deserialize().unwrap();
    assert_eq!(String::try_from(changed["State"].clone()).unwrap(), "draining");
    assert!(bool::try_from(changed["Draining"].clone()).unwrap());
    let drained = told.wait("DrainChanged", root).await;
    assert!(drained.body().deserialize::<(bool,)>().unwrap().0);

    let job = peernix::control::Control::prefetch(&client, vec!["p".into()]).await.unwrap();
    let path = format!("/org/peernix/Peernix1/job/{}", job.id);
    let handle = world.stub.handle.lock().take().unwrap();
    told.wait("JobStarted", root).await;
    handle.progress(0.5, "half");
    let changed = told.wait("PropertiesChanged", &path).await;
    let (_, changed, _): (String, HashMap<String, OwnedVariant>, Vec<String>) = changed.body().deserialize().unwrap();
    assert_eq!(f64::try_from(changed["Progress"].clone()).unwrap(), 0.5);
    handle.end(JobOutcome::Done("all".into()));
    let ended = told.wait("JobFinished", root).await;
    let (id, object, state): (u64, zbus::OwnedObjectPath, String) = ended.body().deserialize().unwrap();
    assert_eq!((id, object.as_str(), state.as_str()), (job.id, path.as_str(), "done"));
    let now = properties(&connection, &path, "org.peernix.Peernix1.Job").await;
    assert_eq!(String::try_from(now["State"].clone()).unwrap(), "done");
}

/// What `PropertiesChanged` tells is what the properties are that say of themselves that they tell.
#[tokio::test]
async fn what_is_told_of_changes_is_what_says_so() {
    let Some(world) = World::start().await else { return };
    let connection = world.bus.connect().await;
    let client = world.client().await;
    peernix::control::Control::prefetch(&client, vec![]).await.unwrap();
    for (path, name) in &SHOWN[..4] {
        let file = std::fs::read_to_string(format!("{}/dbus/{name}.xml", env!("CARGO_MANIFEST_DIR"))).unwrap();
        let shown = properties(&connection, path, name).await;
        let listed: Vec<&str> =
            file.lines().filter_map(|line| line.trim().strip_prefix("<property name=\"")?.split('"').next()).collect();
        assert_eq!(listed.len(), shown.len(), "{name}");
        assert!(listed.iter().all(|property| shown.contains_key(*property)), "{name}");
    }
}
