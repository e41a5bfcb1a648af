//! One connection to a Nix daemon: the handshake, and the questions that are answered at once.
//!
//! Source: `worker-protocol-connection.cc`, `worker-protocol.cc` and `daemon.cc` of Nix 2.3 to 2.36, read for the order of
//! the fields. Protocol versions 1.18 (Nix 2.0) to 1.38, which the daemons of Nix 2.34, 2.35 and the one after announce (1.39 is
//! a macro there that nothing uses); those of Lix announce 1.35.

use super::wire::{Wire, WireError};
use crate::nix::{FormatError, PathInfo, StoreDir, StoreHash, StorePath};
use crate::store::{ValidPath, record};
use tokio::io::{AsyncRead, AsyncWrite};

const CLIENT_MAGIC: u64 = 0x6e69_7863;
const SERVER_MAGIC: u64 = 0x6478_696f;
/// The newest version of the protocol that we speak: major in the high byte, minor in the low one.
const VERSION: u64 = 0x0126;
/// The oldest.
const VERSION_MIN: u64 = 0x0112;

/// Operations, by their numbers in the protocol.
const ADD_TEMP_ROOT: u64 = 11;
const QUERY_PATH_INFO: u64 = 26;
const QUERY_PATH_FROM_HASH_PART: u64 = 29;

/// How many features of the protocol a daemon may offer.
const FEATURES_MAX: usize = 256;
/// How many references or signatures a path may have.
const LIST_MAX: usize = crate::store::database::REFERENCES_MAX;

/// A connection after its handshake.
#[derive(Debug)]
pub(super) struct Connection<S: AsyncRead + AsyncWrite> {
    pub(super) wire: Wire<S>,
    /// The lower one of both sides' versions.
    pub(super) version: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Greets the daemon at the other end of `stream`.
    pub(super) async fn greet(stream: S) -> Result<Self, WireError> {
        let mut wire = Wire::new(stream);
        if hello(&mut wire).await.map_err(or_hung_up)? != SERVER_MAGIC {
            return Err(WireError::Protocol("what answers is not a Nix daemon"));
        }
        let theirs = wire.read_number().await?;
        if theirs & 0xff00 != VERSION & 0xff00 || theirs < VERSION_MIN {
            return Err(WireError::Protocol("the daemon's protocol is older than 1.18 (Nix 2.0) or of a new kind"));
        }
        let version = theirs.min(VERSION);
        if version >= 0x0126 {
            // The features that we offer: none.
            wire.write_number(0).await?;
            wire.flush().await?;
            wire.read_strings(FEATURES_MAX).await?;
        }
        // Two settings that no daemon reads any more: CPU affinity and reserved space.
        wire.write_number(0).await?;
        wire.write_number(0).await?;
        wire.flush().await?;
        if version >= 0x0121 {
            let _their_nix = wire.read_string().await?;
        }
        if version >= 0x0123 {
            let _are_we_trusted = wire.read_number().await?;
        }
        let mut connection = Self { wire, version };
        connection.read_frames().await?;
        Ok(connection)
    }

    /// The connection itself, for waiting until it ends.
    pub(super) fn get_ref(&self) -> &S {
        self.wire.get_ref()
    }

    /// Keeps `path` from being collected as garbage until this connection ends.
    pub(super) async fn add_temp_root(&mut self, dir: &StoreDir, path: &StorePath) -> Result<(), WireError> {
        self.begin(ADD_TEMP_ROOT, &dir.join(path)).await?;
        let _always_one = self.wire.read_number().await?;
        Ok(())
    }

    /// The valid path with this hash part.
    pub(super) async fn path_info(
        &mut self,
        dir: &StoreDir,
        hash: StoreHash,
    ) -> Result<Option<Result<ValidPath, FormatError>>, WireError> {
        self.begin(QUERY_PATH_FROM_HASH_PART, &hash.to_string()).await?;
        let path = self.wire.read_string().await?;
        if path.is_empty() {
            return Ok(None);
        }
        let path = match dir.parse(&path) {
            Ok(path) if path.hash() == hash => path,
            Ok(_) => return Ok(None),
            Err(error) => return Ok(Some(Err(error))),
        };
        self.begin(QUERY_PATH_INFO, &dir.join(&path)).await?;
        // It may have become invalid between the two questions.
        if !self.wire.read_bool().await? {
            return Ok(None);
        }
        self.read_path_info(dir, path).await.map(Some)
    }

    async fn read_path_info(
        &mut self,
        dir: &StoreDir,
        path: StorePath,
    ) -> Result<Result<ValidPath, FormatError>, WireError> {
        let wire = &mut self.wire;
        let deriver = record::deriver(dir, &wire.read_string().await?);
        // Base-16 without an algorithm, which is always SHA-256.
        let nar_hash = format!("sha256:{}", wire.read_string().await?);
        let references = wire.read_strings(LIST_MAX).await?;
        let registration_time = wire.read_number().await?;
        let nar_size = wire.read_number().await?;
        let ultimate = wire.read_bool().await?;
        let signatures = record::signatures(wire.read_strings(LIST_MAX).await?.iter().map(String::as_str));
        let ca = record::content_address(&wire.read_string().await?);
        // Everything has been read by now: a malformed field spoils this answer, not the connection.
        let info = (|| {
            let mut references =
                references.iter().map(|path| dir.parse(path)).collect::<Result<Vec<StorePath>, FormatError>>()?;
            references.sort_unstable();
            references.dedup();
            if nar_size == 0 {
                return Err(FormatError::Missing("narSize"));
            }
            Ok(PathInfo { path, nar_hash: nar_hash.parse()?, nar_size, references, deriver, signatures, ca })
        })();
        Ok(info.map(|info| ValidPath { info, registration_time, ultimate }))
    }

    /// Sends an operation with one argument and reads up to its result.
    pub(super) async fn begin(&mut self, operation: u64, argument: &str) -> Result<(), WireError> {
        self.wire.write_number(operation).await?;
        self.wire.write_string(argument).await?;
        self.wire.flush().await?;
        self.read_frames().await
    }
}

/// The first words, up to the daemon's.
async fn hello<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>) -> Result<u64, WireError> {
    wire.write_number(CLIENT_MAGIC).await?;
    wire.write_number(VERSION).await?;
    wire.flush().await?;
    wire.read_number().await
}

/// The daemon looks at who calls before it reads or writes a byte, and closes the connection on users that it does not serve:
/// whether that is seen while writing or while reading is chance.
fn or_hung_up(error: WireError) -> WireError {
    use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    match error {
        WireError::Io(error) if matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof) => {
            WireError::HungUp
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
