//! Texts for locales that have ASCII only.

/// Whether the locale of the environment has ASCII only: `C` or `POSIX`, or any other that is not UTF-8. Without a locale there is UTF-8, as
/// systemd has it.
pub(super) fn is_all_there_is(variable: impl Fn(&str) -> Option<String>) -> bool {
    let named =
        ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    named.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        !locale.contains("utf-8") && !locale.contains("utf8")
    })
}

/// The text in ASCII: our own signs by others that mean the same, and what else there is by a question mark each.
pub(super) fn written(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\0'..='\x7f' => written.push(c),
            '●' => written.push('*'),
            '○' => written.push('o'),
            '×' | '✗' => written.push('x'),
            '✓' => written.push('+'),
            '–' => written.push('-'),
            '…' => written.push_str("..."),
            '█' => written.push('#'),
            '░' => written.push('.'),
            '→' => written.push_str("->"),
            _ => written.push('?'),
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_variable_that_says_something_counts() {
        let ascii = |variables: &[(&str, &str)]| {
            is_all_there_is(|name| {
                variables.iter().find(|(other, _)| *other == name).map(|(_, value)| (*value).to_owned())
            })
        };
        assert!(
            !ascii(&[])
                && !ascii(&[("LANG", "")])
                && !ascii(&[("LANG", "de_DE.UTF-8")])
                && !ascii(&[("LANG", "C.utf8")])
        );
        assert!(ascii(&[("LANG", "C")]) && ascii(&[("LC_ALL", "POSIX"), ("LANG", "de_DE.UTF-8")]));
        assert!(ascii(&[("LC_CTYPE", "de_DE.ISO-8859-1"), ("LANG", "de_DE.UTF-8")]));
    }

    #[test]
    fn signs_have_their_likes_and_names_of_others_do_no_harm() {
        assert_eq!(written("● a → b – 箱…\n"), "* a -> b - ?...\n");
    }
}
