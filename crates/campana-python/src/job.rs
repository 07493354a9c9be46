//! Long work beside Python: a thread works without Python's lock; the calling
//! thread wakes now and then for signals and progress.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use campana_pipeline::{MAX_THREADS, Monitor, check_threads};
use campana_quantize::Progress;
use pyo3::prelude::*;

use crate::error::{InternalError, argument};

/// How often Python hears of a job: short for a person who presses Ctrl-C,
/// long for the job.
const INTERVAL: Duration = Duration::from_millis(40);

/// How far a job is, and whether it should stop.
#[derive(Debug, Default)]
pub(crate) struct Events {
    cancelled: AtomicBool,
    total: AtomicU64,
    done: AtomicU64,
    messages: Mutex<Vec<String>>,
}

impl Events {
    /// Sets how much of how much is done.
    pub(crate) fn set(&self, done: u64, total: u64) {
        self.total.store(total, Ordering::Relaxed);
        self.done.store(done, Ordering::Relaxed);
    }

    /// Keeps a warning for the end of the job.
    pub(crate) fn say(&self, message: String) {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        messages.push(message);
    }

    fn state(&self) -> (u64, u64) {
        let total = self.total.load(Ordering::Relaxed);
        (self.done.load(Ordering::Relaxed).min(total), total)
    }

    /// Waits until the job ends. Tells Python how far it is, and tells the job
    /// to stop where a signal or the callback raises; the first error of
    /// these.
    fn wait(
        &self,
        py: Python<'_>,
        end: &Mutex<Receiver<()>>,
        progress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let mut heard = Ok(());
        let mut told = (0, 0);
        loop {
            let waited = py.detach(|| {
                let end = end.lock().unwrap_or_else(PoisonError::into_inner);
                end.recv_timeout(INTERVAL)
            });
            if heard.is_ok() {
                heard = self.tell(py, progress, &mut told);
                self.cancelled.store(heard.is_err(), Ordering::Relaxed);
            }
            if waited != Err(RecvTimeoutError::Timeout) {
                return heard;
            }
        }
    }

    fn tell(
        &self,
        py: Python<'_>,
        progress: Option<&Bound<'_, PyAny>>,
        told: &mut (u64, u64),
    ) -> PyResult<()> {
        py.check_signals()?;
        let state = self.state();
        if let Some(progress) = progress
            && state != *told
        {
            *told = state;
            progress.call1(state)?;
        }
        Ok(())
    }

    fn warn(&self, py: Python<'_>) -> PyResult<()> {
        let mut messages = self.messages.lock().unwrap_or_else(PoisonError::into_inner);
        let messages: Vec<String> = messages.drain(..).collect();
        if !messages.is_empty() {
            let warn = py.import("warnings")?.getattr("warn")?;
            for message in messages {
                warn.call1((message,))?;
            }
        }
        Ok(())
    }
}

impl Progress for Events {
    fn start(&self, weights: u64) {
        self.set(0, weights);
    }

    fn tensor_done(&self, _name: &str, weights: u64) {
        self.done.fetch_add(weights, Ordering::Relaxed);
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

impl Monitor for Events {
    fn image_skipped(&self, name: &str, reason: &str) {
        self.say(format!("skipped {name}: {reason}"));
    }
}

/// Runs `work` on `threads` threads (`None`: all cores). `progress` is called
/// with what is done and the total; an exception there, or Ctrl-C, stops it.
///
/// Each job has threads of its own rather than a pool for the process, which a
/// forked child would wait for without end.
pub(crate) fn run<T: Send>(
    py: Python<'_>,
    threads: Option<i64>,
    progress: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Events, usize) -> T + Send,
) -> PyResult<T> {
    let threads = match threads {
        None => std::thread::available_parallelism()
            .map_or(1, NonZeroUsize::get)
            .min(MAX_THREADS),
        Some(threads) => check_threads(threads).map_err(argument)?.get(),
    };
    let events = Events::default();
    let (sender, receiver) = channel();
    let receiver = Mutex::new(receiver);
    let (heard, made) = std::thread::scope(|scope| {
        let events = &events;
        let worker = scope.spawn(move || {
            // Dropped at the end, also after a panic: the other side waits for it.
            let _sender = sender;
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
            pool.map(|pool| pool.install(|| work(events, threads)))
        });
        let heard = events.wait(py, &receiver, progress);
        (heard, py.detach(|| worker.join()))
    });
    heard?;
    events.warn(py)?;
    match made {
        Ok(Ok(made)) => Ok(made),
        Ok(Err(error)) => Err(InternalError::new_err(error.to_string())),
        Err(_) => Err(InternalError::new_err(
            "campana failed, which is an error of its own; please report it",
        )),
    }
}
