//! One call of a method of the service.

use super::bus::BUS_NAME;
use super::errors;
use super::methods::{self, INTERFACES};
use crate::control::{ControlError, ErrorKind, Method, Outcome};
use serde::Serialize;
use zbus::proxy::{CacheProperties, MethodFlags};
use zbus::wire::DynamicDeserialize;
use zbus::{Connection, DynamicType, Proxy};

/// Calls a method of the service. For one that needs a right somebody may be asked to authenticate, which may take minutes.
pub(super) async fn call<B, R>(
    connection: &Connection,
    path: &str,
    interface: &str,
    method: &'static str,
    body: &B,
) -> Outcome<R>
where
    B: Serialize + DynamicType + Sync,
    R: for<'d> DynamicDeserialize<'d>,
{
    let interface = format!("{INTERFACES}{interface}");
    let mut flags = MethodFlags::NO_AUTO_START;
    if methods::find(&interface, method).is_some_and(Method::changes) {
        flags |= MethodFlags::ALLOW_INTERACTIVE_AUTH;
    }
    let answer = async {
        let proxy: Proxy<'_> = zbus::proxy::Builder::new(connection)
            .destination(BUS_NAME)
            .path(path)
            .interface(interface)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        proxy.call_with_flags::<_, _, R>(method, flags, body).await
    };
    let answer: zbus::Result<Option<R>> = answer.await;
    match answer {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(ControlError::new(ErrorKind::Failed, format!("{method} has no answer"))),
        Err(error) => Err(errors::received(&error)),
    }
}
