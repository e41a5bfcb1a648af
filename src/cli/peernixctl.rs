//! What `peernixctl` does: reads its command line, reaches the service, runs the verb.

use super::args::{Args, JsonArgument};
use super::connect::{self, Route, Start, Transport};
use super::error::{Doing as _, Done, VerbError};
use super::output::{JsonForm, Screen};
use super::verbs::{self, Verb};
use super::{agent, completion, exit};
use std::io::IsTerminal as _;
use std::process::ExitCode;

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let args = match exit::arguments(exit::CTL_USAGE) {
        Ok(args) => args,
        Err(code) => return code,
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell().into(),
    }
}

fn run(args: Args) -> Done<()> {
    let Args { global, verb } = args;
    let auto = || if std::io::stdout().is_terminal() { JsonForm::Pretty } else { JsonForm::Short };
    let json = match (global.json, global.j) {
        (Some(JsonArgument::Auto), _) | (None, true) => auto(),
        (Some(JsonArgument::Short), _) => JsonForm::Short,
        (Some(JsonArgument::Pretty), _) => JsonForm::Pretty,
        (Some(JsonArgument::Off) | None, _) => JsonForm::Off,
    };
    let mut screen = Screen::of_process(json, !global.no_pager);
    screen.legend = !global.no_legend;
    screen.quiet = global.quiet;
    screen.full = global.full;
    let verb = verb.unwrap_or_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| VerbError::other("start", error))?;
    let may_ask = !global.no_ask_password && !matches!(verb, Verb::Complete { .. });
    let route = Route { transport: global.transport, host: global.host, may_ask };
    let ask = may_ask && route.host.is_none() && route.transport != Transport::Varlink;
    let done = runtime.block_on(dispatch(verb, &route, ask, &screen));
    // What reads stdin for the bridge may wait for ever.
    runtime.shutdown_background();
    done
}

/// The verbs that need no service are done here; all others get it as [`crate::control::Control`].
async fn dispatch(verb: Verb, route: &Route, ask: bool, screen: &Screen) -> Done<()> {
    match verb {
        Verb::Status => verbs::status::run(route.connect(Start::Never).await, route, screen).await,
        Verb::Doctor => verbs::doctor::run(route.connect(Start::Never).await, route, screen).await,
        Verb::Explain(args) if args.finding().is_some() => {
            args.finding().map_or(Ok(()), |finding| verbs::explain::word(finding, screen))
        }
        Verb::Forget(_) | Verb::Tune(_) | Verb::Link(_) | Verb::Backup(_) | Verb::Restore(_)
            if route.host.is_some() =>
        {
            let verbs = "forget, link, tune, backup and restore";
            Err(VerbError::Usage(format!("--host does not go with {verbs}: run them on that machine")))
        }
        Verb::Tune(args) => verbs::tune::run(&args, screen),
        Verb::Backup(args) => verbs::backup::backup(&args, screen),
        Verb::Restore(args) => verbs::backup::restore(&args, route.connect(Start::Never).await.is_ok(), screen),
        Verb::Link(args) if !args.needs_service() => verbs::link::plan(&args, screen),
        Verb::Forget(args) => verbs::forget::run(&args, screen),
        Verb::Version => verbs::status::version(route.connect(Start::Never).await.ok(), screen).await,
        Verb::Completion { shell } => screen.write(&completion::script(shell)),
        Verb::Bridge { never_start } => {
            let start = if never_start { Start::Never } else { Start::Allowed };
            connect::bridge(start).await.doing("reach the service")
        }
        Verb::Complete { what } => {
            // Nobody who presses Tab wants to read of errors.
            if let Ok(control) = route.connect(Start::Never).await {
                verbs::completion::candidates(&*control, what, route.host.is_some(), screen).await;
            }
            Ok(())
        }
        verb => {
            let start = if verb.may_start() { Start::Allowed } else { Start::Never };
            let control = route.connect(start).await.doing("reach the service")?;
            let _agent = if ask && verb.changes() { agent::start().await } else { None };
            verbs::run(verb, &*control, route.host.is_none(), screen).await
        }
    }
}
