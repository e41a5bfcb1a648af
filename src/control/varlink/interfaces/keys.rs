//! `org.peernix.Keys`: keys that sign, and keys that are trusted.

use super::answer::{Answer, Answered, changed, list, one};
use crate::control::varlink::protocol::{About as _, Call, Refusal};
use crate::control::{Control, ControlError, ErrorKind, KeyState};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

pub(super) async fn answer(call: &Call, control: &Arc<dyn Control>) -> Answered {
    match call.method.as_str() {
        "List" => match call.parameters(&["fingerprint"])?.optional::<String>("fingerprint")? {
            Some(wanted) => {
                let mut keys = control.keys().await?.into_iter();
                let found = keys.find(|key| key.fingerprint == wanted || key.name == wanted);
                one("key", found.ok_or_else(|| missing(&wanted))?)
            }
            None => list(call, "key", control.keys().await),
        },
        "Rotate" => {
            let grace = call.parameters(&["graceUSec"])?.optional("graceUSec")?.map(Duration::from_micros);
            Ok(Answer::One(json!(control.rotate_key(grace).await.about("graceUSec")?)))
        }
        "Revoke" => {
            let parameters = call.parameters(&["fingerprint", "reason"])?;
            let fingerprint: String = parameters.required("fingerprint")?;
            let reason: Option<String> = parameters.optional("reason")?;
            changed(control.revoke_key(&fingerprint, &reason.unwrap_or_default()).await.about("reason"))
        }
        "ExportPublic" => {
            call.parameters(&[])?;
            let counts = control.keys().await?.into_iter().filter(|key| key.state != KeyState::Revoked);
            one("keys", counts.map(|key| key.public_key).collect::<Vec<_>>())
        }
        "ListTrusted" => match call.parameters(&["key"])?.optional::<String>("key")? {
            Some(wanted) => {
                let mut keys = control.trusted_keys().await?.into_iter();
                let found = keys.find(|key| key.public_key == wanted || key.name == wanted);
                one("key", found.ok_or_else(|| missing(&wanted))?)
            }
            None => list(call, "key", control.trusted_keys().await),
        },
        "Trust" => {
            let parameters = call.parameters(&["publicKey", "comment"])?;
            let key: String = parameters.required("publicKey")?;
            let comment: Option<String> = parameters.optional("comment")?;
            changed(control.trust(&key, &comment.unwrap_or_default()).await.about("comment"))
        }
        "Distrust" => {
            let key: String = call.parameters(&["key"])?.required("key")?;
            changed(control.distrust(&key).await.about("key"))
        }
        _ => Err(Refusal::MethodNotFound),
    }
}

fn missing(wanted: &str) -> ControlError {
    ControlError::new(ErrorKind::NoSuchKey, format!("there is no key '{}'", wanted.escape_default()))
}
