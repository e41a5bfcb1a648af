//! The ways in for administrators.

mod bus;
mod conformance;
mod dbus;
mod stub;
mod varlink;
