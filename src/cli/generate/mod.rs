//! What is made from the command lines: completions for shells, and man pages.

mod completion;
mod man;

pub(super) use man::pages;

use super::error::{Done, VerbError};
use super::output::Screen;
use super::verbs::completion::Shell;
use std::path::Path;

/// Prints the completions for a shell.
pub(super) fn completion(shell: Shell, screen: &Screen) -> Done<()> {
    screen.write(&completion::script(shell))
}

/// Writes completions and man pages below a directory that becomes like `PREFIX/share`.
pub(super) fn everything(directory: &Path) -> Done<()> {
    for shell in Shell::ALL {
        write(&directory.join(completion::file(shell)), &completion::script(shell))?;
    }
    for (name, text) in pages() {
        let section = name.rsplit('.').next().unwrap_or_default();
        write(&directory.join(format!("man/man{section}")).join(&name), &text)?;
    }
    Ok(())
}

fn write(file: &Path, text: &str) -> Done<()> {
    let made = file.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(file, text));
    made.map_err(|error| VerbError::other(format!("write {}", file.display()), error))
}
