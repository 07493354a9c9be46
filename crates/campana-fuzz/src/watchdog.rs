//! Ends the process when an execution does not.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The execution that goes on.
#[derive(Debug)]
struct Current {
    target: &'static str,
    input: Vec<u8>,
    since: Instant,
}

/// A thread that looks after executions: one that goes on for too long is
/// reported, its input kept, and the process ended, since a thread cannot be.
#[derive(Clone, Debug, Default)]
pub struct Watchdog {
    current: Arc<Mutex<Option<Current>>>,
}

impl Watchdog {
    /// Starts the thread; `hung` is called with the target's name and the input
    /// of an execution that takes longer than `limit`, and then the process
    /// ends with status 3.
    pub fn start(limit: Duration, hung: impl Fn(&str, &[u8]) + Send + 'static) -> Self {
        let watchdog = Self::default();
        let seen = watchdog.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(200));
                if let Some(current) = &*seen.lock()
                    && current.since.elapsed() > limit
                {
                    hung(current.target, &current.input);
                    std::process::exit(3);
                }
            }
        });
        watchdog
    }

    pub(crate) fn begin(&self, target: &'static str, input: &[u8]) {
        *self.lock() = Some(Current {
            target,
            input: input.to_vec(),
            since: Instant::now(),
        });
    }

    pub(crate) fn end(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
