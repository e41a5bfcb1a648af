//! What is asked of Nix's database, over all its schemas since 2016.
//!
//! Source: Nix's `schema.sql` and `ca-specific-schema.sql` (schema version 10). Columns `ultimate`, `sigs` and `ca` came
//! one by one; the tables of realisations exist only where content-addressed derivations were tried.

use super::connections::{Database, Handle};
use super::error::QueryError;
use super::stamp::Mark;
use crate::nix::realisation::BuildTraceKey;
use crate::nix::{FormatError, PackageName, PathInfo, Signature, StoreDir, StoreHash, StorePath};
use crate::store::{StoreError, ValidPath, record};
use rusqlite::{Row, Rows, params};
use std::sync::Arc;

/// How many references of one path are read. The largest real closures have a few ten thousand paths in all.
pub(crate) const REFERENCES_MAX: usize = 1 << 17;
/// How many outputs of one derivation are read.
const OUTPUTS_MAX: u32 = 256;
/// How many paths that were built here are told.
pub const BUILT_MAX: u32 = 4096;
/// How many paths with the name of one package are looked at: versions with several outputs each.
const VERSIONS_MAX: u32 = 256;
/// How many dependent realisations are read.
const DEPENDENCIES_MAX: u32 = 4096;
/// How many paths with debug information are known at once; the newest stay.
pub(crate) const DEBUG_PATHS_MAX: u32 = 4096;

/// A realisation as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RealisationRecord {
    /// The path that it leads to.
    pub(crate) output: StorePath,
    /// Its signatures.
    pub(crate) signatures: Vec<Signature>,
    /// The realisations it was made with: `sha256:HEX!OUTPUT` and path. Always empty in `BuildTraceV3`.
    pub(crate) dependencies: Vec<(String, StorePath)>,
}

/// What shows of a path at a glance.
#[derive(Debug)]
pub(crate) struct Glance {
    pub(crate) hash: StoreHash,
    /// Whatever it is.
    pub(crate) name: String,
    /// As texts, with spaces between.
    pub(crate) signatures: String,
    pub(crate) ultimate: bool,
}

impl Database {
    /// The valid path with this hash part. Nothing is asked about one that was asked about before if nothing was committed since then.
    pub(crate) async fn path_info(self: &Arc<Self>, hash: StoreHash) -> Result<Option<Arc<ValidPath>>, StoreError> {
        if let Some(unchanged) = self.recent.get(&hash, || self.mark()) {
            return Ok(Some(unchanged));
        }
        let this = Arc::clone(self);
        let (mark, path) = self
            .quick(move |handle, dir| {
                // Before the question: what is committed meanwhile makes another mark.
                let mark = this.mark_for(handle);
                Ok((mark, path_info(handle, dir, hash)?.map(Arc::new)))
            })
            .await?;
        if let (Some(mark), Some(path)) = (mark, &path) {
            self.recent.insert(hash, mark, Arc::clone(path));
        }
        Ok(path)
    }

    /// The outputs of `derivation`, valid or not, if the derivation itself is valid.
    pub(crate) async fn outputs(self: &Arc<Self>, derivation: &StorePath) -> Result<Vec<StorePath>, StoreError> {
        let derivation = derivation.clone();
        let sql = "select o.path from DerivationOutputs o join ValidPaths d on d.id = o.drv where d.path = ?1 limit ?2";
        self.quick(move |handle, dir| paths(handle, dir, sql, &dir.join(&derivation))).await
    }

    /// The valid paths that say they were made by `derivation`. There is no index for this.
    pub(crate) async fn made_by(self: &Arc<Self>, derivation: &StorePath) -> Result<Vec<StorePath>, StoreError> {
        let derivation = derivation.clone();
        let sql = "select path from ValidPaths where deriver = ?1 limit ?2";
        self.scan(move |handle, dir| paths(handle, dir, sql, &dir.join(&derivation))).await
    }

    /// The highest number that a path has had. It grows with every path that is added.
    pub(crate) async fn newest(self: &Arc<Self>) -> Result<i64, StoreError> {
        self.quick(|handle, _| {
            let mut statement = handle.connection.prepare_cached("select coalesce(max(id), 0) from ValidPaths")?;
            Ok(statement.query_row([], |row| row.get(0))?)
        })
        .await
    }

    /// The sizes of the NARs of all paths together.
    pub(crate) async fn size(self: &Arc<Self>) -> Result<u64, StoreError> {
        let size: i64 = self
            .scan(|handle, _| {
                let mut statement = handle.connection.prepare_cached("select total(narSize) from ValidPaths")?;
                // A sum of integers would fail where it overflows.
                #[allow(clippy::cast_possible_truncation)]
                Ok(statement.query_row([], |row| row.get::<_, f64>(0))? as i64)
            })
            .await?;
        Ok(u64::try_from(size).unwrap_or_default())
    }

