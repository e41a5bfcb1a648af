//! `org.peernix.Fleet`: the machines of one administrator.

use super::answer::{Answered, changed, one};
use crate::control::varlink::protocol::{About as _, Call, Refusal};
use crate::control::{Control, Enrolment};
use std::sync::Arc;

pub(super) async fn answer(call: &Call, control: &Arc<dyn Control>) -> Answered {
    match call.method.as_str() {
        "Show" => {
            call.parameters(&[])?;
            one("fleet", control.fleet().await?)
        }
        "Init" => {
            let site: Option<String> = call.parameters(&["site"])?.optional("site")?;
            one("fleet", control.init_fleet(&site.unwrap_or_default()).await.about("site")?)
        }
        "Invite" => {
            call.parameters(&[])?;
            one("invitation", control.invite_member().await?)
        }
        "Join" => {
            let parameters = call.parameters(&["code", "address"])?;
            let (code, address): (String, Option<String>) =
                (parameters.required("code")?, parameters.optional("address")?);
            one("fleet", control.join_fleet(&code, address.as_deref()).await.about("code")?)
        }
        "Enroll" => {
            let parameters = call.parameters(&["id", "name", "site", "roles", "validUSec"])?;
            let enrolment = Enrolment {
                id: parameters.required("id")?,
                name: parameters.optional("name")?,
                site: parameters.optional("site")?,
                roles: parameters.optional("roles")?.unwrap_or_default(),
                valid_usec: parameters.optional("validUSec")?,
            };
            one("membership", control.enroll_member(enrolment).await.about("id")?)
        }
        "Revoke" => {
            let member: String = call.parameters(&["id"])?.required("id")?;
            changed(control.revoke_member(&member).await.about("id"))
        }
        _ => Err(Refusal::MethodNotFound),
    }
}
