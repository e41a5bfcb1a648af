//! Sites: networks of one administrator that are joined over NATS. A machine knows what other sites have, asks a site for many paths in one
//! message, and fetches from the machine there that has them, over the TLS link that peers have with each other. NATS carries no NAR,
//! unless that is allowed for small ones where the direct way is closed.
//!
//! One machine of each site, its *gateway*, speaks for it. Which one is a lease that NATS keeps; when the gateway dies another takes over
//! within seconds. Everything works without NATS: then each site is alone.
//!
//! * [`name`], [`options`], [`error`]: what a site is called, and what this room is told.
//! * [`envelope`]: signed messages; [`message`]: what is in them.
//! * [`lease`]: who speaks for a site; [`gathering`]: what its gateway tells; [`reading`]: what others make of that;
//!   [`board`]: what is known of all other sites.
//! * [`connection`], [`asker`], [`speaker`], [`relay`], [`session`]: NATS itself; [`shared`]: what they share. * [`handle`]: what the rooms above ask.
//!
//! All but the last two lines decide without any input or output.
#![forbid(unsafe_code)]

mod asker;
mod board;
mod connection;
mod envelope;
mod error;
mod gathering;
mod handle;
mod lease;
mod message;
mod name;
mod options;
mod reading;
mod relay;
mod session;
mod shared;
mod speaker;

pub use connection::{Credential, CredentialError};
pub use error::SiteError;
pub use handle::{SiteStatus, Sites};
pub use message::{Answered, Found, Part};
pub use name::{BadSiteName, SiteName};
pub use options::{Desk, SitesOptions};
#[doc(hidden)]
pub use reading::read_anything;
