//! Nix's SQLite database, read beside whoever writes it.
//!
//! It is opened `mode=ro` and never `immutable=1`: the latter does not see what is still in the write-ahead log, which is
//! everything since the last checkpoint. Connections are few, used on blocking threads only, and thrown away as soon as the
//! file behind the name is another one.

mod columns;
mod connections;
mod error;
mod queries;

pub(super) use connections::Database;
pub(super) use queries::{DEBUG_PATHS_MAX, REFERENCES_MAX, RealisationRecord};
