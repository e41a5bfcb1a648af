//! What takes its time.

use super::request::{Listed, Request};
use crate::control::dbus::dict::{Dict, to_dict};
use crate::control::dbus::errors::CallError;
use crate::control::dbus::paths::job_path;
use zbus::OwnedObjectPath;

pub(super) async fn list(request: Request<'_>) -> Result<Listed, CallError> {
    let call = request.enter().await?;
    let jobs = call.control.jobs().await?;
    jobs.iter().map(|job| Ok((job_path(job.id), to_dict(job)?))).collect()
}

pub(super) async fn get(request: Request<'_>, id: u64) -> Result<(OwnedObjectPath, Dict), CallError> {
    let call = request.enter().await?;
    let job = call.control.job(id).await?;
    call.backend.objects.show(call.connection, &job).await;
    Ok((job_path(job.id), to_dict(&job)?))
}
