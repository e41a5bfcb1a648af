//! Texts for people: numbers with their words, and nothing that a stranger could hide in a name.

#![forbid(unsafe_code)]

/// A character, unless it could make a line look like another: controls, and what turns or hides text.
pub(crate) fn harmless(c: char) -> char {
    let hides = matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    if c.is_control() || hides { '\u{fffd}' } else { c }
}

/// A number of bytes for people.
pub(crate) fn size(bytes: u64) -> String {
    bytesize::ByteSize(bytes).display().iec().to_string()
}

/// A number of bytes a second for people.
pub(crate) fn rate(bytes: u64) -> String {
    format!("{}/s", size(bytes))
}

/// The name of a store path, without the directory and the hash.
pub(crate) fn package(path: &str) -> &str {
    let base = path.rsplit('/').next().unwrap_or(path);
    base.split_once('-').map_or(base, |(_, name)| name)
}

/// A number with the right form of a word: `1 path`, `2 paths`.
pub(crate) fn count(number: u64, one: &str) -> String {
    match (number, one.strip_suffix('y')) {
        (1, _) => format!("1 {one}"),
        (_, Some(stem)) if !stem.ends_with(['a', 'e', 'o']) => format!("{number} {stem}ies"),
        _ => format!("{number} {one}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_their_words() {
        let counted = [(1, "path"), (2, "path"), (0, "key"), (3, "query")].map(|(n, word)| count(n, word));
        assert_eq!(counted, ["1 path", "2 paths", "0 keys", "3 queries"]);
        assert_eq!(size(3 << 30), "3.0 GiB");
    }
}
