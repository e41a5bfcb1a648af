//! The host: what Linux and systemd tell us, what they want to hear, and nothing about Nix.
//!
//! The two blocks of unsafe code of the whole tree are here: `sockets.rs` takes over the file descriptors that systemd hands
//! to the process, and `memory.rs` has the C library give back what is free. Every other file forbids it.

pub mod addresses;
pub mod conditions;
pub mod control_sockets;
pub mod credentials;
pub mod directories;
mod face;
pub mod fdstore;
pub mod heartbeat;
pub mod host_name;
pub mod journal;
pub mod landlock;
pub mod limits;
pub mod machine_id;
pub mod memory;
pub mod message_ids;
pub mod moves;
pub mod network;
pub mod notify;
pub mod pressure;
pub mod privileges;
mod socket_error;
pub mod sockets;
pub mod stationary;
pub mod user_namespace;
pub mod wake_up;
