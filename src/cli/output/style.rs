//! Colours, for those who want them: as systemd's tools do, with the variables that other programs know too.

use std::ffi::OsStr;

/// A colour or weight. What is bad and what is good is never told by it alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// All is well.
    Good,
    /// Worth a look.
    Warning,
    /// Something to put right.
    Bad,
    /// Less important than the rest.
    Faint,
    /// More important than the rest.
    Strong,
    /// A heading of columns.
    Header,
}

/// Whether there are colours.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Style {
    /// They are on.
    pub(crate) colours: bool,
}

impl Style {
    /// What the environment wants for a stream that is a terminal or not.
    ///
    /// `$SYSTEMD_COLORS` is asked first, then `$NO_COLOR` (<https://no-color.org>), then `$CLICOLOR_FORCE` and `$CLICOLOR`
    /// (<https://bixense.com/clicolors/>).
    pub(crate) fn of(terminal: bool) -> Self {
        Self { colours: wanted(terminal, |name| std::env::var_os(name)) }
    }

    /// The text in a colour.
    pub(crate) fn paint(self, paint: Paint, text: &str) -> String {
        if !self.colours || text.is_empty() {
            return text.to_owned();
        }
        let code = match paint {
            Paint::Good => "1;32",
            Paint::Warning => "1;33",
            Paint::Bad => "1;31",
            Paint::Faint => "90",
            Paint::Strong => "1",
            Paint::Header => "4",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

fn wanted<T: AsRef<OsStr>>(terminal: bool, variable: impl Fn(&str) -> Option<T>) -> bool {
    let value = |name: &str| variable(name).map(|value| value.as_ref().to_string_lossy().to_ascii_lowercase());
    let no = |value: &str| matches!(value, "0" | "no" | "n" | "false" | "f" | "off");
    match value("SYSTEMD_COLORS").as_deref() {
        Some("" | "auto" | "auto-16" | "auto-256" | "auto-24bit") | None => {}
        Some(value) => return !no(value),
    }
    if value("NO_COLOR").is_some_and(|value| !value.is_empty()) {
        return false;
    }
    if value("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && !no(&value)) {
        return true;
    }
    terminal && value("CLICOLOR").is_none_or(|value| !no(&value)) && value("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_obeyed() {
        let with = |terminal, variables: &[(&str, &'static str)]| {
            wanted(terminal, |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| *value))
        };
        assert!(with(true, &[]) && !with(false, &[]));
        assert!(!with(true, &[("NO_COLOR", "1")]) && with(true, &[("NO_COLOR", "")]));
        assert!(!with(true, &[("CLICOLOR", "0")]) && with(false, &[("CLICOLOR_FORCE", "1")]));
        assert!(
            !with(true, &[("SYSTEMD_COLORS", "0")]) && with(false, &[("SYSTEMD_COLORS", "256"), ("NO_COLOR", "1")])
        );
        assert!(!with(true, &[("TERM", "dumb")]));
    }

    #[test]
    fn paint_is_only_put_on_when_wanted() {
        assert_eq!(Style { colours: false }.paint(Paint::Bad, "x"), "x");
        assert_eq!(Style { colours: true }.paint(Paint::Bad, "x"), "\u{1b}[1;31mx\u{1b}[0m");
    }
}
