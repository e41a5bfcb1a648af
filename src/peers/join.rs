//! Joining a fleet by a code: finding the machine that invites by it, and the exchange with it.

use super::discovery::FixedPeer;
use super::fleet::messages::{first_request, second_request};
use super::fleet::pairing::{Code, Joiner, PairingError};
use super::fleet::{FleetError, Membership, PAIR_ANSWER_MAX, PAIR_TARGET, PairingReply};
use super::handle::Peers;
use super::identity::NodeId;
use super::link::{Call, Connection, Target};
use super::state::State;
use bytes::Bytes;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a machine may take to say that it invites by a code.
const SEARCH_LIMIT: Duration = Duration::from_secs(5);
/// How long the rest of the exchange may take.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(10);
/// How many machines are asked whether they invite.
const ASKED_MAX: usize = 256;

/// A machine that invites, and has shown that it knows the code.
struct Invites {
    connection: Connection,
    /// That we know it, too.
    proof: Bytes,
}

/// Why a machine that was asked is not the one.
enum NotThis {
    /// It could not be asked.
    Unreachable(String),
    /// It says that it invites by this code, and does not know it.
    Wrong(PairingError),
}

impl Peers {
    /// Joins the fleet of the machine that shows `code`: the one at `address` (`HOST:PORT`, `NODEID@HOST:PORT`), else whichever of the
    /// known ones invites by it.
    ///
    /// # Errors
    /// Nobody does; the code is wrong, or somebody is in between; the machine cannot be reached; this machine founded a fleet itself.
    pub async fn join_fleet(&self, code: &Code, address: Option<&str>) -> Result<Membership, FleetError> {
        let fleet = &self.0.fleet;
        fleet.may_join()?;
        let candidates = match address {
            Some(address) => vec![self.candidate(address).await?],
            None => self.known_candidates(),
        };
        let asked = candidates.len();
        let invites = match (first_of(candidates, code, fleet.name(), self.us()).await, address) {
            (Ok(Some(invites)), _) => invites,
            (Err(NotThis::Wrong(error)), _) => return Err(error.into()),
            // One that was named is to blame by name.
            (Err(NotThis::Unreachable(why)), Some(place)) => {
                return Err(FleetError::Unreachable { place: place.to_owned(), why });
            }
            (Ok(None), Some(place)) => return Err(FleetError::DoesNotInvite { place: place.to_owned() }),
            (Ok(None) | Err(NotThis::Unreachable(_)), None) => return Err(FleetError::NobodyInvites { asked }),
        };
        let Invites { mut connection, proof } = invites;
        let inviter = connection.id();
        let exchange = ask(&mut connection, proof);
        let place = connection_place(address, inviter);
        let answer = timeout(EXCHANGE_LIMIT, exchange).await.unwrap_or_else(|_| Err("it does not answer".to_owned()));
        let answer = answer.map_err(|why| FleetError::Unreachable { place: place.clone(), why })?;
        let body = answer.ok_or(FleetError::Unreachable { place, why: "it ended the exchange".to_owned() })?;
        let (membership, revocations) = PairingReply::second(&body)?;
        let joined = fleet.joined(&membership, revocations).await?;
        log::info!(fleet:% = joined.fleet, peer:% = inviter; "this machine joined the fleet {}", joined.fleet);
        self.refresh();
        Ok(joined)
    }

    async fn candidate(&self, address: &str) -> Result<(Target, Vec<SocketAddr>), FleetError> {
        let peer: FixedPeer = address.parse()?;
        let found = tokio::net::lookup_host((peer.host.as_str(), peer.port)).await;
        let unreachable = |why: String| FleetError::Unreachable { place: address.to_owned(), why };
        let addresses: Vec<SocketAddr> = found.map_err(|error| unreachable(error.to_string()))?.collect();
        Ok((self.0.target(peer.id), addresses))
    }

    /// All machines of which an address is known.
    fn known_candidates(&self) -> Vec<(Target, Vec<SocketAddr>)> {
        let peers = self.0.table.all().into_iter().filter(|peer| peer.state() != State::Blocked);
        let known = peers.map(|peer| (self.0.target(Some(peer.id())), peer.addresses()));
        known.filter(|(_, addresses)| !addresses.is_empty()).take(ASKED_MAX).collect()
    }
}

fn connection_place(address: Option<&str>, inviter: NodeId) -> String {
    address.map_or_else(|| inviter.to_string(), str::to_owned)
}

/// The first machine that invites by the code and knows it, whoever else says so. `None`: none of them does. An error: why the last one that
/// matters is not the one.
async fn first_of(
    candidates: Vec<(Target, Vec<SocketAddr>)>,
    code: &Code,
    name: &str,
    us: NodeId,
) -> Result<Option<Invites>, NotThis> {
    let mut asking = JoinSet::new();
    for (target, addresses) in candidates {
        let (code, name) = (code.clone(), name.to_owned());
        asking.spawn(async move {
            let begin = async {
                let dialled = target.dial(&addresses).await;
                let mut connection = dialled.map_err(|error| NotThis::Unreachable(error.to_string()))?;
                let (joining, message) = Joiner::begin(&code, us, connection.id());
                let reply = ask(&mut connection, first_request(&code, &message)).await.map_err(NotThis::Unreachable)?;
                let Some(reply) = reply else { return Ok(None) };
                let (message, proof) = PairingReply::first(&reply).map_err(NotThis::Wrong)?;
                let proof = joining.end(&message, &proof).map_err(NotThis::Wrong)?;
                Ok(Some(Invites { connection, proof: second_request(&code, &proof, &name) }))
            };
            let late = |_| Err(NotThis::Unreachable("it does not answer".to_owned()));
            timeout(SEARCH_LIMIT, begin).await.unwrap_or_else(late)
        });
    }
    let mut failure = None;
    while let Some(asked) = asking.join_next().await {
        match asked {
            Ok(Ok(Some(invites))) => return Ok(Some(invites)),
            Ok(Ok(None)) | Err(_) => {}
            // What a wrong code leads to is told before what a machine elsewhere is at.
            Ok(Err(NotThis::Unreachable(_))) if matches!(failure, Some(NotThis::Wrong(_))) => {}
            Ok(Err(why)) => failure = Some(why),
        }
    }
    failure.map_or(Ok(None), Err)
}

/// One request of the exchange. `None`: it does not invite by this code, or not any more.
async fn ask(connection: &mut Connection, body: Bytes) -> Result<Option<Bytes>, String> {
    let call = Call::Post { target: PAIR_TARGET, body };
    connection.ask(call, PAIR_ANSWER_MAX).await.map_err(|error| error.to_string())
}
