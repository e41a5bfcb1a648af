//! nix-format [--check] FILE...: formats .nix files with alejandra; with `--check` it only says which ones are not.
//!
//! Exit status: 0 all are formatted (now); 1 some are not, or cannot be; 64 wrong usage.

use alejandra::format::{Status, in_memory};
use std::fs;
use std::process::ExitCode;

fn main() -> ExitCode {
    let (flags, files): (Vec<String>, Vec<String>) = std::env::args().skip(1).partition(|word| word.starts_with('-'));
    let check = flags == ["--check"];
    if files.is_empty() || !(check || flags.is_empty()) {
        eprintln!("usage: nix-format [--check] FILE...");
        return ExitCode::from(64);
    }
    let complaints: Vec<String> = files.iter().filter_map(|file| format(file, check).err()).collect();
    for complaint in &complaints {
        eprintln!("nix-format: {complaint}");
    }
    if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Formats one file; the error is for people.
fn format(file: &str, check: bool) -> Result<(), String> {
    let text = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    match in_memory(file.to_owned(), text) {
        (Status::Changed(false), _) => Ok(()),
        (Status::Changed(true), _) if check => Err(format!("{file} is not formatted: make format")),
        (Status::Changed(true), formatted) => fs::write(file, formatted).map_err(|error| format!("{file}: {error}")),
        (Status::Error(error), _) => Err(format!("{file}: {error}")),
    }
}
