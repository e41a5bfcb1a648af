//! Nix's SQLite database, read beside whoever writes it.
//!
//! It is opened `mode=ro`. `immutable=1` does not see what is still in the write-ahead log, which is everything since the last
//! checkpoint; so that is for one question, where SQLite would have to make files to read and there is no log, before the question and
//! after it. Connections are few, used on blocking threads only, and thrown away as soon as the file behind the name is another one.
//! A question that meets somebody who writes is asked again for a while, and then is not answered: what cannot be read now is not
//! what is not there.

mod columns;
mod connections;
mod error;
mod queries;
mod recent;
mod stamp;
mod watch;

pub(super) use connections::Database;
pub use queries::BUILT_MAX;
pub(super) use queries::{DEBUG_PATHS_MAX, Glance, REFERENCES_MAX, RealisationRecord};
pub(super) use stamp::Mark;
pub(super) use watch::changes;
