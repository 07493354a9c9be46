//! One execution of a target, measured.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use campana_tensor::Limits;

use crate::{ALLOCATOR, Target, Watchdog};

/// What an execution took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Execution {
    /// Bytes that were allocated at most beyond what was there before.
    pub peak_bytes: usize,
    /// How long it took.
    pub elapsed: Duration,
}

/// What is wrong with an execution.
#[derive(Clone, Debug)]
pub enum Finding {
    /// It panicked, with this message where it has one.
    Panic(String),
    /// It took more memory than a file of its length may.
    Memory {
        /// Bytes that it took.
        peak_bytes: usize,
        /// Bytes that it may take.
        allowed: usize,
    },
    /// It took longer than any file of the corpus should.
    Time(Duration),
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panic(message) => write!(f, "panic: {message}"),
            Self::Memory {
                peak_bytes,
                allowed,
            } => write!(f, "{peak_bytes} bytes of memory, {allowed} are allowed"),
            Self::Time(elapsed) => write!(f, "{:.1} s", elapsed.as_secs_f64()),
        }
    }
}

/// How often an execution that took too long is repeated: other programs may
/// have had the processor meanwhile.
const REPETITIONS: usize = 2;

/// Runs a target on one input.
///
/// Only one execution at a time may go on in a process: the memory of all
/// threads is counted.
///
/// # Errors
///
/// Where it panics, takes more memory than [`Limits::DEFAULT`] allow for the
/// input's length, or more time than the target's.
pub fn execute(target: &Target, input: &[u8], watchdog: &Watchdog) -> Result<Execution, Finding> {
    let mut last = execute_once(target, input, watchdog);
    for _ in 0..REPETITIONS {
        if !matches!(last, Err(Finding::Time(_))) {
            break;
        }
        last = execute_once(target, input, watchdog);
    }
    last
}

fn execute_once(target: &Target, input: &[u8], watchdog: &Watchdog) -> Result<Execution, Finding> {
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let start = Instant::now();
    watchdog.begin(target.name, input);
    let result = catch_unwind(AssertUnwindSafe(|| (target.run)(input)));
    watchdog.end();
    let execution = Execution {
        peak_bytes: ALLOCATOR.peak_usage().saturating_sub(before),
        elapsed: start.elapsed(),
    };
    if let Err(payload) = result {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("without a message");
        return Err(Finding::Panic(message.to_owned()));
    }
    let allowed = Limits::DEFAULT.memory_for(target.file_len(input) as u64);
    if execution.peak_bytes > allowed {
        return Err(Finding::Memory {
            peak_bytes: execution.peak_bytes,
            allowed,
        });
    }
    if execution.elapsed > target.max_time {
        return Err(Finding::Time(execution.elapsed));
    }
    Ok(execution)
}
