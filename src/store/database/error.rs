//! How a question to the database fails.

use crate::store::StoreError;

/// What can go wrong inside a question.
pub(super) enum QueryError {
    Sqlite(rusqlite::Error),
    /// A record that Nix did not write. Asking again would not help.
    Record(StoreError),
}

impl From<rusqlite::Error> for QueryError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}
