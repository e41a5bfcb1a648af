//! One NAR from several machines at once, each of them giving other pieces of it, which are proved one by one.
//!
//! [`table`] proves a piece. [`stripes`] decides who sends which, without any input or output; [`flow`] carries that out. To a transfer all of
//! them together, a [`group`], are one source ([`several`]), put together by [`gather`]. [`hasher`] makes the table while it hashes, and [`tables`] keeps those of
//! this machine.

pub(crate) mod flow;
pub(crate) mod gather;
pub(crate) mod group;
pub mod hasher;
pub(crate) mod several;
pub(crate) mod stripes;
pub mod table;
pub mod tables;
