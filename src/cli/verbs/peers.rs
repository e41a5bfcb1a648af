//! `peernixctl peers` and `is-online`.

use crate::cli::error::{Doing as _, Done, VerbError};
use crate::cli::exit;
use crate::cli::output::{Cell, Paint, Screen, Table, count, facts, latency, rate, size, tame};
use crate::control::{Control, Peer, PeerFilter, microseconds};
use clap::builder::PossibleValuesParser;
use serde_json::json;

/// The states of a peer.
const STATES: [&str; 6] = ["discovered", "online", "resting", "suspect", "offline", "blocked"];

/// The arguments of `peers`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    list: List,
}

/// What is listed.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct List {
    /// Only peers in this state
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(STATES))]
    state: Option<String>,
}

/// One peer.
#[derive(Debug, clap::Args)]
pub(crate) struct One {
    /// Its id, the beginning of it, or its name
    #[arg(value_name = "PEER")]
    peer: String,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the peers (the default)
    List(List),
    /// Show all that is known of a peer
    Show(One),
    /// Look for a peer at an address from now on, also after a restart
    Add {
        /// HOST:PORT, or NODEID@HOST:PORT if only that machine may answer there
        #[arg(value_name = "[NODEID@]HOST:PORT")]
        uri: String,
    },
    /// Drop a peer and what is remembered of it; one that announces itself comes back
    Forget(One),
    /// Have nothing to do with a peer until it is unblocked
    Block {
        #[command(flatten)]
        one: One,
        /// Why, for other administrators
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        reason: String,
    },
    /// Lift a block, and a ban that the service pronounced itself
    Unblock(One),
    /// Measure how long a peer takes to answer
    Ping {
        #[command(flatten)]
        one: One,
        /// How often
        #[arg(short, long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
    },
    /// Look at every peer now, and around for new ones
    Refresh,
}

impl Args {
    /// Whether this changes something, so that somebody may have to authenticate.
    pub(super) const fn changes(&self) -> bool {
        !matches!(self.verb, None | Some(Verb::List(_) | Verb::Show(_) | Verb::Ping { .. }))
    }
}

pub(super) async fn run(args: Args, control: &dyn Control, screen: &Screen) -> Done<()> {
    match args.verb.unwrap_or(Verb::List(args.list)) {
        Verb::List(list) => {
            let filter = PeerFilter { id: None, state: list.state };
            let peers = control.peers(filter).await.doing("list the peers")?;
            screen.page(&peers, || table(&peers, screen))
        }
        Verb::Show(One { peer }) => {
            let peer = control.peer(&peer).await.doing(format!("show peer '{}'", tame(&peer)))?;
            screen.show(&peer, || details(&peer, screen))
        }
        Verb::Add { uri } => {
            let new = control.add_peer(&uri).await.doing(format!("add '{}'", tame(&uri)))?;
            let uri = tame(&uri);
            let already = format!("A peer is looked for at {uri} already.");
            screen.changed(
                new,
                &format!("Looks for a peer at {uri} from now on; `peernixctl peers forget {uri}` ends that."),
                &already,
            )
        }
        Verb::Forget(One { peer }) => {
            let done = control.forget_peer(&peer).await.doing(format!("forget peer '{}'", tame(&peer)))?;
            let name = tame(&peer);
            screen.changed(done, &format!("Forgot {name}."), &format!("There was nothing to forget of {name}."))
        }
        Verb::Block { one: One { peer }, reason } => {
            let done = control.block_peer(&peer, &reason).await.doing(format!("block peer '{}'", tame(&peer)))?;
            let name = tame(&peer);
            screen.changed(done, &format!("Blocked {name}."), &format!("{name} is blocked already."))
        }
        Verb::Unblock(One { peer }) => {
            let done = control.unblock_peer(&peer).await.doing(format!("unblock peer '{}'", tame(&peer)))?;
            let name = tame(&peer);
            screen.changed(done, &format!("Unblocked {name}."), &format!("{name} is not blocked."))
        }
        Verb::Ping { one: One { peer }, count } => {
            for _ in 0..count {
                let took = control.ping_peer(&peer).await.doing(format!("ping peer '{}'", tame(&peer)))?;
                let took = microseconds(took);
                screen.item(&json!({ "peer": peer, "latencyUSec": took }), || {
                    format!("{} answered in {}\n", tame(&peer), latency(took))
                })?;
            }
            Ok(())
        }
        Verb::Refresh => {
            control.refresh_peers().await.doing("look for peers")?;
            screen.changed(true, "Looks at every peer, and around for new ones.", "")
        }
    }
}

