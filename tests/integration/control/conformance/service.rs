//! The service as a whole: how it is, what it counts and logs, drain, reload, events.

use super::{Listener, Round, until, within};
use peernix::control::{ErrorKind, EventFilter, EventItem, EventKind, LogLevel, ServiceState};
use std::time::Duration;

pub(super) async fn checks(round: &mut Round<'_>) {
    status(round).await;
    log_level(round).await;
    statistics(round).await;
    drain(round).await;
    reload(round).await;
}

async fn status(round: &mut Round<'_>) {
    let status = round.control.status().await.unwrap();
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
    assert_eq!((status.state, &status.problems), (ServiceState::Running, &Vec::new()));
    assert_eq!(status.node_id.len(), 52);
    assert!(!status.host_name.is_empty() && !status.features.is_empty() && !status.sandbox.is_empty());
    assert_eq!((status.store_dir.as_str(), status.share_policy.as_str()), ("/nix/store", "signed+own"));
    assert!(status.start_timestamp > 1_700_000_000_000_000);
    let here = &round.world.here;
    assert_eq!(status.listen.gateway, Some(format!("http://{}", here.address("gateway"))));
    assert_eq!((status.listen.share, status.listen.plain), (Some(here.address("share")), None));
    assert_eq!(status.configuration, Some(here.config_file().display().to_string()));
    assert_eq!(status.jobs_running, 0);
}

async fn log_level(round: &mut Round<'_>) {
    let control = round.control;
    assert_eq!(control.log_level().await.unwrap(), LogLevel::Info);
    for level in LogLevel::ALL.iter().copied().chain([LogLevel::Info]) {
        control.set_log_level(level).await.unwrap();
        assert_eq!(control.log_level().await.unwrap(), level);
        assert_eq!(control.status().await.unwrap().log_level, level);
    }
}

async fn statistics(round: &mut Round<'_>) {
    let mut listener = round.listen().await;
    let before = round.control.statistics().await.unwrap();
    let names: Vec<&str> = before.faces.iter().map(|face| face.name.as_str()).collect();
    assert_eq!(names, ["gateway", "share"]);
    round.control.reset_statistics().await.unwrap();
    let event = listener.hears(EventKind::StatisticsReset, |_| true).await;
    let after = round.control.statistics().await.unwrap();
    assert!(after.since_timestamp > before.since_timestamp && after.since_timestamp <= event.timestamp);
    assert_eq!((after.transfers.started, after.bytes_from_peers, after.lookups), (0, 0, Default::default()));
    assert_eq!((after.hit_rate, after.sources), (None, Vec::new()));
}

async fn drain(round: &mut Round<'_>) {
    let control = round.control;
    assert!(control.set_offline(true).await.unwrap() && !control.set_offline(true).await.unwrap());
    assert!(control.status().await.unwrap().offline);
    assert!(control.set_offline(false).await.unwrap() && !control.status().await.unwrap().offline);
    let mut listener = round.listen().await;
    assert!(control.drain(None).await.unwrap() && !control.drain(None).await.unwrap());
    assert_eq!(control.status().await.unwrap().state, ServiceState::Draining);
    let path = format!("/nix/store/{}-x", "1".repeat(32));
    round.refuses(ErrorKind::Draining, control.prefetch(vec![path]).await);
    assert!(control.undrain().await.unwrap() && !control.undrain().await.unwrap());
    assert_eq!(control.status().await.unwrap().state, ServiceState::Running);
    assert!(control.drain(Some(Duration::from_millis(30))).await.unwrap());
    let mut told = Vec::new();
    for to in ["draining", "running", "draining", "running"] {
        told.push(listener.hears(EventKind::DrainChanged, |event| event.to.as_deref() == Some(to)).await);
    }
    assert!(told[3].timestamp - told[2].timestamp >= 30_000, "it ended too early");
    assert_eq!(control.status().await.unwrap().state, ServiceState::Running);

    // A reader that comes back is told what it missed, and nothing else.
    let filter = EventFilter { kinds: vec![EventKind::DrainChanged], after: Some(told[0].cursor) };
    let mut again = Listener::open(control, filter).await;
    assert!(again.begin >= told[3].cursor && listener.begin < told[0].cursor);
    for event in &told[1..] {
        assert_eq!(
            within("what was missed", again.events.next()).await.unwrap().unwrap(),
            EventItem::Event(event.clone())
        );
    }
}

async fn reload(round: &mut Round<'_>) {
    let (control, here) = (round.control, &round.world.here);
    let mut listener = round.listen().await;
    let good = control.reload().await.unwrap();
    assert!(good.success && good.error.is_none() && good.restart_needed.is_empty());
    listener.hears(EventKind::Reloaded, |_| true).await;
    assert_eq!(control.status().await.unwrap().last_reload, Some(good));

    here.configure("nonsense = true\n");
    let error = round.refuses_this(ErrorKind::ConfigInvalid, control.reload().await);
    assert!(error.message.contains("nonsense") && error.message.contains("config.toml"), "{error}");
    round.refused.push(error.clone());
    let event = listener.hears(EventKind::ReloadFailed, |_| true).await;
    assert_eq!(event.message.as_deref(), Some(error.message.as_str()));
    let status = control.status().await.unwrap();
    assert_eq!(status.state, ServiceState::Degraded);
    assert!(status.problems.iter().any(|problem| problem.contains("nonsense")), "{:?}", status.problems);
    assert!(status.last_reload.is_some_and(|reload| !reload.success && reload.error == Some(error.message)));

    here.configure("share.max_connections = 7\nlog.level = \"debug\"\n");
    let waiting = control.reload().await.unwrap();
    assert_eq!((waiting.success, waiting.restart_needed), (true, vec!["share".to_owned()]));
    assert_eq!(control.log_level().await.unwrap(), LogLevel::Debug);
    here.configure("");
    assert!(control.reload().await.unwrap().success);
    assert_eq!(control.log_level().await.unwrap(), LogLevel::Info);
    until("all is well again", async || control.status().await.unwrap().state == ServiceState::Running).await;
}
