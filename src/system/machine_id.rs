//! Which machine this is: `/etc/machine-id`, which is the machine's own and must not be shown to the network, in a form that is for
//! us alone.
//!
//! Source: [machine-id(5)](https://www.freedesktop.org/software/systemd/man/machine-id.html) and sd_id128_get_machine_app_specific(3):
//! HMAC-SHA256 of our application's id, keyed with the machine id. Nobody learns the one from the other.
#![forbid(unsafe_code)]

use sha2::{Digest, Sha256};
use std::path::Path;

/// Where the machine id is.
const FILE: &str = "/etc/machine-id";
/// The most that is read of it, in bytes: 32 digits and the end of the line.
const SIZE_MAX: u64 = 64;
/// The id of this application: from `systemd-id128 new`, and never changed.
const APPLICATION: [u8; 16] = *b"\x9f\x0b\x71\xd4\x5a\x1e\x4c\x0f\x8d\x22\x6b\xe3\x17\xc9\xa6\x58";
/// The size of a block of SHA-256, in bytes.
const BLOCK: usize = 64;

/// The id of this machine for this application, 32 hexadecimal digits; `None` where the machine has none (yet).
#[must_use]
pub fn for_application() -> Option<String> {
    read(Path::new(FILE))
}

fn read(file: &Path) -> Option<String> {
    let text = crate::files::read_text(file, SIZE_MAX).ok()??;
    let machine: [u8; 16] = data_encoding::HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok()?.try_into().ok()?;
    // All zeros is no machine's; systemd takes it for none, too.
    (machine != [0; 16]).then(|| data_encoding::HEXLOWER.encode(&specific(machine)))
}

fn specific(machine: [u8; 16]) -> [u8; 16] {
    let pad = |with: u8| {
        let mut block = [with; BLOCK];
        block.iter_mut().zip(machine).for_each(|(byte, key)| *byte ^= key);
        Sha256::new_with_prefix(block)
    };
    let inner = pad(0x36).chain_update(APPLICATION).finalize();
    let outer = pad(0x5c).chain_update(inner).finalize();
    let mut id = [0; 16];
    id.iter_mut().zip(outer).for_each(|(byte, hashed)| *byte = hashed);
    // The form of a random UUID, as systemd gives it.
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    id
}

#[cfg(test)]
#[allow(clippy::print_stderr, reason = "a test that is skipped says so")]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn as_systemd_computes_it() {
        let application = data_encoding::HEXLOWER.encode(&APPLICATION);
        let asked = Command::new("systemd-id128").args(["machine-id", "--app-specific", &application]).output();
        match (asked, for_application()) {
            (Ok(answer), Some(ours)) if answer.status.success() => {
                assert_eq!(String::from_utf8(answer.stdout).unwrap().trim(), ours);
            }
            _ => eprintln!("SKIPPED: no systemd-id128 or no machine id here"),
        }
    }

    #[test]
    fn what_is_no_machine_id() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("machine-id");
        assert_eq!(read(&file), None);
        for none in ["", "uninitialized\n", "00000000000000000000000000000000\n", "12", &"a".repeat(1000)] {
            std::fs::write(&file, none).unwrap();
            assert_eq!(read(&file), None, "{none}");
        }
        let mut ids = std::collections::BTreeSet::new();
        for machine in ["0123456789abcdef0123456789abcdef\n", "0123456789ABCDEF0123456789ABCDEE"] {
            std::fs::write(&file, machine).unwrap();
            let id = read(&file).unwrap();
            assert!(id.len() == 32 && !machine.contains(&id));
            ids.insert(id);
        }
        assert_eq!(ids.len(), 2);
    }
}
