//! Whether the content of a path is what the database says it is: all of it is read and hashed.

use super::{Store, StoreError, ValidPath};
use crate::nix::NarHash;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};

impl Store {
    /// Whether the NAR of `path` has the hash that the database has. Takes as long as reading it does; the bytes are read and
    /// hashed on threads for that, a block at a time.
    ///
    /// # Errors
    /// The path is gone, or cannot be read for a reason that is not in its content.
    pub async fn is_intact(&self, path: &ValidPath) -> Result<bool, StoreError> {
        let layout = match self.layout(path).await {
            Ok(layout) => layout,
            Err(error) if is_damage(&error) => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut stream = self.nar(&layout, 0..layout.nar_size()).await?;
        let mut hash = Box::new(Sha256::new());
        while let Some(frame) = stream.frame().await {
            let bytes = match frame {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                Err(error) if is_damage(&error) => return Ok(false),
                Err(error) => return Err(error),
            };
            let hashed = tokio::task::spawn_blocking(move || {
                hash.update(&bytes);
                hash
            });
            hash = hashed.await.map_err(|_| StoreError::Closed)?;
        }
        Ok(NarHash::new(hash.finalize().into()) == path.info.nar_hash)
    }
}

/// Whether an error says that the content is not what it should be.
fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Corrupt { .. } => true,
        StoreError::Shared(error) => is_damage(error),
        _ => false,
    }
}
