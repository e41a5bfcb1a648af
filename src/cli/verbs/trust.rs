//! `peernixctl trust`: the keys whose signatures let a path in.

use crate::cli::error::{Doing as _, Done};
use crate::cli::output::{Cell, Paint, Screen, Table, count, tame};
use crate::control::{Control, TrustOrigin, TrustedKey};

/// The arguments of `trust`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    /// List the trusted keys, and those that were distrusted (the default)
    List,
    /// Let in what a key signed
    Add {
        /// The public key, as `peernixctl keys export` and Nix print it
        #[arg(value_name = "NAME:BASE64")]
        public_key: String,
        /// What to note beside it
        #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
        comment: String,
    },
    /// Do not let in any more what a key signed, wherever it is configured
    Remove {
        /// The key, or its name
        #[arg(value_name = "KEY")]
        trusted: String,
    },
}

impl Args {
    /// Whether this changes something, so that somebody may have to authenticate.
    pub(super) const fn changes(&self) -> bool {
        matches!(self.verb, Some(Verb::Add { .. } | Verb::Remove { .. }))
    }
}

pub(super) async fn run(args: Args, control: &dyn Control, screen: &Screen) -> Done<()> {
    match args.verb.unwrap_or(Verb::List) {
        Verb::List => {
            let keys = control.trusted_keys().await.doing("list the trusted keys")?;
            screen.page(&keys, || table(&keys, screen))
        }
        Verb::Add { public_key, comment } => {
            let name = tame(public_key.split(':').next().unwrap_or_default());
            let new = control.trust(&public_key, &comment).await.doing(format!("trust '{}'", tame(&public_key)))?;
            screen.changed(new, &format!("Lets in what {name} signed."), &format!("{name} is trusted already."))
        }
        Verb::Remove { trusted } => {
            let done = control.distrust(&trusted).await.doing(format!("distrust '{}'", tame(&trusted)))?;
            let name = tame(trusted.split(':').next().unwrap_or_default());
            let already = format!("{name} is distrusted already.");
            screen.changed(done, &format!("Lets in no more what only {name} signed."), &already)
        }
    }
}

fn table(keys: &[TrustedKey], screen: &Screen) -> String {
    if keys.is_empty() {
        return if screen.legend && !screen.quiet {
            "No keys are trusted: nothing is fetched from anybody.\n".to_owned()
        } else {
            String::new()
        };
    }
    let mut table = Table::new(&["", "~NAME", "~KEY", "TRUSTED", "ORIGIN", "-CHANGED", "~COMMENT"]);
    for key in keys {
        let (dot, word, paint) = if key.distrusted { ("×", "no", Paint::Bad) } else { ("●", "yes", Paint::Good) };
        let origin = match key.origin {
            TrustOrigin::Configuration => "[trust]",
            TrustOrigin::Nix => "nix.conf",
            TrustOrigin::Added => "added",
        };
        let half = key.public_key.split_once(':').map_or(key.public_key.as_str(), |(_, half)| half);
        table.row(vec![
            Cell::new(dot).paint(paint),
            Cell::new(&key.name),
            Cell::new(half),
            Cell::new(word).paint(paint),
            Cell::new(origin),
            Cell::known(key.changed_timestamp.map(|time| screen.clock.ago(time))),
            Cell::known(Some(&key.comment)),
        ]);
    }
    let trusted = keys.iter().filter(|key| !key.distrusted).count();
    screen.table(&table, &format!("{} listed, {trusted} trusted.", count(keys.len() as u64, "key")))
}
