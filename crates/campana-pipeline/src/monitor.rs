//! Who hears of a job and may stop it, and what it writes through.

use campana_quantize::{Progress, Silent};

use crate::{Error, FileSystem, SystemFiles};

/// What a caller may want to hear and say while a job runs.
pub trait Monitor: Progress {
    /// A picture could not be read and is left out.
    fn image_skipped(&self, name: &str, reason: &str) {
        let _ = (name, reason);
    }

    /// What outputs are written through: the operating system, but in tests of
    /// what becomes of outputs when it fails.
    fn file_system(&self) -> &dyn FileSystem {
        &SystemFiles
    }
}

impl Monitor for Silent {}

/// An error where the caller wants to stop.
pub(crate) fn check(monitor: &dyn Monitor) -> Result<(), Error> {
    if monitor.is_cancelled() {
        return Err(Error::interrupted());
    }
    Ok(())
}
