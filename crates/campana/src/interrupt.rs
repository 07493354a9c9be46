//! Ctrl-C and requests to terminate. Long loops look at a flag, and end their
//! command in good order. What does not look at it soon is ended all the same:
//! unfinished files are removed, and then the process ends. A second signal
//! ends it at once.

use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use campana_kernels::on_exhausted;
use campana_pipeline::{discard_unfinished, try_discard_unfinished};

use crate::printer;

/// How long a command may take to end by itself.
const GRACE: Duration = Duration::from_millis(80);

/// The exit status of an error.
const FAILURE: i32 = 2;

static SIGNALS: AtomicU32 = AtomicU32::new(0);

/// Whether the outcome is being told already.
static IS_ENDING: AtomicBool = AtomicBool::new(false);

/// What else is said of an interruption, and folders to be removed.
static AT_END: Mutex<AtEnd> = Mutex::new(AtEnd {
    advice: None,
    folders: Vec::new(),
});

struct AtEnd {
    advice: Option<String>,
    folders: Vec<PathBuf>,
}

fn at_end() -> std::sync::MutexGuard<'static, AtEnd> {
    AT_END.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Turns Ctrl-C and a request to terminate into a flag and, where that does
/// not help, into the end of the process; a file that may not grow is an error of
/// writing, and memory that there is not an error that is told.
pub(crate) fn install() -> anyhow::Result<()> {
    on_exhausted(end_without_memory);
    // Caught, so that it does not end the process: writing fails then.
    #[cfg(unix)]
    signal_hook::flag::register(signal_hook::consts::SIGXFSZ, std::sync::Arc::default())?;
    ctrlc::set_handler(|| {
        if SIGNALS.fetch_add(1, Ordering::Relaxed) > 0 {
            end(false);
        }
        thread::spawn(|| {
            thread::sleep(GRACE);
            end(true);
        });
    })?;
    Ok(())
}

/// Whether the user wants to stop.
pub(crate) fn is_requested() -> bool {
    SIGNALS.load(Ordering::Relaxed) > 0
}

/// An error where the user wants to stop.
pub(crate) fn check() -> anyhow::Result<()> {
    anyhow::ensure!(!is_requested(), "interrupted; nothing was written");
    Ok(())
}

/// What an interrupted user is told to do.
pub(crate) fn advise_journal(journal: &Path) -> String {
    let advice = format!(
        "interrupted; the same command goes on where it stopped, from the journal '{}'",
        journal.display()
    );
    at_end().advice = Some(advice.clone());
    advice
}

/// Has a folder removed where the process ends in the midst of its work.
pub(crate) fn remove_at_end(folder: &Path) {
    at_end().folders.push(folder.to_owned());
}

/// Before the outcome is told: it is told once.
pub(crate) fn begin_to_end() {
    while IS_ENDING.swap(true, Ordering::Relaxed) {
        // The process ends any moment.
        thread::sleep(GRACE);
    }
}

/// Ends the process where an allocation has failed. Nothing here waits for what a
/// thread may hold.
fn end_without_memory(bytes: usize) {
    try_discard_unfinished();
    eprintln!("error: there is not enough memory: {bytes} bytes more were needed");
    process::exit(FAILURE)
}

/// Ends the process, with nothing left that is not finished.
fn end(waits: bool) -> ! {
    let has_written = discard_unfinished(waits);
    let at_end = at_end();
    let AtEnd { advice, folders } = &*at_end;
    for folder in folders {
        let _ = std::fs::remove_dir_all(folder);
    }
    if !IS_ENDING.swap(true, Ordering::Relaxed) {
        let what = match (advice, has_written) {
            (Some(advice), _) => advice.as_str(),
            (None, true) => "interrupted; files that were complete are kept",
            (None, false) => "interrupted; nothing was written",
        };
        printer::print_error(&anyhow::anyhow!(what.to_owned()));
    }
    process::exit(FAILURE)
}
