//! `org.peernix.Store`: paths, pins, prefetching and garbage.

use super::answer::{Answered, changed, list, one};
use super::jobs;
use crate::control::varlink::protocol::{About as _, Call, Refusal};
use crate::control::{Control, ControlError, ErrorKind, GarbageOptions, PinRequest};
use std::sync::Arc;

pub(super) async fn answer(call: &Call, control: &Arc<dyn Control>) -> Answered {
    let path = || call.parameters(&["path"])?.required::<String>("path");
    match call.method.as_str() {
        "QueryPath" => one("report", control.query_path(&path()?).await.about("path")?),
        "Prefetch" => {
            let paths: Vec<String> = call.parameters(&["paths"])?.required("paths")?;
            let job = control.prefetch(paths).await.about("paths")?;
            jobs::begun(call, control, job).await
        }
        "CollectGarbage" => {
            let names = ["dryRun", "maxFreed", "olderThanUSec"];
            let parameters = call.parameters(&names)?;
            let options = GarbageOptions {
                dry_run: parameters.optional("dryRun")?.unwrap_or_default(),
                max_freed: parameters.optional("maxFreed")?,
                older_than_usec: parameters.optional("olderThanUSec")?,
            };
            let job = control.collect_garbage(options).await.about("olderThanUSec")?;
            jobs::begun(call, control, job).await
        }
        "Pin" => {
            let parameters = call.parameters(&["path", "reason", "untilTimestamp", "copies"])?;
            let request = PinRequest {
                path: parameters.required("path")?,
                reason: parameters.optional("reason")?,
                until_timestamp: parameters.optional("untilTimestamp")?,
                copies: parameters.optional("copies")?,
            };
            // The service says what is wrong; of those that can be, this is the one that was given.
            let about = match (request.copies, request.until_timestamp) {
                (Some(_), _) => "copies",
                (None, Some(_)) => "untilTimestamp",
                (None, None) => "reason",
            };
            changed(control.pin(request).await.about(about))
        }
        "Unpin" => changed(control.unpin(&path()?).await.about("path")),
        "ListPins" => match call.parameters(&["path"])?.optional::<String>("path")? {
            Some(path) => {
                let pins = control.pins().await?;
                let missing = || ControlError::new(ErrorKind::NoSuchPin, format!("{path} is not pinned"));
                one("pin", pins.into_iter().find(|pin| is_path(&pin.path, &path)).ok_or_else(missing)?)
            }
            None => list(call, "pin", control.pins().await),
        },
        _ => Err(Refusal::MethodNotFound),
    }
}

/// Whether a full store path is the one that is named by itself or by its base name.
fn is_path(full: &str, name: &str) -> bool {
    full == name || full.rsplit_once('/').is_some_and(|(_, base)| base == name)
}
