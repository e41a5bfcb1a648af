//! The interface, which is one block to zbus: what there is, for callers and for the introspection.
#![expect(
    dead_code,
    reason = "zbus makes functions that send the signals; signals.rs sends them, and needs no file above it"
)]

use super::request::{Backend, Dicts, Listed, Request};
use super::{fleet, jobs, keys, peers, service, store};
use crate::control::ServiceState;
use crate::control::dbus::dict::{Dict, text, texts};
use crate::control::dbus::errors::CallError;
use crate::control::dbus::model::View;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, ObjectPath, OwnedObjectPath, interface};

/// The service as a whole.
pub(crate) struct Manager(pub(crate) Backend);

/// Makes the one block.
macro_rules! manager {
    (
        methods { $($(#[$method_meta:meta])* $method:ident($($argument:ident: $kind:ty),*) -> $answer:tt = $work:path;)* }
        constants { $($(#[doc = $constant_doc:literal])* $constant:ident: $constant_kind:ty = $constant_look:expr;)* }
        properties { $($(#[doc = $property_doc:literal])* $property:ident: $property_kind:ty = $property_look:expr;)* }
        figures { $($(#[doc = $figure_doc:literal])* $figure:ident: $figure_kind:ty = $figure_look:expr;)* }
        signals { $($(#[doc = $signal_doc:literal])* $signal:ident($($part:ident: $part_kind:ty),*);)* }
    ) => {
        /// The service as a whole. Times are in microseconds since 1970, durations in microseconds, sizes in bytes. Dictionaries hold what the
        /// service's types hold; what is not known is left out. Options that are not known are refused.
        #[interface(name = "org.peernix.Peernix1.Manager")]
        impl Manager {
            $(
                $(#[$method_meta])*
                async fn $method(
                    &self,
                    $($argument: $kind,)*
                    #[zbus(connection)] connection: &Connection,
                    #[zbus(header)] header: Header<'_>,
                ) -> Result<$answer, CallError> {
                    $work(Request::new(&self.0, connection, header) $(, $argument)*).await
                }
            )*
            $(
                $(#[doc = $constant_doc])*
                #[zbus(property(emits_changed_signal = "const"))]
                fn $constant(&self) -> $constant_kind {
                    look(&self.0.model.view(), $constant_look)
                }
            )*
            $(
                $(#[doc = $property_doc])*
                #[zbus(property)]
                fn $property(&self) -> $property_kind {
                    look(&self.0.model.view(), $property_look)
                }
            )*
            $(
                $(#[doc = $figure_doc])*
                #[zbus(property(emits_changed_signal = "false"))]
                async fn $figure(&self) -> $figure_kind {
                    look(&*self.0.model.fresh().await, $figure_look)
                }
            )*
            $(
                $(#[doc = $signal_doc])*
                #[zbus(signal)]
                async fn $signal(emitter: &SignalEmitter<'_>, $($part: $part_kind),*) -> zbus::Result<()>;
            )*
        }
    };
}

fn look<T>(view: &View, look: impl FnOnce(&View) -> T) -> T {
    look(view)
}

manager! {
    methods {
        /// How the service is, in one dictionary.
        #[zbus(out_args("status"))]
        get_status() -> Dict = service::status;

        /// Everything that the service knows of itself, as JSON: for people and bug reports.
        #[zbus(out_args("json"))]
        describe() -> String = service::describe;

        /// What the service did since its counters were reset.
        #[zbus(out_args("statistics"))]
        get_statistics() -> Dict = service::statistics;

        /// The transfers under way, the oldest first.
        #[zbus(out_args("transfers"))]
        list_transfers() -> Dicts = service::transfers;

        /// What it did, day by day, the oldest first.
        #[zbus(out_args("days"))]
        get_history() -> Dicts = service::history;

        /// Begins to count anew.
        reset_statistics(options: Dict) -> () = service::reset_statistics;

        /// Takes no new work; what is under way goes on. Option LimitUSec (t): for how long. True if it was not so already.
        #[zbus(out_args("changed"))]
        drain(options: Dict) -> bool = service::drain;

        /// Takes new work again. True if it did not.
        #[zbus(out_args("changed"))]
        undrain(options: Dict) -> bool = service::undrain;

        /// Asks nobody for anything from now on, so that what is not here is missed at once, or asks again; until the service ends. True if it
        /// was not so already.
        #[zbus(out_args("changed"))]
        set_offline(offline: bool, options: Dict) -> bool = service::set_offline;

        /// Reads the configuration again. With a bad one everything stays as it is, and the error says what is wrong with it.
        #[zbus(out_args("result"))]
        reload(options: Dict) -> Dict = service::reload;

        /// Logs this from now on: error, warning, info, debug or trace.
        set_log_level(level: &str, options: Dict) -> () = service::set_log_level;

        /// Sends Event and EventsDropped to this connection from now on. Options: Kinds (as), only these; After (t), also those
        /// after this cursor that are still kept. The newest cursor by now. A subscriber must answer org.freedesktop.DBus.Peer.Ping:
        /// it gets some hundred events, and more once it has.
        #[zbus(out_args("cursor"))]
        subscribe(options: Dict) -> u64 = service::subscribe;

        /// Sends no more events to this connection.
        unsubscribe() -> () = service::unsubscribe;

        /// The peers, with their objects. Filter: Id (s), State (s).
        #[zbus(out_args("peers"))]
        list_peers(filter: Dict) -> Listed = peers::list;

        /// One peer by its id, a beginning of that, or its name.
        #[zbus(out_args("object", "peer"))]
        get_peer(peer: &str) -> (OwnedObjectPath, Dict) = peers::get;

        /// Looks for a peer at HOST:PORT or NODEID@HOST:PORT from now on, also after a restart. True if it did not already.
        #[zbus(out_args("changed"))]
        add_peer(uri: &str, options: Dict) -> bool = peers::add;

        /// Drops a peer and what is remembered of it.
        #[zbus(out_args("changed"))]
        forget_peer(peer: &str, options: Dict) -> bool = peers::forget;

        /// Has nothing to do with a peer until it is unblocked.
        #[zbus(out_args("changed"))]
        block_peer(peer: &str, reason: &str, options: Dict) -> bool = peers::block;

        /// Lifts a block, and a ban that the service pronounced itself.
        #[zbus(out_args("changed"))]
        unblock_peer(peer: &str, options: Dict) -> bool = peers::unblock;

        /// How long a peer takes to answer a greeting.
        #[zbus(out_args("round_trip_usec"))]
        ping_peer(peer: &str) -> u64 = peers::ping;

        /// How fast the line to a peer is: has it send as fast as it can for some seconds.
        #[zbus(out_args("measurement"))]
        measure_peer(peer: &str) -> Dict = peers::measure;

        /// Looks at every peer now, and around for new ones.
        refresh(options: Dict) -> () = peers::refresh;

        /// Who has a path, and whether this machine would serve it, to whom, or why not.
        #[zbus(out_args("report"))]
        query_path(path: &str) -> Dict = store::query;

        /// Gets paths with all that they refer to into the store. The job that does it.
        #[zbus(out_args("job"))]
        prefetch(paths: Vec<String>, options: Dict) -> OwnedObjectPath = store::prefetch;

        /// Deletes what nothing needs from the store. Options: DryRun (b), MaxFreed (t), OlderThanUSec (t). The job that does it.
        #[zbus(out_args("job"))]
        collect_garbage(options: Dict) -> OwnedObjectPath = store::collect_garbage;

        /// Keeps a path from being collected. Options: Reason (s), UntilTimestamp (t), Copies (t): on how many machines. True if it was not kept like this already.
        #[zbus(out_args("changed"))]
        pin(path: &str, options: Dict) -> bool = store::pin;

        /// Lets a path be collected again.
        #[zbus(out_args("changed"))]
        unpin(path: &str, options: Dict) -> bool = store::unpin;

        /// What is pinned.
        #[zbus(out_args("pins"))]
        list_pins() -> Dicts = store::pins;

        /// Jobs that run or ended lately, with their objects, the oldest first.
        #[zbus(out_args("jobs"))]
        list_jobs() -> Listed = jobs::list;

        /// One job by its number.
        #[zbus(out_args("object", "job"))]
        get_job(id: u64) -> (OwnedObjectPath, Dict) = jobs::get;

        /// The keys that sign, signed, or must not sign any more what is built here, with their objects.
        #[zbus(out_args("keys"))]
        list_keys() -> Listed = keys::list;

        /// Makes a new key that signs from now on. Option GraceUSec (t): how long the one before goes on beside it. The new key, and
        /// in `rotation` both: Old (a{sv}), New (a{sv}).
        #[zbus(out_args("key", "rotation"))]
        rotate_key(options: Dict) -> (OwnedObjectPath, Dict) = keys::rotate;

        /// Never signs with a key again.
        #[zbus(out_args("changed"))]
        revoke_key(fingerprint: &str, reason: &str, options: Dict) -> bool = keys::revoke;

        /// The keys whose signatures let a path in, and those that were distrusted.
        #[zbus(out_args("keys"))]
        list_trusted() -> Dicts = keys::trusted;

        /// Lets in what a key (NAME:BASE64) signed. Option Comment (s).
        #[zbus(out_args("changed"))]
        trust(public_key: &str, options: Dict) -> bool = keys::trust;

        /// Does not let in any more what a key, by its text or its name, signed.
        #[zbus(out_args("changed"))]
        distrust(key: &str, options: Dict) -> bool = keys::distrust;

        /// What is known of the fleet of this machine.
        #[zbus(out_args("fleet"))]
        get_fleet() -> Dict = fleet::get;

        /// Founds a fleet, of which this machine is the first member and has the key. Option Site (s). What is known of it now.
        #[zbus(out_args("fleet"))]
        init_fleet(options: Dict) -> Dict = fleet::init;

        /// Makes a code that lets one machine in, for a minute and for three tries: Code (s), ExpiresTimestamp (t).
        #[zbus(out_args("invitation"))]
        invite_member(options: Dict) -> Dict = fleet::invite;

        /// Joins a fleet by a code, or by a membership that was made for this machine. Option Address (s): of the machine that shows the
        /// code. What is known of the fleet now.
        #[zbus(out_args("fleet"))]
        join_fleet(code: &str, options: Dict) -> Dict = fleet::join;

        /// Makes a membership for a machine, which JoinFleet takes there. Options: Name (s), Site (s), Roles (as), ValidUSec (t).
        #[zbus(out_args("membership"))]
        enroll_member(id: &str, options: Dict) -> String = fleet::enroll;

        /// Ends the membership of a machine, by its id or its name; all members hear of it.
        #[zbus(out_args("changed"))]
        revoke_member(member: &str, options: Dict) -> bool = fleet::revoke;
    }

    // These never change.
    constants {
        /// The version of the service.
        version: String = |view| view.status.version.clone();

        /// What this build can do, in words.
        features: Vec<String> = |view| texts(&view.status.features);

        /// The identity of this machine.
        node_id: String = |view| view.status.node_id.clone();

        /// The name of this machine.
        host_name: String = |view| text(&view.status.host_name);

        /// The store directory.
        store_dir: String = |view| text(&view.status.store_dir);

        /// When the service started.
        start_timestamp: u64 = |view| view.status.start_timestamp;

        /// How far the service has locked itself in, in words.
        sandbox: String = |view| text(&view.status.sandbox);
    }

    // Of these everybody is told when they change.
    properties {
        /// starting, running, degraded, draining, reloading or stopping.
        state: String = |view| view.status.state.to_string();

        /// Whether it takes no new work.
        draining: bool = |view| view.status.state == ServiceState::Draining;

        /// What is missing, one sentence each.
        problems: Vec<String> = |view| texts(&view.status.problems);

        /// Where it listens: a face (gateway, share, plain), a space, and an address.
        listen: Vec<String> = View::listen;

        /// The peers that are known.
        peers_known: u32 = |view| view.status.peers_known;

        /// The peers that can be asked.
        peers_online: u32 = |view| view.status.peers_online;

        /// What is shared: off, signed or signed+own.
        share_policy: String = |view| text(&view.status.share_policy);

        /// The key that signs what is built here, / if there is none.
        active_key: OwnedObjectPath = View::active_key;

        /// When the configuration was read again, 0 if never.
        last_reload_timestamp: u64 = |view| view.last_reload().0;

        /// What came of that: none, success, or what is wrong with it.
        last_reload_result: String = |view| view.last_reload().1;

        /// What is logged: error, warning, info, debug or trace.
        log_level: String = |view| view.status.log_level.to_string();

        /// Jobs that run or ended lately.
        jobs: Vec<OwnedObjectPath> = View::job_paths;
    }

    // These change all the time.
    figures {
        /// Transfers under way.
        transfers: u32 = |view| view.status.transfers;

        /// Requests answered.
        requests_served: u64 = |view| view.statistics.faces.iter().map(|face| face.requests).sum();

        /// Bytes of answers given to the network.
        bytes_served: u64 = |view| view.statistics.faces.iter().map(|face| face.bytes_served).sum();

        /// Bytes that came from peers.
        bytes_from_peers: u64 = |view| view.statistics.bytes_from_peers;

        /// Bytes that came from the Internet.
        bytes_from_upstreams: u64 = |view| view.statistics.bytes_from_upstreams;
    }

    signals {
        /// A peer is new.
        peer_added(id: &str, peer: ObjectPath<'_>);
        /// A peer was dropped.
        peer_removed(id: &str, peer: ObjectPath<'_>, reason: &str);
        /// A peer went from one state to another.
        peer_state_changed(id: &str, name: &str, from: &str, to: &str);
        /// There is nothing to do with a peer any more.
        peer_blocked(id: &str, name: &str, reason: &str);
        /// There may be something to do with a peer again.
        peer_unblocked(id: &str, name: &str);
        /// Somebody sent what was not what was signed.
        trust_violation(peer: &str, name: &str, path: &str, reason: &str);
        /// A path of this machine's own store is damaged, and is not shared any more.
        path_damaged(path: &str);
        /// Another key signs; / if none did before.
        key_rotated(old: ObjectPath<'_>, new: ObjectPath<'_>);
        /// A key must not sign any more.
        key_revoked(name: &str, reason: &str);
        /// The list of trusted keys changed.
        trust_changed(name: &str);
        /// The fleet of this machine changed, or who belongs to it: founded, joined, enrolled or revoked.
        fleet_changed(id: &str, change: &str);
        /// The configuration was read again; if that went wrong, with the reason.
        reloaded(success: bool, error: &str);
        /// The service takes no new work, or takes it again.
        drain_changed(draining: bool);
        /// Garbage was collected: so many bytes, by this job.
        garbage_collected(freed: u64, job: ObjectPath<'_>);
        /// A path was pinned or unpinned.
        pin_changed(path: &str, change: &str);
        /// The counters began anew.
        statistics_reset();
        /// Other machines can be found by multicast DNS, or cannot: then the reason says why.
        discovery_changed(working: bool, reason: &str);
        /// This machine has another node id than before.
        identity_changed(from: &str, to: &str);
        /// Another machine has this machine's node key, or has it no more.
        identity_conflict(found: bool, address: &str);
        /// A job began.
        job_started(id: u64, job: ObjectPath<'_>, kind: &str);
        /// A job ended: done, failed or cancelled. Its object stays for a while.
        job_finished(id: u64, job: ObjectPath<'_>, state: &str);
        /// Something happened. Only for those who called Subscribe.
        event(event: Dict);
        /// The subscriber was too slow, and this many events are gone. Only for those who called Subscribe.
        events_dropped(count: u64);
    }
}
