//! Nix's own formats: pure functions and types, no input or output, nothing that can block.
//!
//! Everything here is read from strangers, so every parser is strict, bounded and total: it returns an error, it never
//! panics and never allocates more than its input justifies. The formats are those of the
//! [Nix manual](https://nix.dev/manual/nix/stable/protocols/), measured against the real programs where it is silent.
#![forbid(unsafe_code)]

pub mod base32;
pub mod cache_info;
pub mod content_address;
pub mod hash;
pub mod key;
pub mod listing;
pub mod nar;
pub mod narinfo;
pub mod package_name;
pub mod path_info;
pub mod realisation;
pub mod signature;
pub mod store_path;
pub mod trace;

mod base64;
mod error;
mod proof;

pub use content_address::ContentAddress;
pub use error::FormatError;
pub(crate) use error::quote;
pub use hash::NarHash;
pub use key::{PublicKey, SecretKey, TrustedKeys};
pub use listing::Listing;
pub use narinfo::{Compression, NarInfo};
pub use package_name::PackageName;
pub use path_info::PathInfo;
pub use signature::Signature;
pub use store_path::{StoreDir, StoreHash, StorePath};
