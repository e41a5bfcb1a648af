//! Files of logins, as curl reads them for Nix (`netrc-file`).
//!
//! Source: [the manual of curl](https://everything.curl.dev/usingcurl/netrc.html), which Nix hands the file to. Words between blanks,
//! or in quotes with `\"`, `\n` and the like; `#` begins a comment; `macdef` goes on to the next empty line; the first entry for the
//! host that has a password counts, and `default` is for every host. There are crates for this; none wipes what it read, and none reads
//! quotes as curl does.

use super::error::LoginError;
use zeroize::Zeroizing;

/// The longest word, in bytes.
const WORD_MAX: usize = 4096;

/// A user's name, which may be empty, and the password.
pub(super) type UserAndPassword = (Zeroizing<Vec<u8>>, Zeroizing<Vec<u8>>);

/// The login for a host.
///
/// # Errors
/// Not such a file.
pub(super) fn find(file: &[u8], host: &str) -> Result<Option<UserAndPassword>, LoginError> {
    let mut words = Words { rest: file };
    let mut user = Zeroizing::new(Vec::new());
    let mut password = None;
    // Whether the entry that is being read is for the host.
    let mut is_ours = false;
    let mut has_entry = false;
    while let Some(word) = words.next()? {
        match word.as_slice() {
            b"machine" | b"default" => {
                if is_ours && let Some(password) = password.take() {
                    return Ok(Some((user, password)));
                }
                (user, password, has_entry) = (Zeroizing::new(Vec::new()), None, true);
                is_ours = word.as_slice() == b"default" || words.value()?.eq_ignore_ascii_case(host.as_bytes());
            }
            b"login" if has_entry => user = words.value()?,
            b"password" if has_entry => password = Some(words.value()?),
            b"account" if has_entry => drop(words.value()?),
            b"macdef" => words.skip_macro(),
            _ => {
                return Err(LoginError::Malformed(
                    "it is not a file of logins: lines such as `machine HOST login USER password PASSWORD`",
                ));
            }
        }
    }
    Ok(password.filter(|_| is_ours).map(|password| (user, password)))
}

/// The words of a file.
struct Words<'a> {
    rest: &'a [u8],
}

impl Words<'_> {
    /// The next word; `None` at the end.
    fn next(&mut self) -> Result<Option<Zeroizing<Vec<u8>>>, LoginError> {
        loop {
            self.rest = self.rest.trim_ascii_start();
            match self.rest {
                [] => return Ok(None),
                [b'#', ..] => self.skip_past(|rest| rest.starts_with(b"\n")),
                [b'"', quoted @ ..] => {
                    self.rest = quoted;
                    return self.quoted().map(Some);
                }
                _ => {
                    let end = self.rest.iter().position(u8::is_ascii_whitespace).unwrap_or(self.rest.len());
                    let (word, rest) = self.rest.split_at(end);
                    self.rest = rest;
                    return if word.len() > WORD_MAX { Err(TOO_LONG) } else { Ok(Some(Zeroizing::new(word.to_vec()))) };
                }
            }
        }
    }

    /// The word after one that needs a value.
    fn value(&mut self) -> Result<Zeroizing<Vec<u8>>, LoginError> {
        self.next()?
            .ok_or(LoginError::Malformed("it ends where the name of a host, a user or a password should follow"))
    }

    fn quoted(&mut self) -> Result<Zeroizing<Vec<u8>>, LoginError> {
        // As large as it can get: one that grows leaves copies behind.
        let mut word = Zeroizing::new(Vec::with_capacity(self.rest.len().min(WORD_MAX)));
        let mut bytes = self.rest.iter().enumerate();
        while let Some((at, byte)) = bytes.next() {
            let byte = match byte {
                b'"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(word);
                }
                b'\\' => match bytes.next() {
                    Some((_, b'n')) => b'\n',
                    Some((_, b'r')) => b'\r',
                    Some((_, b't')) => b'\t',
                    Some((_, other)) => *other,
                    None => break,
                },
                b'\n' => break,
                other => *other,
            };
            if word.len() == WORD_MAX {
                return Err(TOO_LONG);
            }
            word.push(byte);
        }
        Err(LoginError::Malformed("a quote in it does not end on its line"))
    }

    /// Up to the next empty line.
    fn skip_macro(&mut self) {
        self.skip_past(|rest| rest.starts_with(b"\n\n") || rest.starts_with(b"\n\r\n"));
    }

    fn skip_past(&mut self, is_end: impl Fn(&[u8]) -> bool) {
        while !self.rest.is_empty() && !is_end(self.rest) {
            self.rest = &self.rest[1..];
        }
    }
}

const TOO_LONG: LoginError = LoginError::Malformed("a word in it is longer than any login");

#[cfg(test)]
mod tests {
    use super::*;

    fn of(file: &str, host: &str) -> Option<(String, String)> {
        let text = |bytes: &Zeroizing<Vec<u8>>| String::from_utf8(bytes.to_vec()).unwrap();
        find(file.as_bytes(), host).unwrap().map(|(user, password)| (text(&user), text(&password)))
    }

    fn pair(user: &str, password: &str) -> Option<(String, String)> {
        Some((user.to_owned(), password.to_owned()))
    }

    #[test]
    fn the_entry_of_the_host_counts() {
        let file = "# caches\nmachine a.example.org\n  login alice\n  password one\n\nmachine B.example.org login bob password two # x\n\
                    machine c.example.org password token\nmachine a.example.org login other password other\n";
        assert_eq!(of(file, "a.example.org"), pair("alice", "one"));
        assert_eq!(of(file, "b.EXAMPLE.org"), pair("bob", "two"));
        assert_eq!(of(file, "c.example.org"), pair("", "token"), "as Cachix writes them");
        assert_eq!(of(file, "example.org"), None);
        let file = format!("{file}default login anybody password three");
        assert_eq!((of(&file, "a.example.org"), of(&file, "x")), (pair("alice", "one"), pair("anybody", "three")));
    }

    #[test]
    fn quotes_macros_and_odd_orders() {
        let file = "macdef init\n  machine a login no password no\n\nmachine a password \"p w\\\"\\\\d\\t\" account x login \"#a\"";
        assert_eq!(of(file, "a"), pair("#a", "p w\"\\d\t"));
        assert_eq!(of("machine a login x machine a login y password z", "a"), pair("y", "z"), "one without a password");
        assert_eq!(of("", "a"), None);
    }

    #[test]
    fn other_files_are_refused() {
        let long = format!("machine a password {}", "x".repeat(WORD_MAX + 1));
        let quoted = format!("machine a password \"{}\"", "x".repeat(WORD_MAX + 1));
        for file in [
            "token",
            "machine",
            "login a",
            "machine a login",
            "machine a password \"b",
            "machine a \"b\n\"",
            &long,
            &quoted,
        ] {
            assert!(find(file.as_bytes(), "a").is_err(), "{file}");
        }
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(file in "(machine|login|password|default|macdef|a|\"|\\\\|#|\n| ){0,30}") {
            let _ = find(file.as_bytes(), "a");
        }
    }
}