    /// What `fold` makes of all paths at one moment, and what that state of the database can be told from others by.
    pub(crate) async fn all<T: Send + 'static>(
        self: &Arc<Self>,
        fold: impl Fn(&mut dyn Iterator<Item = Glance>) -> T + Send + 'static,
    ) -> Result<(Option<Mark>, T), StoreError> {
        let this = Arc::clone(self);
        self.scan(move |handle, dir| {
            // Before it is read: what is committed meanwhile makes another mark.
            let mark = this.mark_for(handle);
            let mut statement = handle.connection.prepare_cached(&handle.columns.all)?;
            let mut rows = statement.query([])?;
            let mut trouble = None;
            let folded =
                fold(&mut std::iter::from_fn(|| glance(&mut rows, dir).map_err(|error| trouble = Some(error)).ok()?));
            trouble.map_or(Ok((mark, folded)), |error| Err(error.into()))
        })
        .await
    }

    /// The newest paths named `*-debug` with a number above `after`.
    pub(crate) async fn debug_paths(self: &Arc<Self>, after: i64) -> Result<Vec<StorePath>, StoreError> {
        self.scan(move |handle, dir| {
            let sql = "select path from ValidPaths where id > ?1 and path glob '*-debug' order by id desc limit ?2";
            let mut statement = handle.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![after, DEBUG_PATHS_MAX])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(store_path(dir, text(row, 0)?)?);
            }
            Ok(found)
        })
        .await
    }

    /// The paths of the same package and output as `path`, without it, the newest first. There is no index for this.
    pub(crate) async fn other_versions(self: &Arc<Self>, path: &StorePath) -> Result<Vec<StorePath>, StoreError> {
        let path = path.clone();
        self.scan(move |handle, dir| {
            let wanted = PackageName::parse(path.name());
            // What has a meaning in a pattern matches more than itself, and is sorted out below.
            let pattern = format!("{}/{}-{}-*", dir.as_str(), "?".repeat(StoreHash::LEN), wanted.package);
            let sql = "select path from ValidPaths where path glob ?1 order by id desc limit ?2";
            let mut statement = handle.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![pattern, VERSIONS_MAX])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let other = store_path(dir, text(row, 0)?)?;
                if other != path && PackageName::parse(other.name()) == wanted {
                    found.push(other);
                }
            }
            Ok(found)
        })
        .await
    }

    /// The outputs of derivations that were built here and registered at `since` (seconds since 1970) or later, the newest first.
    pub(crate) async fn built(self: &Arc<Self>, since: u64) -> Result<Vec<StorePath>, StoreError> {
        self.scan(move |handle, dir| {
            let sql = "select path from ValidPaths where ultimate = 1 and deriver <> '' and registrationTime >= ?1 order by id desc limit ?2";
            let mut statement = handle.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![i64::try_from(since).unwrap_or(i64::MAX), BUILT_MAX])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                found.push(store_path(dir, text(row, 0)?)?);
            }
            Ok(found)
        })
        .await
    }

    /// The realisation of `derivation_hash` (`sha256:HEX`) and `output`, as Nix 2.4 to 2.34 keep them; `None` where the table
    /// is not.
    pub(crate) async fn realisation(
        self: &Arc<Self>,
        derivation_hash: String,
        output: String,
    ) -> Result<Option<RealisationRecord>, StoreError> {
        self.quick(move |handle, dir| {
            if has_table(handle, "Realisations")? {
                realisation(handle, dir, &derivation_hash, &output)
            } else {
                Ok(None)
            }
        })
        .await
    }

    /// The build trace entry of `key`, as Nix 2.35 and later keep them; `None` where the table is not.
    pub(crate) async fn build_trace(
        self: &Arc<Self>,
        key: BuildTraceKey,
    ) -> Result<Option<RealisationRecord>, StoreError> {
        self.quick(move |handle, dir| {
            if !has_table(handle, "BuildTraceV3")? {
                return Ok(None);
            }
            let sql = "select outputPath, signatures from BuildTraceV3 where drvPath = ?1 and outputName = ?2";
            let mut statement = handle.connection.prepare_cached(sql)?;
            let mut rows = statement.query(params![key.drv_path().to_string(), key.output()])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            let output = store_path(dir, text(row, 0)?)?;
            Ok(Some(RealisationRecord { output, signatures: signatures(row, 1)?, dependencies: vec![] }))
        })
        .await
    }
}

/// Whether there is such a table, now: a newer Nix may make one while we have the database open.
fn has_table(handle: &Handle, name: &str) -> Result<bool, QueryError> {
    let mut statement =
        handle.connection.prepare_cached("select 1 from sqlite_master where type = 'table' and name = ?1")?;
    Ok(statement.exists([name])?)
}

