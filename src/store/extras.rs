//! What a store keeps beside its paths: build logs, realisations, build traces, debug information. Each goes out only with
//! the path that it belongs to.

use super::database::RealisationRecord;
use super::{Audience, ByteStream, SharePolicy, Store, StoreError, ValidPath, debuginfo, logs};
use crate::nix::realisation::{BuildTrace, BuildTraceKey, DrvOutput, Realisation as RealisationText};
use crate::nix::{Signature, StorePath};
use std::sync::Arc;

/// A realisation of a content-addressed derivation, and the path that it leads to.
#[derive(Debug, Clone)]
pub struct Realisation {
    /// The JSON text, as binary caches serve it.
    pub json: String,
    /// The text that its signatures are over.
    pub fingerprint: String,
    /// Its signatures, not verified; never none.
    pub signatures: Vec<Signature>,
    /// The output.
    pub output: Arc<ValidPath>,
}

/// Where the debug information of a build ID is.
#[derive(Debug, Clone)]
pub struct DebugInfo {
    /// The store path.
    pub path: Arc<ValidPath>,
    /// The file in it, `lib/debug/.build-id/xx/yyyy.debug`.
    pub member: String,
}

impl Store {
    /// The build log of `derivation`, decoded; `None` if there is none or the policy keeps it back.
    ///
    /// A log may be shared when at least one output of its derivation is valid here and every such output may be, and no
    /// pattern denies the derivation's own name.
    ///
    /// # Errors
    /// The store or the log cannot be read.
    pub async fn build_log(
        &self,
        derivation: &StorePath,
        policy: &SharePolicy,
        audience: Audience,
    ) -> Result<Option<ByteStream>, StoreError> {
        if policy.denied(derivation.name()).is_some() {
            return Ok(None);
        }
        // The file first: nearly always there is none, and then the database need not be scanned.
        let (directory, name) = (self.0.log_dir.clone(), derivation.clone());
        let open = move || logs::open_log(&directory, &name);
        let opened = tokio::task::spawn_blocking(open).await.map_err(|_| StoreError::Closed)??;
        let Some((source, length)) = opened else { return Ok(None) };
        let outputs = self.valid_outputs(derivation).await?;
        let may_be_shared = !outputs.is_empty() && outputs.iter().all(|path| policy.decide(path, audience).is_serve());
        Ok(may_be_shared.then(|| ByteStream::new(source, length, Arc::clone(&self.0.blocks))))
    }

    /// The realisation `id` (`sha256:HEX!OUTPUT`, the `realisations/ID.doi` of Nix 2.4 to 2.34), if it is signed and the
    /// policy shares its output. `None` also for an `id` that is none, and while the database cannot be read.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn realisation(
        &self,
        id: &str,
        policy: &SharePolicy,
        audience: Audience,
    ) -> Result<Option<Realisation>, StoreError> {
        let Ok(id) = id.parse::<DrvOutput>() else { return Ok(None) };
        let derivation = format!("{}:{}", id.hash().algorithm().name(), id.hash().to_base16());
        let Some(record) = self.0.database.realisation(derivation, id.output().to_owned()).await? else {
            return Ok(None);
        };
        let Some(output) = self.shared(&record.output, policy, audience).await? else { return Ok(None) };
        let RealisationRecord { output: out_path, signatures, dependencies } = record;
        let dependent = dependencies.into_iter().filter_map(|(id, path)| Some((id.parse().ok()?, path))).collect();
        let text = RealisationText { id, out_path, signatures, dependent };
        let (json, fingerprint) = (text.render(), text.fingerprint());
        Ok(signed(json, fingerprint, text.signatures, output))
    }

    /// The build trace entry of an output of a derivation (the `build-trace-v2/DRV/OUTPUT.doi` of Nix 2.35 and later), if it
    /// is signed and the policy shares that output. `None` also for a name that no output has.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn build_trace(
        &self,
        derivation: &StorePath,
        output: &str,
        policy: &SharePolicy,
        audience: Audience,
    ) -> Result<Option<Realisation>, StoreError> {
        let Ok(key) = BuildTraceKey::new(derivation.clone(), output) else { return Ok(None) };
        let Some(record) = self.0.database.build_trace(key.clone()).await? else { return Ok(None) };
        let Some(output) = self.shared(&record.output, policy, audience).await? else { return Ok(None) };
        let text = BuildTrace { out_path: record.output, signatures: record.signatures };
        let (json, fingerprint) = (text.render(), text.fingerprint(&key));
        Ok(signed(json, fingerprint, text.signatures, output))
    }

    /// The debug information of a build ID (hexadecimal, `.debug` after it or not), among the paths that the policy shares
    /// and whose names end in `-debug`.
    ///
    /// # Errors
    /// The store's database cannot be read.
    pub async fn debuginfo(
        &self,
        build_id: &str,
        policy: &SharePolicy,
        audience: Audience,
    ) -> Result<Option<DebugInfo>, StoreError> {
        let Some(member) = debuginfo::member(build_id) else { return Ok(None) };
        for path in self.0.debug_paths.holders(&self.0.database, &self.0.real_dir, &member).await? {
            if let Some(path) = self.shared(&path, policy, audience).await? {
                return Ok(Some(DebugInfo { path, member }));
            }
        }
        Ok(None)
    }

    /// The same, if the policy shares it.
    async fn shared(
        &self,
        path: &StorePath,
        policy: &SharePolicy,
        audience: Audience,
    ) -> Result<Option<Arc<ValidPath>>, StoreError> {
        Ok(self.valid(path).await?.filter(|found| policy.decide(found, audience).is_serve()))
    }

    /// The outputs of `derivation` that are valid: by the derivation's own word if it is here, else by what the outputs say.
    async fn valid_outputs(&self, derivation: &StorePath) -> Result<Vec<Arc<ValidPath>>, StoreError> {
        let mut paths = self.0.database.outputs(derivation).await?;
        if paths.is_empty() {
            paths = self.0.database.made_by(derivation).await?;
        }
        let mut valid = Vec::new();
        for path in paths {
            valid.extend(self.valid(&path).await?);
        }
        Ok(valid)
    }
}

/// A realisation that somebody may believe: one that nobody signed is refused by every Nix, with a line for each.
fn signed(
    json: String,
    fingerprint: String,
    signatures: Vec<Signature>,
    output: Arc<ValidPath>,
) -> Option<Realisation> {
    let is_signed = signatures.iter().any(Signature::is_readable);
    is_signed.then_some(Realisation { json, fingerprint, signatures, output })
}
