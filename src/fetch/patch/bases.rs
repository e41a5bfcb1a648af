//! What this machine has that may be much the same as a NAR which it wants: other versions of the package.

use super::frames::Shape;
use super::message::{BASES_MAX, BaseName};
use crate::nix::PathInfo;
use crate::store::{Store, StoreError, ValidPath};
use std::ops::Range;
use std::sync::Arc;

/// A NAR of this machine's store.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    pub(crate) path: Arc<ValidPath>,
    /// How it and the NAR that is wanted stand to each other.
    pub(crate) shape: Shape,
}

impl Base {
    pub(crate) fn name(&self) -> BaseName {
        let info = &self.path.info;
        BaseName { hash: info.path.hash(), nar_hash: info.nar_hash }
    }
}

/// The bases that there are here. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Bases(pub(crate) Store);

impl Bases {
    /// What may serve as a base for the NAR of `info`, the newest first. A store that cannot be read has none.
    pub(crate) async fn of(&self, info: &PathInfo) -> Vec<Base> {
        let others = match self.0.other_versions(&info.path, BASES_MAX).await {
            Ok(others) => others,
            Err(error) => {
                log::debug!(path:% = info.path, reason:% = error; "no bases for a patch: {error}");
                return Vec::new();
            }
        };
        let base = |path: Arc<ValidPath>| {
            let shape = Shape::new(info.nar_size, path.info.nar_size)?;
            Some(Base { path, shape })
        };
        others.into_iter().filter_map(base).collect()
    }

    /// These bytes of one of them.
    ///
    /// # Errors
    /// It is gone, or cannot be read.
    pub(crate) async fn read(&self, base: &Base, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
        self.0.read(&base.path, range).await
    }
}