fn path_info(handle: &Handle, dir: &StoreDir, hash: StoreHash) -> Result<Option<ValidPath>, QueryError> {
    let mut statement = handle.connection.prepare_cached(&handle.columns.path_info)?;
    // '.' follows '-' in ASCII: between the two lie exactly the paths with this hash part.
    let mut rows = statement.query([format!("{dir}/{hash}-"), format!("{dir}/{hash}.")])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let id: i64 = row.get(0)?;
    let path_text = text(row, 1)?.to_owned();
    let bad = |source| QueryError::Store(StoreError::Record { path: path_text.clone(), source });
    let path = dir.parse(&path_text).map_err(bad)?;
    if path.hash() != hash {
        return Ok(None);
    }
    let nar_hash = text(row, 2)?.parse().map_err(bad)?;
    let nar_size = row.get::<_, Option<i64>>(4)?.and_then(|size| u64::try_from(size).ok()).filter(|size| *size > 0);
    // Nix before 2010 registered paths without a size; such a path cannot be offered.
    let nar_size = nar_size.ok_or_else(|| bad(FormatError::Missing("narSize")))?;
    let registration_time = u64::try_from(row.get::<_, i64>(3)?).unwrap_or_default();
    let deriver = record::deriver(dir, optional_text(row, 5)?);
    let ultimate = row.get::<_, Option<i64>>(6)?.unwrap_or_default() != 0;
    let signatures = signatures(row, 7)?;
    let ca = record::content_address(optional_text(row, 8)?);
    let mut references = Vec::new();
    let mut current = Some(row);
    while let Some(row) = current {
        if row.get::<_, i64>(0)? != id {
            break;
        }
        if let Some(reference) = row.get_ref(9)?.as_str_or_null().map_err(rusqlite::Error::from)? {
            references.push(dir.parse(reference).map_err(bad)?);
        }
        if references.len() > REFERENCES_MAX {
            return Err(bad(FormatError::TooLarge(REFERENCES_MAX, "references")));
        }
        current = rows.next()?;
    }
    references.sort_unstable();
    references.dedup();
    let info = PathInfo { path, nar_hash, nar_size, references, deriver, signatures, ca };
    Ok(Some(ValidPath { info, registration_time, ultimate }))
}

/// The next path that somebody can ask for by its hash part.
fn glance(rows: &mut Rows<'_>, dir: &StoreDir) -> Result<Option<Glance>, rusqlite::Error> {
    while let Some(row) = rows.next()? {
        let path = row.get_ref(0)?.as_str_or_null()?.unwrap_or_default();
        let base = path.strip_prefix(dir.as_str()).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
        let Some((hash, name)) = base.split_at_checked(StoreHash::LEN) else { continue };
        let Ok(hash) = hash.parse() else { continue };
        return Ok(Some(Glance {
            hash,
            name: name.strip_prefix('-').unwrap_or(name).to_owned(),
            signatures: row.get_ref(1)?.as_str_or_null()?.unwrap_or_default().to_owned(),
            ultimate: row.get::<_, Option<i64>>(2)?.unwrap_or_default() != 0,
        }));
    }
    Ok(None)
}

fn paths(handle: &Handle, dir: &StoreDir, sql: &str, key: &str) -> Result<Vec<StorePath>, QueryError> {
    let mut statement = handle.connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![key, OUTPUTS_MAX])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        // An output of a derivation that has not been built under this name is no record of a path.
        if !text(row, 0)?.is_empty() {
            found.push(store_path(dir, text(row, 0)?)?);
        }
    }
    Ok(found)
}

fn realisation(
    handle: &Handle,
    dir: &StoreDir,
    derivation_hash: &str,
    output: &str,
) -> Result<Option<RealisationRecord>, QueryError> {
    let sql = "select r.id, v.path, r.signatures from Realisations r join ValidPaths v on v.id = r.outputPath \
               where r.drvPath = ?1 and r.outputName = ?2";
    let mut statement = handle.connection.prepare_cached(sql)?;
    let mut rows = statement.query([derivation_hash, output])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let id: i64 = row.get(0)?;
    let output = store_path(dir, text(row, 1)?)?;
    let signatures = signatures(row, 2)?;
    let sql = "select d.drvPath, d.outputName, v.path from RealisationsRefs r \
               join Realisations d on d.id = r.realisationReference join ValidPaths v on v.id = d.outputPath \
               where r.referrer = ?1 limit ?2";
    let mut statement = handle.connection.prepare_cached(sql)?;
    let mut rows = statement.query(params![id, DEPENDENCIES_MAX])?;
    let mut dependencies = Vec::new();
    while let Some(row) = rows.next()? {
        let id = format!("{}!{}", text(row, 0)?, text(row, 1)?);
        dependencies.push((id, store_path(dir, text(row, 2)?)?));
    }
    Ok(Some(RealisationRecord { output, signatures, dependencies }))
}

fn store_path(dir: &StoreDir, text: &str) -> Result<StorePath, QueryError> {
    dir.parse(text).map_err(|source| QueryError::Store(StoreError::Record { path: text.to_owned(), source }))
}

fn text<'row>(row: &'row Row<'_>, index: usize) -> Result<&'row str, QueryError> {
    row.get_ref(index)?.as_str().map_err(|error| QueryError::Sqlite(error.into()))
}

fn optional_text<'row>(row: &'row Row<'_>, index: usize) -> Result<&'row str, QueryError> {
    let text = row.get_ref(index)?.as_str_or_null().map_err(|error| QueryError::Sqlite(error.into()))?;
    Ok(text.unwrap_or_default())
}

fn signatures(row: &Row<'_>, index: usize) -> Result<Vec<Signature>, QueryError> {
    Ok(record::signatures(optional_text(row, index)?.split_ascii_whitespace()))
}
