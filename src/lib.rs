//! Peernix: NixOS machines share what is in their Nix stores.
//!
//! The rooms of the house, from the top (where bytes enter) to the bottom. A room uses the rooms named beside it and
//! nothing above it; `docs/architecture.md` tells the whole story.
//!
//! * [`nix`]: Nix's own formats, without any input or output.
//! * [`keys`]: the signing keys of this machine and their rotation, and the keys it trusts.
//! * [`store`]: this machine's store: path infos, NARs from any offset, and the policy of what is shared.
//! * [`peers`]: the other machines: identity, discovery, table, connections.
//! * [`index`]: who has what.
//! * [`sites`]: networks that are joined over NATS.
//! * [`copies`]: what several machines of one administrator hold.
//! * [`fetch`]: getting a path: lookup, transfer, verification, upstreams.
//! * [`http`]: the cache protocol: what gateway and share have in common, and the two of them.
//! * [`system`]: the host: sockets, directories, log, network changes, and what systemd wants to know.
//! * [`config`]: what the administrator wrote.
//! * [`control`]: what an administrator can do, over D-Bus and Varlink.
//! * [`notifier`]: the desktop notifier, a program of each user.
//! * [`cli`]: the command lines of the programs.
//! * [`metrics`]: every counter by name.
//! * [`resilience`]: pauses that grow, limits, loops that go on, values that change: one of each.
//! * `files`: small private files that are never seen half written.
//! * [`daemon`]: from a configuration to a running service and back.

pub mod cli;
pub mod config;
pub mod control;
pub mod copies;
pub mod daemon;
pub mod fetch;
mod files;
pub mod http;
pub mod index;
pub mod keys;
pub mod metrics;
pub mod nix;
pub mod notifier;
pub mod peers;
pub mod resilience;
pub mod sites;
pub mod store;
pub mod system;
mod texts;
pub mod web;

#[cfg(test)]
mod documents;
#[cfg(test)]
mod simulation;
