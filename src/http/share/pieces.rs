//! `/peernix/v1/pieces/…`: the table that proves the pieces of a large NAR one by one.

use super::core::{Answer, Share};
use crate::fetch::pieces::hasher::Hasher;
use crate::fetch::pieces::table::{PIECES_MIN, PieceTable, pieces_of};
use crate::fetch::pieces::tables::Tables;
use crate::http::protocol::reply::{self, keep, media};
use crate::http::protocol::routes::NarName;
use crate::store::{Audience, StoreError, ValidPath};
use http_body_util::BodyExt;
use std::sync::Arc;

impl Share {
    /// The table of a NAR that is offered to `audience`. Where it is not known it is made, one at a time; until then we are busy.
    pub(super) async fn pieces(self: &Arc<Self>, tables: &Tables, name: &NarName, audience: Audience) -> Answer {
        let Some(known) = self.known(name.hash, audience).await? else { return Ok(None) };
        let Some(nar) = name.nar_hash.filter(|nar| known.nar.nar_hash == Some(*nar)) else { return Ok(None) };
        let size = known.path.info.nar_size;
        if size < PIECES_MIN || pieces_of(size).is_none() || tables.is_damaged(&nar) {
            return Ok(None);
        }
        if let Some(table) = tables.get(&nar) {
            return Ok(Some(reply::ok(media::BYTES, keep::NEVER, table.to_bytes())));
        }
        if let Some(making) = tables.try_make() {
            let (share, tables, path) = (Arc::clone(self), tables.clone(), Arc::clone(&known.path));
            tokio::spawn(async move {
                match share.table(&path).await {
                    Ok(Some(table)) => tables.note(nar, table),
                    Ok(None) => {
                        tables.note_damaged(nar);
                        share.suspect(path.info.path.hash(), audience);
                    }
                    Err(error) => {
                        log::debug!(path:% = path.info.path, reason:% = error; "no table of its pieces: {error}");
                    }
                }
                drop(making);
            });
        }
        Ok(Some(reply::busy()))
    }

    /// Reads all of a NAR; `None` if it is not what was signed.
    async fn table(&self, path: &Arc<ValidPath>) -> Result<Option<PieceTable>, StoreError> {
        let layout = self.store.layout(path).await?;
        let mut stream = self.store.nar(&layout, 0..layout.nar_size()).await?;
        let mut hasher = Hasher::start();
        while let Some(frame) = stream.frame().await {
            hasher.push(frame?.into_data().unwrap_or_default()).await;
        }
        let (hash, table) = hasher.finish().await.ok_or(StoreError::Closed)?;
        Ok(table.filter(|_| hash == path.info.nar_hash))
    }
}
