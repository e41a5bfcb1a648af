//! Notices: what is shown to a person, and the texts from elsewhere that are in it.

use crate::control::Event;

/// How many names a notice lists.
const NAMES_MAX: usize = 8;
/// The longest name shown, in characters.
pub(super) const NAME_MAX: usize = 40;
/// The longest text of the service shown, in characters.
pub(super) const TEXT_MAX: usize = 300;

/// How urgent a notice is, as the Desktop Notifications Specification numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    Low = 0,
    Normal = 1,
    Critical = 2,
}

/// A place on the screen: a new notice of the same topic takes the place of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Topic {
    Peers,
    Keys,
    Configuration,
    Trust,
}

/// Something to show. The texts are plain: whoever shows them escapes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Notice {
    pub(super) topic: Topic,
    pub(super) summary: String,
    pub(super) body: String,
    pub(super) urgency: Urgency,
    /// The category of the specification.
    pub(super) category: &'static str,
    /// The icon of the icon naming specification.
    pub(super) icon: &'static str,
}

/// The name of the peer that an event is about, else the beginning of its id.
pub(super) fn name_of(event: &Event) -> String {
    let name = clean(event.name.as_deref().unwrap_or_default(), NAME_MAX);
    if name.trim().is_empty() { event.peer.iter().flat_map(|id| id.chars()).take(12).collect() } else { name }
}

/// A text from elsewhere: on one line, without what changes the text around it, and not too long.
pub(super) fn clean(text: &str, max: usize) -> String {
    let mut visible = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).filter(|c| {
        // Those that turn the direction of writing would reorder the names beside them.
        !c.is_control() && !matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    });
    let mut clean: String = visible.by_ref().take(max).collect();
    if visible.next().is_some() {
        clean.push('…');
    }
    clean
}

/// Names in a row, as many as fit.
pub(super) fn list(names: &[&str]) -> String {
    let shown = names.iter().take(NAMES_MAX).copied().collect::<Vec<_>>().join(", ");
    match names.len().checked_sub(NAMES_MAX) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::EventKind;

    #[test]
    fn texts_from_elsewhere_stay_in_their_place() {
        assert_eq!(clean("a\u{202e}b\u{7}\n\tc", 40), "ab  c");
        assert_eq!((clean("12345", 5), clean("123456", 5)), ("12345".to_owned(), "12345…".to_owned()));
        let event = |name: Option<&str>| Event {
            peer: Some("0123456789abcdef".into()),
            name: name.map(str::to_owned),
            ..Event::new(EventKind::PeerStateChanged)
        };
        assert_eq!(name_of(&event(Some("tower"))), "tower");
        assert_eq!(name_of(&event(Some("\u{202e}\n"))), "0123456789ab");
        assert_eq!(name_of(&event(None)), "0123456789ab");
    }
}
