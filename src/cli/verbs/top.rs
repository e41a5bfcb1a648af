//! `peernixctl top`: what moves, as it moves.

mod model;
mod seen;
mod view;

use crate::cli::error::{Done, VerbError};
use crate::cli::output::Screen;
use crate::control::Control;
use model::Model;
use ratatui::crossterm::event::{Event, KeyCode, KeyEventKind, KeyModifiers, read};
use seen::Seen;
use std::io::IsTerminal as _;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

/// The arguments of `top`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often it looks
    #[arg(long, short = 'd', value_name = "SPAN", default_value = "2s", value_parser = super::values::span)]
    interval: Duration,
    /// End after so many looks
    #[arg(long, short = 'n', value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// The shortest time between two looks: each is five questions to the service.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

pub(crate) async fn run(args: &Args, control: &dyn Control, screen: &Screen) -> Done<()> {
    if args.interval < INTERVAL_MIN {
        return Err(VerbError::Usage("the interval is 100ms at least".to_owned()));
    }
    if screen.is_json() {
        return stream(args, control, screen).await;
    }
    if !std::io::stdout().is_terminal() {
        return Err(VerbError::Usage("top needs a terminal; with --json it prints a line for each look".to_owned()));
    }
    let failed = |error| VerbError::other("draw on the terminal", error);
    let mut terminal = ratatui::try_init().map_err(failed)?;
    let done = shown(args, control, screen, &mut terminal).await;
    let restored = ratatui::try_restore().map_err(failed);
    done.and(restored)
}

/// A line for each look.
async fn stream(args: &Args, control: &dyn Control, screen: &Screen) -> Done<()> {
    let (mut model, mut looks) = (Model::default(), 0);
    let mut clock = interval(args.interval); // pace
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while args.count.is_none_or(|count| looks < count) {
        clock.tick().await;
        model.take(Seen::look(control).await?);
        screen.item(&model.told(), String::new)?;
        looks += 1;
    }
    Ok(())
}

async fn shown(
    args: &Args,
    control: &dyn Control,
    screen: &Screen,
    terminal: &mut ratatui::DefaultTerminal,
) -> Done<()> {
    let failed = |error| VerbError::other("draw on the terminal", error);
    // Ends with the program: nobody can be told to stop reading a terminal.
    let (send, mut keys) = mpsc::channel(16);
    std::thread::spawn(move || {
        while let Ok(event) = read() {
            if send.blocking_send(event).is_err() {
                return;
            }
        }
    });
    let (mut model, mut looks) = (Model::default(), 0);
    let mut clock = interval(args.interval); // pace
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = clock.tick() => {
                if args.count.is_some_and(|count| looks >= count) {
                    return Ok(());
                }
                looks += 1;
                model.take(Seen::look(control).await?);
            }
            event = keys.recv() => match event {
                Some(Event::Key(key)) if key.kind != KeyEventKind::Release => match key.code {
                    KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
                    KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
                    KeyCode::Down | KeyCode::Char('j') => model.scroll(1),
                    KeyCode::Up | KeyCode::Char('k') => model.scroll(-1),
                    KeyCode::PageDown => model.scroll(10),
                    KeyCode::PageUp => model.scroll(-10),
                    KeyCode::Home => model.scroll(isize::MIN),
                    _ => {}
                },
                // The terminal has another size, say.
                Some(_) => {}
                None => return Ok(()),
            }
        }
        terminal.draw(|frame| view::draw(frame, &model, screen)).map_err(failed)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::JsonForm;
    use crate::cli::tests::{kept, unkept};
    use crate::control::stub::Stub;

    #[tokio::test]
    async fn programs_have_a_line_for_each_look() {
        let (screen, out) = kept(JsonForm::Short);
        let args = Args { interval: INTERVAL_MIN, count: Some(2) };
        run(&args, &Stub::default(), &screen).await.unwrap();
        let lines: Vec<serde_json::Value> =
            unkept(&out).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), &lines[1]["rates"]["fromPeers"]), (2, &serde_json::json!(0)));
        assert_eq!(lines[0]["transfers"][0]["id"], 41);
        let hasty = Args { interval: Duration::from_millis(1), count: None };
        assert!(matches!(run(&hasty, &Stub::default(), &screen).await, Err(VerbError::Usage(_))));
    }
}
