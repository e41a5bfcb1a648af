//! `peernixctl fleet`: the machines of one administrator.

use super::values::span;
use crate::cli::error::{Doing as _, Done};
use crate::cli::output::{Cell, Paint, Screen, Table, count, facts, tame};
use crate::control::{Control, Enrolment, FleetStatus, microseconds};
use serde_json::json;
use std::time::Duration;

/// The arguments of `fleet`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// Show the fleet of this machine, its members, and who was revoked (the default)
    Show,
    /// Found a fleet, of which this machine is the first member and has the key
    Init {
        /// Where this machine is, for people
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        site: String,
    },
    /// Print a code that lets one machine in, for a minute and for three tries
    Invite,
    /// Join a fleet by the code that `fleet invite` prints on the machine that has its key, or by what `fleet enroll` printed there
    Join {
        /// The code, or the membership
        #[arg(value_name = "CODE")]
        code: String,
        /// Where that machine is; else all that are known are asked
        #[arg(value_name = "[NODEID@]HOST:PORT")]
        address: Option<String>,
    },
    /// Print a membership for a machine, for `fleet join` there
    Enroll {
        /// Its id, as `peernixd --print-node-id` prints it there
        #[arg(value_name = "NODEID")]
        node: String,
        /// What to call it
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Where it is
        #[arg(long, value_name = "TEXT")]
        site: Option<String>,
        /// What it may do for others beside sharing; all of it if not given
        #[arg(long = "role", value_name = "ROLE")]
        roles: Vec<RoleArg>,
        /// For how long, such as 30d, after which it ends; a year if not given, and it is renewed in time
        #[arg(long, value_name = "TIME", value_parser = span)]
        valid: Option<Duration>,
    },
    /// End the membership of a machine; all members hear of it within seconds
    Revoke {
        /// Its id, the beginning of it, or its name
        #[arg(value_name = "MEMBER")]
        member: String,
    },
}

/// What a machine may do for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum RoleArg {
    /// Speak for its site
    Gateway,
    /// Tell what all have, in a room of very many machines
    Relay,
    /// None of these
    None,
}

impl RoleArg {
    fn of(roles: &[Self]) -> Vec<String> {
        let word = |role: &Self| match role {
            Self::Gateway => "gateway",
            Self::Relay => "relay",
            // What others have no meaning for allows nothing.
            Self::None => "none",
        };
        roles.iter().map(|role| word(role).to_owned()).collect()
    }
}

impl Args {
    /// Whether this changes something, so that somebody may have to authenticate.
    pub(super) const fn changes(&self) -> bool {
        !matches!(self.verb, None | Some(Verb::Show))
    }
}

pub(super) async fn run(args: Args, control: &dyn Control, screen: &Screen) -> Done<()> {
    match args.verb.unwrap_or(Verb::Show) {
        Verb::Show => {
            let fleet = control.fleet().await.doing("show the fleet")?;
            screen.page(&fleet, || details(&fleet, screen))
        }
        Verb::Init { site } => {
            let fleet = control.init_fleet(&site).await.doing("found a fleet")?;
            screen.show(&fleet, || {
                let key = tame(fleet.public_key.as_deref().unwrap_or_default());
                format!(
                    "Founded a fleet. Its key is on this machine and nowhere else: keep a copy of fleet.key from the state directory.\n\
                     On every machine of it, in the configuration:\n\n\
                     [share]\nprofile = \"fleet\"\n[fleet]\npublic_key = \"{key}\"\n"
                )
            })
        }
        Verb::Invite => {
            let invitation = control.invite_member().await.doing("invite a machine")?;
            screen.show(&invitation, || {
                let (code, end) = (tame(&invitation.code), screen.clock.date(invitation.expires_timestamp));
                if screen.quiet {
                    return format!("{code}\n");
                }
                format!("{code}\nOn the other machine, until {end}: peernixctl fleet join {code}\n")
            })
        }
        Verb::Join { code, address } => {
            let fleet = control.join_fleet(&code, address.as_deref()).await.doing("join a fleet")?;
            screen.show(&fleet, || {
                let key = tame(fleet.public_key.as_deref().unwrap_or_default());
                let mut text = format!("Joined the fleet {key}.\n");
                if fleet.mode != "fleet" {
                    text.push_str(&format!(
                        "It lets this machine in. That this machine lets in nobody else is for its configuration to say:\n\n\
                         [share]\nprofile = \"fleet\"\n[fleet]\npublic_key = \"{key}\"\n"
                    ));
                }
                text
            })
        }
        Verb::Enroll { node, name, site, roles, valid } => {
            let doing = format!("enroll '{}'", tame(&node));
            let enrolment =
                Enrolment { id: node, name, site, roles: RoleArg::of(&roles), valid_usec: valid.map(microseconds) };
            let membership = control.enroll_member(enrolment).await.doing(doing)?;
            screen.show(&json!({ "membership": membership }), || format!("{}\n", tame_token(&membership)))
        }
        Verb::Revoke { member } => {
            let done = control.revoke_member(&member).await.doing(format!("revoke '{}'", tame(&member)))?;
            let name = tame(&member);
            screen.changed(done, &format!("Revoked {name}."), &format!("{name} is revoked already."))
        }
    }
}

