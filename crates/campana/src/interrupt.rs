//! Ctrl-C: a flag that the long loops look at, so that nothing half-written
//! is left behind.

use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Turns Ctrl-C (and a termination request) into a flag.
pub(crate) fn install() -> anyhow::Result<()> {
    ctrlc::set_handler(|| REQUESTED.store(true, Ordering::Relaxed))?;
    Ok(())
}

/// Whether the user wants to stop.
pub(crate) fn is_requested() -> bool {
    REQUESTED.load(Ordering::Relaxed)
}

/// An error where the user wants to stop.
pub(crate) fn check() -> anyhow::Result<()> {
    anyhow::ensure!(!is_requested(), "interrupted; nothing was written");
    Ok(())
}
