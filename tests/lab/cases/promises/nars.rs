//! The NARs: what is wrong with those of the first cache, or unusual, and is there at once at the first or later at the second.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::stage::{Act, Fault, Scene, Stage, is_nar, is_narinfo, rewrite};
use crate::byte_server::{End, Framing, Reply, Request};
use crate::internet::changed;

/// Small enough to be verified before the first byte goes out, and too large for that.
const SIZES: [&str; 2] = ["sliver-0", "text-24m"];

/// How much later the second cache says that it has a path too: nobody waits so long when the first has said yes.
const LATER: Duration = Duration::from_millis(400);

/// What real Nix decodes, by what `Compression` says.
const COMPRESSIONS: [&str; 9] = ["none", "xz", "zstd", "gzip", "bzip2", "br", "lz4", "lzip", "lzma"];

pub(super) fn acts() -> Vec<Act> {
    let mut acts = Vec::new();
    for (name, broken) in broken() {
        for (same, compression) in [("same-compression", "zstd"), ("another-compression", "gzip")] {
            acts.push(Act::new(format!("A.1-nar-{name}-{same}"), move |stage| {
                second_source(stage, broken, compression)
            }));
        }
    }
    for compression in ["none", "zstd"] {
        for (name, framing) in [("chunked", Framing::Chunked), ("until-close", Framing::UntilClose)] {
            acts.push(Act::new(format!("A.2-nar-{name}-{compression}"), move |stage| {
                only_source(
                    stage,
                    compression,
                    move |request, honest| {
                        if is_nar(request) { Reply { framing, ..honest } } else { honest }
                    },
                )
            }));
        }
        for (name, file_size) in [("too-small", "1"), ("too-large", "99999999"), ("nought", "0")] {
            acts.push(Act::new(format!("A.3-file-size-{name}-{compression}"), move |stage| {
                only_source(stage, compression, move |request, honest| {
                    if is_narinfo(request) { rewrite(honest, "FileSize:", |_| file_size.into()) } else { honest }
                })
            }));
        }
    }
    acts.push(Act::new("A.4-redirect-to-another-port-of-localhost", |stage| redirected(stage, true)));
    acts.push(Act::new("A.4-redirect-inside-the-network", |stage| redirected(stage, false)));
    acts.push(Act::new("A.5-nar-url-on-another-host", elsewhere));
    acts.push(Act::new("A.6-nar-gzip-encoded", |stage| {
        only_source(stage, "none", |request, honest| if is_nar(request) { gzip_encoded(&honest) } else { honest })
    }));
    acts.push(Act::new("A.6-narinfo-gzip-encoded", |stage| {
        only_source(stage, "none", |request, honest| if is_narinfo(request) { gzip_encoded(&honest) } else { honest })
    }));
    acts.push(Act::new("A.6-nar-identity-encoded", |stage| {
        only_source(
            stage,
            "none",
            |request, honest| {
                if is_nar(request) { honest.header("Content-Encoding", "identity") } else { honest }
            },
        )
    }));
    acts.extend(COMPRESSIONS.map(|compression| {
        Act::new(format!("A.7-compression-{compression}"), move |stage| {
            // Not the largest: the slowest compressors would take half a minute.
            let paths = stage.pieces(&["sliver-0", "piece-2m"])?;
            Ok(Scene::new(&paths, vec![stage.good_cache(compression, &paths)?]))
        })
    }));
    acts
}

/// How a NAR that a narinfo promised does not come.
fn broken() -> Vec<(&'static str, Fault)> {
    vec![
        ("404", || Reply::new(404, "not here")),
        ("403", || Reply::new(403, "not for you")),
        ("410", || Reply::new(410, "gone")),
        ("500", || Reply::new(500, "the lab says no")),
        ("stall", || Reply { end: End::Stall, ..Reply::new(0, "") }),
        ("reset", || Reply { end: End::Reset, ..Reply::new(0, "") }),
    ]
}

/// The first cache has the narinfo only; the second has both, says so a little later, and has another file of it, perhaps.
fn second_source(stage: &mut Stage<'_>, broken: Fault, compression: &str) -> Result<Scene> {
    let paths = stage.pieces(&["sliver-0", "sliver-1", "text-24m"])?;
    let first = stage.cache(
        "zstd",
        &paths,
        Arc::new(move |request, honest| if is_nar(request) { broken() } else { honest }),
    )?;
    let second = stage.cache(
        compression,
        &paths,
        Arc::new(|request, honest| if is_narinfo(request) { Reply { delay: LATER, ..honest } } else { honest }),
    )?;
    // A source that stalls is given the time that a slow disk may take, once.
    let limit = Duration::from_secs(30);
    Ok(Scene { limit, ..Scene::new(&paths, vec![first, second]) })
}

/// One cache, whose answers are unusual, and which Nix without a gateway takes as they are.
fn only_source(
    stage: &mut Stage<'_>,
    compression: &str,
    change: impl Fn(&Request, Reply) -> Reply + Send + Sync + 'static,
) -> Result<Scene> {
    let paths = stage.pieces(&SIZES)?;
    Ok(Scene::new(&paths, vec![stage.cache(compression, &paths, Arc::new(change))?]))
}

/// The NARs are in a store of objects beside the cache, to which it redirects.
fn redirected(stage: &mut Stage<'_>, local: bool) -> Result<Scene> {
    let paths = stage.pieces(&SIZES)?;
    let dir = stage.files("none", &paths)?;
    let objects = changed(&dir, Arc::new(|_, honest| honest));
    let (objects, _) = if local { stage.serve_locally(objects)? } else { stage.serve_beside(objects)? };
    let cache = changed(
        &dir,
        Arc::new(move |request, honest| match is_nar(request) {
            true => Reply::new(302, "").header("Location", format!("{objects}{}", request.target)),
            false => honest,
        }),
    );
    let (cache, _) = if local { stage.serve_locally(cache)? } else { stage.serve(cache)? };
    // By another name for the same place, as people write it.
    Ok(Scene::new(&paths, vec![cache.replace("127.0.0.1", "localhost")]))
}

/// The narinfo names another host for its NAR. Whether the gateway may follow there is the rule of redirections; if not, it
/// must say so at the narinfo, so that Nix asks its next substituter.
fn elsewhere(stage: &mut Stage<'_>) -> Result<Scene> {
    let paths = stage.pieces(&SIZES)?;
    let dir = stage.files("none", &paths)?;
    // On the machine of Nix itself, where nobody who is not on it may send a gateway.
    let (objects, _) = stage.serve_locally(changed(&dir, Arc::new(|_, honest| honest)))?;
    let (cache, _) =
        stage.serve(changed(
            &dir,
            Arc::new(move |request, honest| {
                if is_narinfo(request) { rewrite(honest, "URL:", |url| format!("{objects}/{url}")) } else { honest }
            }),
        ))?;
    Ok(Scene { beside: vec![stage.good_cache("none", &paths)?], ..Scene::new(&paths, vec![cache]) })
}

fn gzip_encoded(reply: &Reply) -> Reply {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Writing into memory does not fail.
    let _ = encoder.write_all(&reply.body);
    Reply::new(reply.status, encoder.finish().unwrap_or_default()).header("Content-Encoding", "gzip")
}
