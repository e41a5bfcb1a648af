//! What every room needs to live with trouble: pauses that grow, limits, loops that go on, values that change. One of each.
#![forbid(unsafe_code)]

pub mod accept;
pub mod backoff;
pub mod breaker;
pub mod ewma;
pub mod fair_queue;
pub mod keyed_limit;
pub mod log_throttle;
pub mod rounds;
pub mod token_bucket;
pub mod versioned;
pub mod way;

pub use backoff::{Backoff, Schedule};
pub use breaker::Breaker;
pub use ewma::Ewma;
pub use fair_queue::{FairQueue, Rates, occupied};
pub use keyed_limit::{KeyedLimit, Permit};
pub use log_throttle::LogThrottle;
pub use rounds::Rounds;
pub use token_bucket::TokenBucket;
pub use versioned::{Version, Versioned};
pub use way::Way;
