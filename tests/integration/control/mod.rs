//! The ways in for administrators.

mod bus;
mod conformance;
mod daemon;
mod dbus;
mod stub;
mod varlink;
