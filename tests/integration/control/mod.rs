//! The ways in for administrators.

mod bus;
mod conformance;
mod dbus;
#[path = "../../support/stub_control.rs"]
pub(crate) mod stub;
mod varlink;

#[allow(unused_imports, reason = "for the stub, which is also included where this is another path")]
use peernix::control::*;
