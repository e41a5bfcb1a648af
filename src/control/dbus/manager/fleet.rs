//! The fleet of this machine.

use super::request::Request;
use crate::control::Enrolment;
use crate::control::dbus::dict::{Dict, to_dict};
use crate::control::dbus::errors::CallError;
use crate::control::dbus::options::{Options, text};

pub(super) async fn get(request: Request<'_>) -> Result<Dict, CallError> {
    let call = request.enter().await?;
    Ok(to_dict(&call.control.fleet().await?)?)
}

pub(super) async fn init(request: Request<'_>, options: Dict) -> Result<Dict, CallError> {
    let mut options = Options::new(options);
    let site = options.word("Site")?.unwrap_or_default();
    options.end()?;
    let call = request.enter().await?;
    Ok(to_dict(&call.control.init_fleet(&site).await?)?)
}

pub(super) async fn invite(request: Request<'_>, options: Dict) -> Result<Dict, CallError> {
    let call = request.enter_without(options).await?;
    Ok(to_dict(&call.control.invite_member().await?)?)
}

pub(super) async fn join(request: Request<'_>, code: &str, options: Dict) -> Result<Dict, CallError> {
    let mut options = Options::new(options);
    let address = options.word("Address")?;
    options.end()?;
    let call = request.enter().await?;
    Ok(to_dict(&call.control.join_fleet(text(code)?, address.as_deref()).await?)?)
}

pub(super) async fn enroll(request: Request<'_>, id: &str, options: Dict) -> Result<String, CallError> {
    let mut options = Options::new(options);
    let (name, site) = (options.word("Name")?, options.word("Site")?);
    let roles = options.words("Roles")?;
    let valid_usec = options.number("ValidUSec")?;
    options.end()?;
    let call = request.enter().await?;
    Ok(call.control.enroll_member(Enrolment { id: text(id)?.to_owned(), name, site, roles, valid_usec }).await?)
}

pub(super) async fn revoke(request: Request<'_>, member: &str, options: Dict) -> Result<bool, CallError> {
    let call = request.enter_without(options).await?;
    Ok(call.control.revoke_member(text(member)?).await?)
}
