//! `peernixctl explain`: what a finding of `doctor` means, or all that is known of a path.

use super::doctor::catalog::{Entry, about};
use super::paths;
use crate::cli::error::{Done, VerbError};
use crate::cli::nix_memory;
use crate::cli::output::{Screen, facts, tame};
use crate::control::{Control, Finding};
use crate::nix::{StoreHash, StorePath};
use serde_json::json;

/// The arguments of `explain`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A word of `doctor` or `status` such as peer-not-reached; or a store path, its base name or its hash
    #[arg(value_name = "WORD|PATH", value_hint = clap::ValueHint::AnyPath)]
    subject: String,
}

impl Args {
    /// The finding that is meant, if it is one.
    pub(crate) fn finding(&self) -> Option<Finding> {
        self.subject.parse().ok()
    }

    /// Whether it looks like the word for a finding, and is none.
    fn is_unknown_word(&self) -> bool {
        let is_word = |c: char| c.is_ascii_lowercase() || c == '-';
        self.subject.contains('-') && self.subject.chars().all(is_word)
    }
}

/// Says what a finding means. That needs no service.
pub(crate) fn word(finding: Finding, screen: &Screen) -> Done<()> {
    let Entry { meaning, cause, remedy } = about(finding);
    let value = json!({ "code": finding, "meaning": meaning, "cause": cause, "remedy": remedy });
    screen.show(&value, || {
        let lines = [("Means", meaning.to_owned()), ("Why", cause.to_owned()), ("What to do", remedy.to_owned())];
        format!("{finding}\n{}", facts(&lines))
    })
}

/// Says who has a path, whether it would be shared, how it came here, and what Nix itself remembers of it.
pub(super) async fn path(args: &Args, control: &dyn Control, local: bool, screen: &Screen) -> Done<()> {
    if args.is_unknown_word() {
        let words: Vec<&str> = Finding::ALL.iter().map(|finding| finding.as_str()).collect();
        let subject = tame(&args.subject);
        return Err(VerbError::Usage(format!("'{subject}' is neither a path nor one of {}", words.join(", "))));
    }
    let remembered = if local { hash(&args.subject).map(remembered).unwrap_or_default() } else { Vec::new() };
    paths::explain(&args.subject, &remembered, control, local, screen).await
}

fn hash(text: &str) -> Option<StoreHash> {
    text.parse().ok().or_else(|| {
        let name = text.trim_start_matches("/nix/store/").split('/').next().unwrap_or_default();
        name.parse::<StorePath>().ok().map(|path| path.hash())
    })
}

/// What Nix remembers that the gateway said, a sentence for each of its files.
fn remembered(hash: StoreHash) -> Vec<(bool, u64)> {
    let gateways = nix_memory::gateways();
    let is_meant = |url: &str| gateways.iter().any(|gateway| nix_memory::is_gateway(url, gateway));
    let (files, _) = nix_memory::files();
    let rows = files.iter().flat_map(|file| file.of_path(is_meant, hash).unwrap_or_default());
    rows.map(|row| (row.present, row.timestamp)).collect()
}
