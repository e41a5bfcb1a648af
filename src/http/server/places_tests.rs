//! Who gets a place, who makes room, who waits.

use super::*;
use crate::http::server::marks::InFlight;
use std::time::Duration;
use tokio::time::advance;

fn places(connections: usize, per_address: Option<usize>) -> Arc<Places> {
    Places::new(&Limits { connections, per_address, ..Limits::share() })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A connection whose request is being answered.
struct Client {
    marks: Arc<Marks>,
    place: Place,
    request: Option<InFlight>,
}

impl Client {
    fn new(places: &Arc<Places>, address: &str) -> Result<Self, Scope> {
        let marks = Marks::new();
        let (place, _) = places.take(ip(address), &marks);
        let request = Some(marks.answering());
        Ok(Self { place: place?, marks, request })
    }

    /// Becomes idle.
    fn rest(&mut self) {
        self.request = None;
    }
}

#[test]
fn an_address_has_its_limit() {
    let places = places(100, Some(2));
    let first = Client::new(&places, "192.0.2.1").unwrap();
    let _second = Client::new(&places, "192.0.2.1").unwrap();
    assert_eq!(Client::new(&places, "192.0.2.1").err(), Some(Scope::Address(ip("192.0.2.1"))));
    assert!(Client::new(&places, "192.0.2.2").is_ok(), "others have their own");
    drop(first);
    assert!(Client::new(&places, "192.0.2.1").is_ok(), "a place given back is free");
}

#[test]
fn a_network_has_half() {
    let places = places(4, Some(1));
    let taken: Vec<_> = ["2001:db8::1", "2001:db8::2"].map(|text| Client::new(&places, text).unwrap()).into();
    let network = Scope::Network(0x2001_0db8_0000_0000);
    assert_eq!(Client::new(&places, "2001:db8::3").err(), Some(network));
    assert!(Client::new(&places, "2001:db8:0:1::3").is_ok(), "the next network");
    drop(taken);
    assert!(Client::new(&places, "2001:db8::3").is_ok());
}

#[test]
fn nothing_is_kept_of_who_left() {
    let places = places(4, Some(1));
    drop(Client::new(&places, "2001:db8::1"));
    drop(Client::new(&places, "192.0.2.1"));
    drop(places.wait(ip("192.0.2.1"), &Marks::new()));
    let table = places.table.lock();
    assert_eq!((table.taken.len(), table.addresses.len(), table.networks.len(), table.queue.len()), (0, 0, 0, 0));
}

#[test]
fn no_limit_of_an_address_is_none() {
    let places = places(100, None);
    let taken: Vec<_> = (0..100).map(|_| Client::new(&places, "::1")).collect();
    assert!(taken.iter().all(Result::is_ok));
    assert_eq!(Client::new(&places, "::1").err(), Some(Scope::All));
}

#[tokio::test(start_paused = true)]
async fn who_has_been_idle_for_the_longest_makes_room() {
    let places = places(3, Some(2));
    let mut clients = ["192.0.2.1", "192.0.2.2", "192.0.2.2"].map(|text| Client::new(&places, text).unwrap());
    for at in [1, 0] {
        clients[at].rest();
        advance(Duration::from_secs(1)).await;
    }
    let evicted = |clients: &[Client]| clients.iter().map(|client| client.marks.is_evicted()).collect::<Vec<_>>();
    let third = Client::new(&places, "192.0.2.3").unwrap();
    assert_eq!(evicted(&clients), [false, true, false], "of all, as all places are taken");
    let fourth = Client::new(&places, "192.0.2.3").unwrap();
    assert_eq!(evicted(&clients), [true, true, false]);
    assert_eq!(Client::new(&places, "192.0.2.4").err(), Some(Scope::All), "nobody else is idle");
    // Those who made room have nothing to give back.
    drop(clients);
    assert_eq!(places.table.lock().taken.len(), 2);
    drop((third, fourth));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_has_too_many_makes_room_itself() {
    let places = places(10, Some(1));
    let mut other = Client::new(&places, "192.0.2.1").unwrap();
    other.rest();
    advance(Duration::from_secs(1)).await;
    let mut own = Client::new(&places, "192.0.2.2").unwrap();
    assert!(Client::new(&places, "192.0.2.2").is_err());
    own.rest();
    assert!(Client::new(&places, "192.0.2.2").is_ok());
    assert_eq!((own.marks.is_evicted(), other.marks.is_evicted()), (true, false));
}

#[tokio::test]
async fn who_waits_is_next() {
    let places = places(2, Some(1));
    let mut one = Client::new(&places, "192.0.2.1").unwrap();
    let other = Client::new(&places, "192.0.2.2").unwrap();
    let marks = Marks::new();
    let [mut first, second] = [1, 2].map(|_| places.wait(ip("192.0.2.1"), &marks).unwrap());
    assert!(one.place.is_wanted() && !other.place.is_wanted(), "another's place would not help");
    one.rest();
    drop(second);
    drop(other);
    assert!(first.place.try_recv().is_err(), "still not");
    drop(one);
    let place = first.place().await.unwrap();
    assert_eq!(places.table.lock().addresses[&ip("192.0.2.1")], 1);
    assert!(!place.is_wanted(), "the second went away");
}

#[test]
fn who_waits_and_who_becomes_idle_do_not_miss_each_other() {
    let places = places(1, None);
    let mut one = Client::new(&places, "192.0.2.1").unwrap();
    assert!(Client::new(&places, "192.0.2.2").is_err());
    // Between the two steps of the one who comes.
    one.rest();
    assert!(!one.place.is_wanted());
    let mut waiting = places.wait(ip("192.0.2.2"), &Marks::new()).unwrap();
    assert!(one.marks.is_evicted() && waiting.place.try_recv().is_ok());
}

#[test]
fn one_who_went_away_while_its_place_came_leaves_it_to_the_next() {
    let places = places(1, Some(1));
    let one = Client::new(&places, "192.0.2.1").unwrap();
    let [first, mut second] = [1, 2].map(|_| places.wait(ip("192.0.2.1"), &Marks::new()).unwrap());
    drop(one);
    drop(first);
    assert!(second.place.try_recv().is_ok());
    assert_eq!(places.table.lock().taken.len(), 0);
}

#[test]
fn an_address_fills_no_more_than_its_part_of_the_queue() {
    let places = places(10, Some(1));
    let _busy = ["192.0.2.1", "192.0.2.2"].map(|address| Client::new(&places, address).unwrap());
    let marks = Marks::new();
    let waiting: Vec<_> = (0..WAITING_PER_ADDRESS).map(|_| places.wait(ip("192.0.2.1"), &marks).unwrap()).collect();
    assert!(places.wait(ip("192.0.2.1"), &marks).is_none());
    assert!(places.wait(ip("192.0.2.2"), &marks).is_some());
    drop(waiting);
}
