//! `[share] profile`: with whom this machine shares, in one word, and which keys follow from it.
//!
//! A key that is not in the file has the value that the profile gives it. One that is, and says otherwise, is a contradiction: two
//! administrators, or one on two days, meant different things, and nobody can tell which.

use super::error::Problem;
use super::sections::{Config, FleetMode, Policy, Profile};
use super::value::Addresses;

/// A key that a profile decides.
struct Decided {
    section: &'static str,
    key: &'static str,
    /// Whether a configuration is as the profile says.
    fits: fn(&Config) -> bool,
    /// Makes it so.
    set: fn(&mut Config),
    /// Whether the file may say otherwise.
    may_differ: bool,
}

/// `section.key = value`
macro_rules! decided {
    ($section:ident.$key:ident = $value:expr) => {
        Decided {
            section: stringify!($section),
            key: stringify!($key),
            fits: |config| config.$section.$key == $value,
            set: |config| config.$section.$key = $value,
            may_differ: false,
        }
    };
}

/// The keys that follow from a profile.
fn keys(profile: Profile) -> Vec<Decided> {
    // Nobody is let in who does not say who it is.
    let nothing_plain = decided!(share.plain_listen = Addresses::default());
    match profile {
        Profile::Open => vec![decided!(fleet.mode = FleetMode::Open)],
        Profile::Team => vec![decided!(fleet.mode = FleetMode::Static), nothing_plain],
        Profile::Fleet => vec![
            decided!(fleet.mode = FleetMode::Fleet),
            nothing_plain,
            // Members may also be given less than the profile gives them.
            Decided { may_differ: true, ..decided!(share.policy = Policy::SignedAndOwn) },
        ],
        Profile::ReceiveOnly => vec![
            decided!(share.policy = Policy::Off),
            decided!(share.listen = Addresses::default()),
            nothing_plain,
            decided!(share.index = false),
            decided!(share.relay = false),
        ],
    }
}

impl Profile {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Team => "team",
            Self::Fleet => "fleet",
            Self::ReceiveOnly => "receive-only",
        }
    }
}

/// Makes the keys as the profile says, if there is one; tells those of the file that say otherwise. `line` gives the line of a key that is
/// in the file.
pub(super) fn apply(config: &mut Config, line: impl Fn(&str, &str) -> Option<usize>) -> Vec<Problem> {
    let Some(profile) = config.share.profile else { return Vec::new() };
    let mut problems = Vec::new();
    for decided in keys(profile) {
        let is_given = line(decided.section, decided.key).is_some();
        if is_given && decided.may_differ {
            continue;
        }
        if is_given && !(decided.fits)(config) {
            let (word, place) = (profile.as_str(), line("share", "profile").unwrap_or_default());
            let what = format!("contradicts [share] profile = \"{word}\" in line {place}");
            problems.push(Problem::of(decided.section, decided.key, what, "leave one of the two out"));
        }
        // Also where it contradicts: what would be wrong with the other keys because of that is no news.
        (decided.set)(config);
    }
    problems
}
