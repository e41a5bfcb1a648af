//! The real peernixd on a bus: it has its name when it says that it is ready, and loses nothing with the bus.

use super::super::bus::PrivateBus;
use crate::support::service::Service;
use crate::support::{is_root, until};
use peernix::control::dbus::{Bus, Client};
use peernix::control::{
    Control as _, ErrorKind, EventFilter, EventItem, EventKind, LogLevel, PeerFilter, ServiceState,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_real_service_is_controlled_over_the_bus() {
    let Some(mut bus) = PrivateBus::start() else { return };
    // The policy lets only root and the user of the service have the name.
    if !is_root() {
        return;
    }
    let mut daemon = Service::start_on(&bus.address());
    let address = Bus::Address(bus.address());
    let client = Client::connect(address.clone()).await.unwrap();
    let status = client.status().await.unwrap();
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert!(client.peers(PeerFilter::default()).await.unwrap().is_empty());

    let kinds = vec![EventKind::DrainChanged];
    let mut events = client.events(EventFilter { kinds, after: None }).await.unwrap();
    assert!(matches!(events.next().await, Some(Ok(EventItem::Ready { .. }))));
    assert!(client.drain(None).await.unwrap());
    assert!(!client.drain(None).await.unwrap());
    let Some(Ok(EventItem::Event(event))) = events.next().await else { panic!("nobody told of it") };
    assert_eq!(event.kind, EventKind::DrainChanged);
    assert_eq!(client.status().await.unwrap().state, ServiceState::Draining);
    assert!(client.undrain().await.unwrap());
    client.set_log_level(LogLevel::Debug).await.unwrap();
    assert_eq!(client.log_level().await.unwrap(), LogLevel::Debug);
    assert_eq!(client.peer("nobody").await.unwrap_err().kind, ErrorKind::NoSuchPeer);
    assert_eq!(client.add_peer("not an address").await.unwrap_err().kind, ErrorKind::InvalidUri);
    daemon.configure("nonsense = 1\n");
    let error = client.reload().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::ConfigInvalid);
    assert!(error.message.contains("nonsense"), "{error}");

    let drain = ["call", "org.peernix.Peernix1", "/org/peernix/Peernix1", "org.peernix.Peernix1.Manager", "Drain"];
    let said = bus.ask(&[&drain[..], &["a{sv}", "0"]].concat()).await;
    assert!(!said.ok && said.err.contains("Access denied"), "{said:?}");

    bus.stop();
    bus.start_again();
    until("the service is back", async || Client::connect(address.clone()).await.is_ok()).await;
    assert_eq!(Client::connect(address.clone()).await.unwrap().log_level().await.unwrap(), LogLevel::Debug);
    assert!(daemon.stop().success(), "{}", daemon.log());
    assert_eq!(Client::connect(address).await.err().unwrap().kind, ErrorKind::NotRunning);
}
