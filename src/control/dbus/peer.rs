//! `org.peernix.Peernix1.Peer`: one peer as an object.

use super::dict::{Dict, text, texts};
use super::errors::CallError;
use super::model::{Properties, Shown, View};
use super::object::{Item, Object};
use super::options::{self, Options};
use super::paths::peer_path;
use crate::control::{Peer, microseconds};
use zbus::message::Header;
use zbus::{Connection, OwnedObjectPath, interface};

impl Shown for Peer {
    fn shown(&self) -> Properties {
        vec![
            ("Name", text(&self.name).into()),
            ("Version", text(&self.version).into()),
            ("Addresses", texts(&self.addresses).into()),
            ("Source", text(&self.source).into()),
            ("State", text(&self.state).into()),
            ("Audience", text(&self.audience).into()),
            ("Added", self.added.into()),
            ("BlockedReason", blocked_reason(self).into()),
        ]
    }
}

impl Item for Peer {
    fn path(&self) -> OwnedObjectPath {
        peer_path(&self.id)
    }

    fn find<'v>(&self, view: &'v View) -> Option<&'v Self> {
        view.peers.get(&self.id)
    }
}

/// Why there is nothing to do with it, empty if there may be.
fn blocked_reason(peer: &Peer) -> String {
    peer.blocked.as_ref().map(|blocked| text(&blocked.reason)).unwrap_or_default()
}

/// A machine that shares store paths with this one.
#[interface(name = "org.peernix.Peernix1.Peer")]
impl Object<Peer> {
    /// How long it takes to answer a greeting.
    #[zbus(out_args("round_trip_usec"))]
    async fn ping(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<u64, CallError> {
        let _call = self.callers.enter(connection, &header).await?;
        Ok(microseconds(self.model.control.ping_peer(&self.first.id).await?))
    }

    /// Has nothing to do with it until it is unblocked.
    #[zbus(out_args("changed"))]
    async fn block(
        &self,
        reason: &str,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, CallError> {
        Options::none(options)?;
        let _call = self.callers.enter(connection, &header).await?;
        Ok(self.model.control.block_peer(&self.first.id, options::text(reason)?).await?)
    }

    /// Lifts a block, and a ban that the service pronounced itself.
    #[zbus(out_args("changed"))]
    async fn unblock(
        &self,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, CallError> {
        Options::none(options)?;
        let _call = self.callers.enter(connection, &header).await?;
        Ok(self.model.control.unblock_peer(&self.first.id).await?)
    }

    /// Drops it and what is remembered of it.
    #[zbus(out_args("changed"))]
    async fn forget(
        &self,
        options: Dict,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
    ) -> Result<bool, CallError> {
        Options::none(options)?;
        let _call = self.callers.enter(connection, &header).await?;
        Ok(self.model.control.forget_peer(&self.first.id).await?)
    }

    /// Its identity.
    #[zbus(property(emits_changed_signal = "const"))]
    fn id(&self) -> String {
        text(&self.first.id)
    }

    /// Its name for itself, which proves nothing; empty before it first answered.
    #[zbus(property)]
    fn name(&self) -> String {
        self.now(|peer| text(&peer.name))
    }

    /// Its version; empty before it first answered.
    #[zbus(property)]
    fn version(&self) -> String {
        self.now(|peer| text(&peer.version))
    }

    /// Where it may be reached, the best first.
    #[zbus(property)]
    fn addresses(&self) -> Vec<String> {
        self.now(|peer| texts(&peer.addresses))
    }

    /// How it came to be known: mdns, fixed, introduced, relay or remembered.
    #[zbus(property)]
    fn source(&self) -> String {
        self.now(|peer| text(&peer.source))
    }

    /// Where it stands: discovered, online, resting, suspect, offline or blocked.
    #[zbus(property)]
    fn state(&self) -> String {
        self.now(|peer| text(&peer.state))
    }

    /// As whom it is served: anyone or enrolled.
    #[zbus(property)]
    fn audience(&self) -> String {
        self.now(|peer| text(&peer.audience))
    }

    /// Whether an administrator added it while the service ran.
    #[zbus(property)]
    fn added(&self) -> bool {
        self.now(|peer| peer.added)
    }

    /// Why there is nothing to do with it; empty if there may be.
    #[zbus(property)]
    fn blocked_reason(&self) -> String {
        self.now(blocked_reason)
    }

    /// When it was first heard of, 0 if nobody knows.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn first_seen_timestamp(&self) -> u64 {
        self.fresh(|peer| peer.first_seen_timestamp.unwrap_or_default()).await
    }

    /// When it was last online, 0 if never.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn last_seen_timestamp(&self) -> u64 {
        self.fresh(|peer| peer.last_seen_timestamp.unwrap_or_default()).await
    }

    /// Smoothed time to the first byte of an answer, 0 if there was none yet.
    #[zbus(property(emits_changed_signal = "false"), name = "LatencyUSec")]
    async fn latency_usec(&self) -> u64 {
        self.fresh(|peer| peer.latency_usec.unwrap_or_default()).await
    }

    /// Smoothed throughput in bytes per second, 0 if nothing came yet.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn throughput(&self) -> u64 {
        self.fresh(|peer| peer.throughput.unwrap_or_default()).await
    }

    /// Bytes of NARs that came from it.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn bytes_in(&self) -> u64 {
        self.fresh(|peer| peer.bytes_in).await
    }

    /// Bytes that it was sent.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn bytes_out(&self) -> u64 {
        self.fresh(|peer| peer.bytes_out).await
    }

    /// Failed requests since the last one that went well.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn failures(&self) -> u32 {
        self.fresh(|peer| peer.failures).await
    }

    /// How much it is preferred, 0 to 1.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn score(&self) -> f64 {
        self.fresh(|peer| peer.score).await
    }

    /// How many paths it says that it has, 0 where it does not say.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn index_entries(&self) -> u64 {
        self.fresh(|peer| peer.index_entries.unwrap_or_default()).await
    }

    /// When that last changed, in microseconds since 1970; 0 where it does not say.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn index_timestamp(&self) -> u64 {
        self.fresh(|peer| peer.index_timestamp.unwrap_or_default()).await
    }

    /// How often it did not have what it says, since it was last online.
    #[zbus(property(emits_changed_signal = "false"))]
    async fn index_wrong_claims(&self) -> u64 {
        self.fresh(|peer| peer.index_wrong_claims).await
    }
}
