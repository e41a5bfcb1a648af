//! Encryption in the format of age: what `age --decrypt` opens as well.
//!
//! Source: <https://age-encryption.org/v1>.

use age::secrecy::SecretString;
use age::{Decryptor, Encryptor, Identity, IdentityFile, Recipient, scrypt, x25519};
use std::io::{BufReader, Read as _, Write as _};
use std::iter::once;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use zeroize::Zeroizing;

/// The largest file with a passphrase or keys that is read, in bytes.
const SECRET_MAX: u64 = 64 * 1024;
/// The shortest passphrase that is taken for a new backup, in characters: it may lie where many can try.
const PASSPHRASE_MIN: usize = 12;

/// How much work a passphrase is to try, as a power of two: 256 MiB and a second, as the program `age` has it. Tests have other things to
/// measure beside this.
const WORK: u8 = if cfg!(test) { 10 } else { 18 };
/// How much of it a backup may ask for: a gibibyte.
const WORK_MAX: u8 = 20;

/// What a backup is closed with.
pub(super) enum Lock {
    /// A passphrase.
    Passphrase(SecretString),
    /// Public keys of age, as text.
    Recipients(Vec<String>),
}

/// What it is opened with.
pub(super) enum Opener {
    /// The passphrase.
    Passphrase(SecretString),
    /// A file with secret keys of age.
    Identities(PathBuf),
}

/// Encrypts; errors in words.
pub(super) fn seal(plain: &[u8], lock: Lock) -> Result<Vec<u8>, String> {
    let encryptor = match lock {
        Lock::Passphrase(passphrase) => {
            let mut recipient = scrypt::Recipient::new(passphrase);
            recipient.set_work_factor(WORK);
            Encryptor::with_recipients(once(&recipient as &dyn Recipient)).map_err(|error| error.to_string())?
        }
        Lock::Recipients(keys) => {
            let key = |text: &String| {
                text.parse::<x25519::Recipient>()
                    .map_err(|reason| format!("'{text}' is no public key of age (age1…): {reason}"))
            };
            let keys = keys.iter().map(key).collect::<Result<Vec<_>, _>>()?;
            Encryptor::with_recipients(keys.iter().map(|key| key as &dyn Recipient))
                .map_err(|error| error.to_string())?
        }
    };
    let mut sealed = Vec::with_capacity(plain.len() + 4096);
    let written = encryptor.wrap_output(&mut sealed).and_then(|mut writer| {
        writer.write_all(plain)?;
        writer.finish().map(drop)
    });
    written.map_err(|error| error.to_string())?;
    Ok(sealed)
}

/// Decrypts, at most so many bytes; errors in words.
pub(super) fn open(sealed: &[u8], opener: Opener, most: u64) -> Result<Zeroizing<Vec<u8>>, String> {
    let decryptor = Decryptor::new_buffered(sealed).map_err(|error| format!("this is no backup: {error}"))?;
    let opened = match opener {
        Opener::Passphrase(passphrase) => {
            if !decryptor.is_scrypt() {
                return Err("it was encrypted for a key: name the file with it by --identity".to_owned());
            }
            let mut identity = scrypt::Identity::new(passphrase);
            identity.set_max_work_factor(WORK_MAX);
            decryptor.decrypt(once(&identity as &dyn Identity))
        }
        Opener::Identities(file) => {
            let keys = read_secret(&file)?;
            let keys = IdentityFile::from_buffer(BufReader::new(keys.as_slice()))
                .map_err(|error| format!("{}: {error}", file.display()))?;
            let keys = keys.into_identities().map_err(|error| format!("{}: {error}", file.display()))?;
            decryptor.decrypt(keys.iter().map(|key| &**key as &dyn Identity))
        }
    };
    let opened = opened.map_err(|error| format!("it cannot be decrypted: {error}"))?;
    let mut plain = Zeroizing::new(Vec::new());
    // Headers of tar, beside the files.
    opened.take(most * 2).read_to_end(&mut plain).map_err(|error| format!("it is damaged: {error}"))?;
    Ok(plain)
}

