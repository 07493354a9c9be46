//! What starts this command as another process: the program that runs or, as in
//! Python, an interpreter and its arguments.

use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::Context as _;

static PROGRAM: OnceLock<Vec<PathBuf>> = OnceLock::new();

/// Says what starts the command; nothing where that is the program that runs.
pub(crate) fn set(program: Vec<PathBuf>) {
    // The command runs once in a process.
    let _ = PROGRAM.set(program);
}

/// A program and its first arguments.
pub(crate) fn again() -> anyhow::Result<Vec<PathBuf>> {
    match PROGRAM.get() {
        Some(program) if !program.is_empty() => Ok(program.clone()),
        _ => {
            let own = std::env::current_exe().context("cannot find this program again")?;
            Ok(vec![own])
        }
    }
}
