//! The package that the name of a store path is of, as far as names tell.
//!
//! Source: `DrvName` of Nix: a name ends before the first dash that no letter follows, and what comes after is the version. Outputs other than
//! the first append theirs to that (`openssl-3.0.13-dev`).

/// What the name of a store path says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackageName<'a> {
    /// The package, such as `openssl`.
    pub package: &'a str,
    /// The output, such as `dev`; empty for the first one.
    pub output: &'a str,
}

impl<'a> PackageName<'a> {
    /// Reads the name of a store path, without its hash.
    #[must_use]
    pub fn parse(name: &'a str) -> Self {
        let is_end = |(at, byte): &(usize, u8)| {
            *byte == b'-' && !name.as_bytes().get(at + 1).is_some_and(u8::is_ascii_alphabetic)
        };
        let Some((end, _)) = name.bytes().enumerate().find(is_end) else { return Self { package: name, output: "" } };
        let (package, version) = name.split_at(end);
        let last = version.rsplit('-').next().unwrap_or_default();
        let output = if last.bytes().all(|byte| byte.is_ascii_alphabetic()) { last } else { "" };
        Self { package, output }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_split_as_nix_does() {
        for (name, package, output) in [
            ("openssl-3.0.13", "openssl", ""),
            ("openssl-3.0.13-dev", "openssl", "dev"),
            ("linux-6.1.192-modules", "linux", "modules"),
            ("python3.11-requests-2.31.0", "python3.11-requests", ""),
            ("gcc-wrapper-13.2.0-man", "gcc-wrapper", "man"),
            ("glibc-2.38-27", "glibc", ""),
            ("source", "source", ""),
            ("hello-", "hello", ""),
            ("-1", "", ""),
            ("", "", ""),
        ] {
            assert_eq!(PackageName::parse(name), PackageName { package, output }, "{name}");
        }
    }
}