/// The passphrase: the first line of a file, or what whoever sits here types; twice, and not too short, for one that is `new`.
pub(super) fn passphrase(file: Option<&Path>, new: bool) -> Result<SecretString, String> {
    let typed = match file {
        Some(file) => {
            let text = read_secret(file)?;
            let text = std::str::from_utf8(&text).map_err(|_| format!("{} is no text", file.display()))?;
            Zeroizing::new(text.lines().next().unwrap_or_default().to_owned())
        }
        None => {
            let first = ask("Passphrase of the backup:")?;
            if new && *ask("The same again:")? != *first {
                return Err("these are two passphrases".to_owned());
            }
            first
        }
    };
    if new && typed.chars().count() < PASSPHRASE_MIN {
        return Err(format!("the passphrase has less than {PASSPHRASE_MIN} characters"));
    }
    Ok(SecretString::from(typed.as_str()))
}

/// Asks as every tool of systemd does.
fn ask(what: &str) -> Result<Zeroizing<String>, String> {
    let mut asking = Command::new("systemd-ask-password");
    let answer = asking.args(["--timeout=0", what]).stdin(Stdio::inherit()).stderr(Stdio::inherit()).output();
    let answer = answer.map_err(|error| format!("systemd-ask-password: {error}; name a file by --passphrase-file"))?;
    if !answer.status.success() {
        return Err("nobody gave a passphrase".to_owned());
    }
    let text = Zeroizing::new(answer.stdout);
    let text = std::str::from_utf8(&text).map_err(|_| "the passphrase is no text".to_owned())?;
    Ok(Zeroizing::new(text.trim_end_matches('\n').to_owned()))
}

fn read_secret(file: &Path) -> Result<Zeroizing<Vec<u8>>, String> {
    let named = |error: std::io::Error| format!("{}: {error}", file.display());
    let mut secret = Zeroizing::new(Vec::new());
    std::fs::File::open(file).and_then(|open| open.take(SECRET_MAX).read_to_end(&mut secret)).map_err(named)?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use age::secrecy::ExposeSecret as _;

    #[test]
    fn what_is_closed_for_a_key_opens_with_it_alone() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, key: &x25519::Identity| {
            let file = dir.path().join(name);
            std::fs::write(&file, key.to_string().expose_secret()).unwrap();
            file
        };
        let (ours, other) = (x25519::Identity::generate(), x25519::Identity::generate());
        let (our_file, other_file) = (file("ours", &ours), file("other", &other));
        let sealed = seal(b"state", Lock::Recipients(vec![ours.to_public().to_string()])).unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"state"));
        let opened = open(&sealed, Opener::Identities(our_file.clone()), 100).unwrap();
        assert_eq!(*opened, b"state");
        assert!(open(&sealed, Opener::Identities(other_file), 100).unwrap_err().contains("cannot be decrypted"));
        let passphrase = Opener::Passphrase(SecretString::from("correct horse battery"));
        assert!(open(&sealed, passphrase, 100).unwrap_err().contains("--identity"));
        // Every bit is looked after.
        let mut damaged = sealed.clone();
        *damaged.last_mut().unwrap() ^= 1;
        assert!(open(&damaged, Opener::Identities(our_file), 100).unwrap_err().contains("damaged"));
        assert!(open(b"nonsense", Opener::Passphrase(SecretString::from("x")), 100).unwrap_err().contains("no backup"));
        assert!(seal(b"", Lock::Recipients(vec!["age1x".to_owned()])).unwrap_err().contains("age1x"));
    }

    #[test]
    fn a_passphrase_opens_what_it_closed() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("passphrase");
        std::fs::write(&file, "correct horse battery\nmore\n").unwrap();
        let given = || passphrase(Some(&file), true).unwrap();
        let sealed = seal(b"state", Lock::Passphrase(given())).unwrap();
        assert_eq!(*open(&sealed, Opener::Passphrase(given()), 100).unwrap(), b"state");
        let wrong = Opener::Passphrase(SecretString::from("correct horse"));
        assert!(open(&sealed, wrong, 100).is_err());
        std::fs::write(&file, "short").unwrap();
        assert!(passphrase(Some(&file), true).unwrap_err().contains("12 characters"));
        assert!(passphrase(Some(&file), false).is_ok(), "an old one is what it is");
    }
}
