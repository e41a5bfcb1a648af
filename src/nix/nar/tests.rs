//! NARs of the real Nix, the `nix-nar` crate as a second opinion, and properties of writer and reader together.

mod golden;
mod limits;
mod properties;
mod tree;
