//! The narinfos: "I do not know yet" is not "nobody has it".

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use parking_lot::Mutex;

use super::stage::{Act, Fault, Scene, Stage, is_narinfo};
use crate::byte_server::{End, Reply, Request};
use crate::internet::Change;
use crate::needs::Need;

/// More than peers are waited for.
const SLOW: Duration = Duration::from_millis(350);

/// As far as another continent is.
const ROUND_TRIP: Duration = Duration::from_millis(100);

/// How many narinfos Nix asks for at once.
const AT_ONCE: usize = 25;

const FIVE: [&str; 5] = ["sliver-0", "sliver-1", "sliver-2", "sliver-3", "sliver-4"];

pub(super) fn acts() -> Vec<Act> {
    let mut acts = vec![
        Act::new("B.1-upstream-at-350-ms", |stage| {
            five(
                stage,
                Arc::new(|request, honest| if is_narinfo(request) { Reply { delay: SLOW, ..honest } } else { honest }),
            )
        }),
        Act::new("B.1-https-at-100-ms-first-lookup", |stage| distant(stage, 1)),
        Act::new("B.1-https-at-100-ms-25-at-once", |stage| distant(stage, AT_ONCE)),
        Act::new("B.1-black-hole-beside-a-good-one", black_hole).needing(Need::Nft),
    ];
    let faults: [(&str, Fault); 4] = [
        ("503", || Reply::new(503, "come again")),
        ("500", || Reply::new(500, "come again")),
        ("429", || Reply::new(429, "not so fast")),
        ("reset", || Reply { end: End::Reset, ..Reply::new(0, "") }),
    ];
    acts.extend(
        faults.map(|(name, fault)| Act::new(format!("B.1-narinfo-{name}-once"), move |stage| five(stage, once(fault)))),
    );
    acts
}

fn five(stage: &mut Stage<'_>, change: Change) -> Result<Scene> {
    let paths = stage.pieces(&FIVE)?;
    Ok(Scene::new(&paths, vec![stage.cache("none", &paths, change)?]))
}

/// Each narinfo fails when it is asked for first, and is there from then on.
fn once(fault: Fault) -> Change {
    let failed: Mutex<BTreeSet<String>> = Mutex::default();
    Arc::new(
        move |request: &Request, honest: Reply| {
            if is_narinfo(request) && failed.lock().insert(request.target.clone()) { fault() } else { honest }
        },
    )
}

fn distant(stage: &mut Stage<'_>, count: usize) -> Result<Scene> {
    let paths = stage.many(count)?;
    Ok(Scene::new(&paths, vec![stage.distant_cache(&paths, ROUND_TRIP)?]))
}

/// Nothing that is sent to the first upstream ever arrives. The second has everything.
fn black_hole(stage: &mut Stage<'_>) -> Result<Scene> {
    let paths = stage.pieces(&FIVE)?;
    let hole = stage.network.host("hole")?;
    hole.lose(100)?;
    let url = format!("http://{}:8080", hole.address());
    let good = stage.good_cache("none", &paths)?;
    stage.keep(hole);
    Ok(Scene { limit: Duration::from_secs(10), ..Scene::new(&paths, vec![url, good]) })
}
