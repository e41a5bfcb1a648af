//! The same for a terminal: `curl http://127.0.0.1:7649/`.

use super::overview::Overview;
use super::words;
use std::fmt::Write as _;

/// A few lines.
pub(super) fn whole(overview: &Overview, host: &str) -> String {
    let (status, statistics) = (&overview.status, &overview.statistics);
    let mut text = format!(
        "This is the gateway of Peernix {}, a binary cache that has what the machines around it have.\n\n\
         It is {}, with {} of {} online. {} came from peers, {} from the Internet.\n",
        status.version,
        status.state,
        overview.online(),
        words::count(overview.peers.len() as u64, "peer"),
        words::size(statistics.bytes_from_peers),
        words::size(statistics.bytes_from_upstreams),
    );
    for problem in &status.problems {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {problem}");
    }
    let _ = write!(
        text,
        "\nNix uses it with this line in nix.conf:\n\n    extra-substituters = http://{host}\n\n\
         /peers lists the machines, /metrics the counters; `peernixctl status` tells more, and a browser shows this as a page.\n",
    );
    text
}
