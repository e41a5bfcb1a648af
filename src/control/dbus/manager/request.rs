//! A call of one of the methods, before and after it was let in.

use crate::control::Control;
use crate::control::dbus::access::{Call, Callers};
use crate::control::dbus::dict::Dict;
use crate::control::dbus::errors::CallError;
use crate::control::dbus::model::Model;
use crate::control::dbus::objects::Objects;
use crate::control::dbus::options::Options;
use crate::control::dbus::subscribers::Subscribers;
use std::sync::Arc;
use zbus::message::Header;
use zbus::{Connection, OwnedObjectPath};

/// Dictionaries.
pub(super) type Dicts = Vec<Dict>;

/// Dictionaries, each with the object of what it describes.
pub(super) type Listed = Vec<(OwnedObjectPath, Dict)>;

/// What methods need.
pub(crate) struct Backend {
    pub(crate) model: Arc<Model>,
    pub(crate) callers: Callers,
    pub(crate) objects: Objects,
    pub(crate) subscribers: Subscribers,
}

/// A call that was not let in yet: there is no way to the service but through [`Self::enter`].
pub(super) struct Request<'c> {
    backend: &'c Backend,
    connection: &'c Connection,
    header: Header<'c>,
}

/// A call that was let in. It counts until this is dropped.
pub(super) struct Entered<'c> {
    pub(super) control: &'c dyn Control,
    pub(super) backend: &'c Backend,
    pub(super) connection: &'c Connection,
    pub(super) header: Header<'c>,
    _call: Call,
}

impl<'c> Request<'c> {
    pub(super) const fn new(backend: &'c Backend, connection: &'c Connection, header: Header<'c>) -> Self {
        Self { backend, connection, header }
    }

    /// Lets it in, after polkit if its method needs a right.
    pub(super) async fn enter(self) -> Result<Entered<'c>, CallError> {
        let Self { backend, connection, header } = self;
        let call = backend.callers.enter(connection, &header).await?;
        Ok(Entered { control: &*backend.model.control, backend, connection, header, _call: call })
    }

    /// The same, for a method that knows no options.
    pub(super) async fn enter_without(self, options: Dict) -> Result<Entered<'c>, CallError> {
        Options::none(options)?;
        self.enter().await
    }
}