/// Tells a state by exit code, as `systemctl is-active` does.
pub(super) async fn is_online(args: &One, control: &dyn Control, screen: &Screen) -> Done<()> {
    let peer = control.peer(&args.peer).await.doing(format!("look at peer '{}'", tame(&args.peer)))?;
    let online = peer.state == "online";
    let value = json!({ "id": peer.id, "name": peer.name, "online": online, "state": peer.state });
    screen.show(&value, || if screen.quiet { String::new() } else { format!("{}\n", tame(&peer.state)) })?;
    if online { Ok(()) } else { Err(VerbError::Ended(exit::NOT_RUNNING)) }
}

fn paint(state: &str) -> Paint {
    match state {
        "online" => Paint::Good,
        "suspect" => Paint::Warning,
        "blocked" => Paint::Bad,
        _ => Paint::Faint,
    }
}

fn dot(state: &str) -> &'static str {
    match state {
        "online" => "●",
        "blocked" => "×",
        _ => "○",
    }
}

fn table(peers: &[Peer], screen: &Screen) -> String {
    if peers.is_empty() {
        return if screen.legend && !screen.quiet {
            "No peers. Machines of this network that run peernixd appear here by themselves;\n\
             `peernixctl peers add HOST:PORT` names others.\n"
                .to_owned()
        } else {
            String::new()
        };
    }
    let titles = ["", "~NAME", "ID", "STATE", ">LATENCY", "->SPEED", "->RECEIVED", "->SENT", "SEEN", "~ADDRESS"];
    let mut table = Table::new(&titles);
    for peer in peers {
        let seen = match peer.state.as_str() {
            "online" => Some("now".to_owned()),
            _ => peer.last_seen_timestamp.map(|seen| screen.clock.ago(seen)),
        };
        table.row(vec![
            Cell::new(dot(&peer.state)).paint(paint(&peer.state)),
            Cell::known(Some(&peer.name)),
            Cell::new(screen.short(&peer.id)),
            Cell::new(&peer.state).paint(paint(&peer.state)),
            Cell::known(peer.latency_usec.map(latency)),
            Cell::known(peer.throughput.map(rate)),
            Cell::new(size(peer.bytes_in)),
            Cell::new(size(peer.bytes_out)),
            Cell::known(seen),
            Cell::known(peer.addresses.first()),
        ]);
    }
    let online = peers.iter().filter(|peer| peer.state == "online").count();
    screen.table(&table, &format!("{} listed, {online} online.", count(peers.len() as u64, "peer")))
}

fn details(peer: &Peer, screen: &Screen) -> String {
    let Screen { style, clock, .. } = screen;
    let state = paint(&peer.state);
    let name = if peer.name.is_empty() { "(no name yet)".to_owned() } else { tame(&peer.name) };
    let mut text =
        format!("{} {name} – {}\n", style.paint(state, dot(&peer.state)), style.paint(state, &tame(&peer.state)));
    let mut lines = vec![("ID", tame(&peer.id))];
    let mut fact = |name: &'static str, value: Option<String>| lines.extend(value.map(|value| (name, value)));
    fact(
        "Blocked",
        peer.blocked.as_ref().map(|blocked| {
            let until = blocked.until_timestamp.map_or_else(
                || "until it is unblocked".to_owned(),
                |until| format!("until {} ({})", clock.date(until), clock.ago(until)),
            );
            let reason = if blocked.reason.is_empty() { "no reason given".to_owned() } else { tame(&blocked.reason) };
            style.paint(Paint::Bad, &format!("{until}: {reason}"))
        }),
    );
    fact("Reason", peer.refused.as_deref().map(|reason| style.paint(Paint::Bad, &tame(reason))));
    fact("Version", Some(tame(&peer.version)).filter(|version| !version.is_empty()));
    fact(
        "Addresses",
        Some(peer.addresses.iter().map(|at| tame(at)).collect::<Vec<_>>().join("\n")).filter(|all| !all.is_empty()),
    );
    let by_hand = if peer.added { ", added by an administrator" } else { "" };
    fact("Known by", Some(format!("{}{by_hand}", tame(&peer.source))));
    fact("Served as", Some(tame(&peer.audience)));
    let when = |time: u64| format!("{} ({})", clock.date(time), clock.ago(time));
    fact("First seen", peer.first_seen_timestamp.map(when));
    fact("Last seen", peer.last_seen_timestamp.map(when));
    fact("Latency", peer.latency_usec.map(latency));
    fact("Speed", peer.throughput.map(rate));
    fact("Received", Some(size(peer.bytes_in)));
    fact("Sent", Some(size(peer.bytes_out)));
    fact("Failures", Some(format!("{} in a row", peer.failures)));
    let when_told = |entries| {
        format!(
            "{} ({})",
            count(entries, "path"),
            peer.index_timestamp.map_or_else(String::new, |time| clock.ago(time))
        )
    };
    fact("Index", peer.index_entries.map(when_told));
    fact("Wrong claims", Some(peer.index_wrong_claims.to_string()).filter(|_| peer.index_wrong_claims > 0));
    fact("Score", Some(format!("{:.2} of 1", peer.score)));
    text.push_str(&facts(&lines));
    text
}