/// A membership is longer than what else is shown in one piece, and has nothing but letters, digits, dashes and a dot.
fn tame_token(token: &str) -> String {
    token.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect()
}

fn details(fleet: &FleetStatus, screen: &Screen) -> String {
    let Screen { style, clock, .. } = screen;
    let when = |time: u64| format!("{} ({})", clock.date(time), clock.ago(time));
    let mut lines = vec![(
        "Lets in",
        match fleet.mode.as_str() {
            "fleet" => "members of the fleet",
            "static" => "the nodes of [fleet]",
            _ => "every machine",
        }
        .to_owned(),
    )];
    let mut fact = |name: &'static str, value: Option<String>| lines.extend(value.map(|value| (name, value)));
    match &fleet.public_key {
        Some(key) => fact("Fleet", Some(tame(key))),
        None => {
            fact("Fleet", Some("none (`peernixctl fleet init` founds one, `fleet join CODE` joins one)".to_owned()));
        }
    }
    fact(
        "Fleet key",
        fleet
            .public_key
            .as_ref()
            .map(|_| if fleet.has_key { "on this machine".to_owned() } else { "on another machine".to_owned() }),
    );
    if let Some(ours) = &fleet.membership {
        let site = if ours.site.is_empty() { String::new() } else { format!(", at {}", tame(&ours.site)) };
        fact("Member as", Some(format!("{}{site}", tame(&ours.name))));
        fact("Roles", (!ours.roles.is_empty()).then(|| tame(&ours.roles.join(", "))));
        fact("Until", Some(when(ours.expires_timestamp)));
    }
    fact(
        "Problem",
        fleet
            .problem
            .as_deref()
            .filter(|_| fleet.public_key.is_some())
            .map(|problem| style.paint(Paint::Bad, &tame(problem))),
    );
    let mut text = facts(&lines);
    if !fleet.members.is_empty() {
        let mut table = Table::new(&["~NAME", "ID", "~SITE", "ROLES", "EXPIRES"]);
        for member in &fleet.members {
            table.row(vec![
                Cell::known(Some(&member.name)),
                Cell::new(screen.short(&member.id)),
                Cell::known(Some(&member.site)),
                Cell::known(Some(&member.roles.join(","))),
                Cell::new(clock.ago(member.expires_timestamp)),
            ]);
        }
        text.push('\n');
        text.push_str(&screen.table(&table, &format!("{} met.", count(fleet.members.len() as u64, "other member"))));
    }
    if !fleet.revoked.is_empty() {
        let mut table = Table::new(&["REVOKED", "SINCE"]);
        for revoked in &fleet.revoked {
            table.row(vec![
                Cell::new(screen.short(&revoked.id)).paint(Paint::Bad),
                Cell::new(clock.ago(revoked.since_timestamp)),
            ]);
        }
        text.push('\n');
        text.push_str(&screen.table(&table, ""));
    }
    text
}
