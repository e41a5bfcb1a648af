//! `peernixctl completion` and what the generated scripts ask: names that only the service knows.

use crate::cli::output::Screen;
use crate::cli::store_path::base_name;
use crate::control::{Control, JobState, KeyState, PeerFilter};
use std::collections::HashMap;
use std::time::Duration;

/// How long the service may take before a person at a prompt goes without.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// The same on another machine, with the way there.
const FAR_TIMEOUT: Duration = Duration::from_secs(4);
/// How many candidates are offered at most.
const CANDIDATES_MAX: usize = 1000;

/// The shells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shell {
    /// bash
    Bash,
    /// zsh
    Zsh,
    /// fish
    Fish,
}

/// What the service is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Candidates {
    /// Names of peers, and ids of those without
    Peers,
    /// Base names of pinned paths
    Pins,
    /// Numbers of jobs that run
    Jobs,
    /// Fingerprints of keys
    Keys,
    /// Names of trusted keys
    Trusted,
}

/// Prints candidates, a line each: a word, a tab, what it means. Words with anything that a shell could take for more than a
/// word are left out: names of peers come from strangers.
pub(crate) async fn candidates(control: &dyn Control, what: Candidates, is_far: bool, screen: &Screen) {
    let limit = if is_far { FAR_TIMEOUT } else { ANSWER_TIMEOUT };
    let Ok(all) = tokio::time::timeout(limit, ask(control, what)).await else { return };
    let safe = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let fit = all.into_iter().filter(|(word, _)| safe(word) && !word.starts_with('-')).take(CANDIDATES_MAX);
    let clean = |text: &str| text.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect::<String>();
    let text: String = fit.map(|(word, about)| format!("{word}\t{}\n", clean(&about))).collect();
    // Nobody is there to be told.
    let _ = screen.write(&text);
}

async fn ask(control: &dyn Control, what: Candidates) -> Vec<(String, String)> {
    match what {
        Candidates::Peers => {
            let peers = control.peers(PeerFilter::default()).await.unwrap_or_default();
            let mut names: HashMap<String, usize> = HashMap::new();
            for peer in &peers {
                *names.entry(peer.name.clone()).or_default() += 1;
            }
            let usable = |name: &str| !name.is_empty() && names.get(name) == Some(&1);
            let word = |name: String, id: String| if usable(&name) { (name, id) } else { (id, name) };
            let both = peers.into_iter().map(|peer| {
                let (word, other) = word(peer.name, peer.id);
                (word, format!("{} {other}", peer.state))
            });
            both.collect()
        }
        Candidates::Pins => {
            let pins = control.pins().await.unwrap_or_default();
            pins.into_iter().map(|pin| (base_name(&pin.path).to_owned(), pin.reason)).collect()
        }
        Candidates::Jobs => {
            let jobs = control.jobs().await.unwrap_or_default();
            let running = jobs.into_iter().filter(|job| job.state == JobState::Running);
            running.map(|job| (job.id.to_string(), job.kind.to_string())).collect()
        }
        Candidates::Keys => {
            let keys = control.keys().await.unwrap_or_default();
            let fit = keys.into_iter().filter(|key| key.state != KeyState::Revoked);
            fit.map(|key| (key.fingerprint, format!("{} {}", key.name, key.state))).collect()
        }
        Candidates::Trusted => {
            let keys = control.trusted_keys().await.unwrap_or_default();
            keys.into_iter().filter(|key| !key.distrusted).map(|key| (key.name, key.comment)).collect()
        }
    }
}
