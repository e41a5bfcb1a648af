//! Build logs, as `nix log` finds them.
//!
//! Source: `LocalFSStore::getBuildLogExact` of Nix: `drvs/xx/rest`, where `xx` are the first two characters of the
//! derivation's base name, or `drvs/` and the whole base name in very old stores, plain or with `.bz2`.

use super::StoreError;
use super::stream::{Block, Source};
use crate::nix::StorePath;
use ::nix::errno::Errno;
use ::nix::fcntl::{OFlag, open};
use ::nix::sys::stat::Mode;
use bzip2::read::MultiBzDecoder;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// The longest log that is sent, in bytes once decoded: 1 GiB. It is never held, so this bounds time only.
const LOG_MAX: u64 = 1 << 30;

/// A log's file.
pub(super) struct LogSource {
    file: PathBuf,
    reader: Box<dyn Read + Send>,
    /// How much more may come.
    allowance: u64,
}

/// Opens the log of `derivation` below `directory`; with its length where that is known. `None` if there is none. Blocks.
pub(super) fn open_log(
    directory: &Path,
    derivation: &StorePath,
) -> Result<Option<(LogSource, Option<u64>)>, StoreError> {
    let base_name = derivation.to_string();
    // Base names are ASCII and longer than two characters.
    let (start, rest) = base_name.split_at(2);
    let drvs = directory.join("drvs");
    for stem in [drvs.join(start).join(rest), drvs.join(&base_name)] {
        for suffix in ["", ".bz2"] {
            let mut name = stem.clone().into_os_string();
            name.push(suffix);
            let file = PathBuf::from(name);
            if let Some(opened) = open_file(&file)? {
                let error = |source| StoreError::Io { file: file.clone(), source };
                let length = opened.metadata().map_err(error)?.len();
                let (reader, length): (Box<dyn Read + Send>, _) = if suffix.is_empty() {
                    // What a running build adds meanwhile is left out: the length has been said.
                    (Box::new(opened.take(length)), Some(length))
                } else {
                    (Box::new(MultiBzDecoder::new(opened)), None)
                };
                return Ok(Some((LogSource { file, reader, allowance: LOG_MAX }, length)));
            }
        }
    }
    Ok(None)
}

fn open_file(file: &Path) -> Result<Option<File>, StoreError> {
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let error = |source| StoreError::Io { file: file.to_owned(), source };
    match open(file, flags, Mode::empty()) {
        Ok(fd) => {
            let opened = File::from(fd);
            Ok(opened.metadata().map_err(error)?.is_file().then_some(opened))
        }
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::ENXIO) => Ok(None),
        Err(errno) => Err(error(errno.into())),
    }
}

impl Source for LogSource {
    fn fill(&mut self, block: &mut Block, cancelled: &AtomicBool) -> Result<(), StoreError> {
        while block.room() > 0 && !cancelled.load(Ordering::Relaxed) {
            match self.reader.read(block.unfilled()) {
                Ok(0) => break,
                Ok(count) => {
                    block.advance(count);
                    self.allowance = self.allowance.checked_sub(count as u64).ok_or_else(|| StoreError::Limit {
                        what: format!("bytes of the log {}", self.file.display()),
                        limit: LOG_MAX,
                    })?;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(StoreError::Io { file: self.file.clone(), source }),
            }
        }
        Ok(())
    }
}
