//! How a question to the database fails.

use crate::store::StoreError;

/// What can go wrong inside a question.
pub(super) enum QueryError {
    Sqlite(rusqlite::Error),
    /// A record that Nix did not write, or a file that is not there. A new connection would not help.
    Store(StoreError),
}

impl From<rusqlite::Error> for QueryError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}
