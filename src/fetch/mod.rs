//! Getting a path: from a store hash to a verified path info, and from there to the bytes of its NAR.
//!
//! The gateway asks this room and nobody else. Its promises: an answer within the budget, one lookup and one transfer for
//! however many ask at once, nothing unverified, and no source whose failure a reader would notice while another one can
//! go on. A NAR has one form here, whoever has it: its own bytes by offset.
//!
//! * [`fetcher`]: the handle; [`nar`]: a NAR that was found.
//! * [`read_ahead`]: what Nix will ask for next.
//! * [`resolve`]: who has a path. * [`transfer`]: how its NAR comes. * [`source`]: where it comes from.
//! * [`pieces`]: one NAR from several machines at once. * [`patch`]: what it differs in from another version. * [`claims`]: who downloads for the site.
//! * [`blame`]: what a failure means for the one who failed, [`promises`]: and for the path. [`activity`]: what goes on, for those who watch.
#![forbid(unsafe_code)]

mod activity;
mod blame;
pub mod claims;
mod error;
mod fetcher;
mod nar;
pub mod patch;
pub mod pieces;
mod probe;
mod promises;
mod read_ahead;
mod resolve;
mod source;
mod startup_grace;
mod traces;
mod transfer;

#[cfg(test)]
mod tests;

pub use activity::{FetchEvent, LastTransfer, Running};
pub use error::{SourceError, TransferError, Violation};
pub use fetcher::{Fetcher, Options, SiteDesk, SiteOptions};
pub use nar::{Nar, NarBody};
pub use probe::{Probe, probe};
#[cfg(test)]
pub(crate) use resolve::plan::{Plan, Rank};
#[cfg(test)]
pub(crate) use resolve::relay_responder::HEDGE;
pub use resolve::resolution::Resolution;
pub use resolve::source_report::{SourceReport, SourceView};
pub(crate) use resolve::upstream_narinfos;
pub use source::SourceName;
pub use source::http_client::{Proxies, is_proxy};
pub use source::login::{Login, LoginError};
pub(crate) use source::partial;
pub(crate) use source::peer::PIECES;
pub use source::upstream_options::UpstreamOptions;
pub use source::upstream_trouble::UpstreamTrouble;
pub use transfer::shared::MayShare;
pub use transfer::spool::{SpoolOptions, Spools};
