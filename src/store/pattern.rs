//! Patterns of names: `*` stands for any text, `?` for any one character, everything else for itself.

use std::fmt;

/// The longest pattern, in bytes; names have up to 211.
const PATTERN_MAX: usize = 256;
/// How many patterns there may be.
const PATTERNS_MAX: usize = 256;

/// Patterns over names of store paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Patterns(Vec<String>);

/// Patterns that cannot be meant, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternError(String);

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PatternError {}

impl Patterns {
    /// Checks and takes the patterns.
    ///
    /// # Errors
    /// One that is too long or can never match, or too many of them.
    pub fn new(patterns: Vec<String>) -> Result<Self, PatternError> {
        let refuse = |what: String| Err(PatternError(what));
        if patterns.len() > PATTERNS_MAX {
            return refuse(format!("{} patterns are more than the {PATTERNS_MAX} allowed", patterns.len()));
        }
        for pattern in &patterns {
            if pattern.is_empty() || pattern.len() > PATTERN_MAX {
                return refuse(format!("the pattern '{pattern}' must have 1 to {PATTERN_MAX} characters"));
            }
            if let Some(odd) = pattern.chars().find(|c| !c.is_ascii_alphanumeric() && !"+-._?=*".contains(*c)) {
                let pattern = pattern.escape_debug();
                return refuse(format!("'{pattern}' can never match: no name of a store path has a '{odd}' in it"));
            }
        }
        Ok(Self(patterns))
    }

    /// The first pattern that `name` matches as a whole.
    #[must_use]
    pub fn matching(&self, name: &str) -> Option<&str> {
        self.0.iter().map(String::as_str).find(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
    }
}

/// Whether `pattern` matches all of `name`, in at most their lengths' product of steps.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut reached) = (0, 0);
    // The last '*', and what of the name it stands for ends before.
    let mut star: Option<(usize, usize)> = None;
    while reached < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, reached));
                at += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[reached] => {
                at += 1;
                reached += 1;
            }
            // The last '*' takes one more; one further back could not do better.
            _ => match &mut star {
                Some((star, end)) => {
                    *end += 1;
                    (at, reached) = (*star + 1, *end);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The definition, for comparison: slow, but plainly right.
    fn by_definition(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, _) => name.is_empty(),
            (Some((b'*', rest)), _) => (0..=name.len()).any(|taken| by_definition(rest, &name[taken..])),
            (Some((b'?', rest)), Some((_, others))) => by_definition(rest, others),
            (Some((byte, rest)), Some((other, others))) => byte == other && by_definition(rest, others),
            (Some(_), None) => false,
        }
    }

    #[test]
    fn names_match_as_expected() {
        let patterns = Patterns::new(vec!["*-secret*".into(), "vpn-?.conf".into()]).unwrap();
        assert_eq!(patterns.matching("my-secrets-1.0"), Some("*-secret*"));
        assert_eq!(patterns.matching("-secret"), Some("*-secret*"));
        assert_eq!(patterns.matching("vpn-1.conf"), Some("vpn-?.conf"));
        assert_eq!(patterns.matching("vpn-12.conf"), None);
        assert_eq!(patterns.matching("secret"), None);
    }

    #[test]
    fn patterns_that_cannot_be_meant_are_refused() {
        for pattern in ["", "a/b", "[ab]", "ä", &"x".repeat(257)] {
            assert!(Patterns::new(vec![pattern.into()]).is_err(), "{pattern}");
        }
        assert!(Patterns::new(vec!["*".into(); 257]).is_err());
    }

    #[test]
    fn many_stars_do_not_take_long() {
        let patterns = Patterns::new(vec!["*a".repeat(100) + "b"]).unwrap();
        assert_eq!(patterns.matching(&"a".repeat(211)), None);
    }

    proptest! {
        #[test]
        fn as_defined(pattern in "[ab?*]{0,8}", name in "[ab]{0,10}") {
            let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
            prop_assert_eq!(matches(pattern, name), by_definition(pattern, name));
        }
    }
}
