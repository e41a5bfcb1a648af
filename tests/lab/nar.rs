//! NARs, by the lab's own short writer: what `peernixd` sends is compared with it, so it may not be peernix's own.

use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use peernix::nix::NarHash;
use sha2::{Digest, Sha256};

/// Writes the NAR of the tree at `path`. Format: <https://nix.dev/manual/nix/stable/protocols/nix-archive/>.
pub(crate) fn dump(path: &Path, out: &mut impl Write) -> Result<()> {
    token(out, b"nix-archive-1")?;
    node(path, out).with_context(|| format!("{path:?}"))
}

/// Hash and size of the NAR of the tree at `path`.
pub(crate) fn hash(path: &Path) -> Result<(NarHash, u64)> {
    let mut out = Hashing { hash: Sha256::new(), size: 0 };
    let mut buffered = std::io::BufWriter::with_capacity(1 << 20, &mut out);
    dump(path, &mut buffered)?;
    buffered.flush()?;
    drop(buffered);
    Ok((NarHash::new(out.hash.finalize().into()), out.size))
}

struct Hashing {
    hash: Sha256,
    size: u64,
}

impl Write for Hashing {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

fn token(out: &mut impl Write, bytes: &[u8]) -> Result<()> {
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)?;
    pad(out, bytes.len() as u64)
}

fn pad(out: &mut impl Write, length: u64) -> Result<()> {
    let zeros = usize::try_from((8 - length % 8) % 8)?;
    Ok(out.write_all(&[0; 8][..zeros])?)
}

fn node(path: &Path, out: &mut impl Write) -> Result<()> {
    let meta = std::fs::symlink_metadata(path)?;
    token(out, b"(")?;
    token(out, b"type")?;
    if meta.is_symlink() {
        token(out, b"symlink")?;
        token(out, b"target")?;
        token(out, std::fs::read_link(path)?.as_os_str().as_bytes())?;
    } else if meta.is_dir() {
        token(out, b"directory")?;
        let mut names =
            std::fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<Vec<_>>>()?;
        names.sort();
        for name in names {
            token(out, b"entry")?;
            token(out, b"(")?;
            token(out, b"name")?;
            token(out, name.as_bytes())?;
            token(out, b"node")?;
            node(&path.join(&name), out)?;
            token(out, b")")?;
        }
    } else if meta.is_file() {
        token(out, b"regular")?;
        if meta.permissions().mode() & 0o100 != 0 {
            token(out, b"executable")?;
            token(out, b"")?;
        }
        token(out, b"contents")?;
        out.write_all(&meta.len().to_le_bytes())?;
        let copied = std::io::copy(&mut std::fs::File::open(path)?.take(meta.len()), out)?;
        if copied != meta.len() {
            bail!("{path:?} changed");
        }
        pad(out, meta.len())?;
    } else {
        bail!("{path:?} is neither file, directory nor link");
    }
    token(out, b")")
}
