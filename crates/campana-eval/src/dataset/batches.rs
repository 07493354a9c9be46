//! Decoding in threads ahead of the inference.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::Dataset;
use crate::error::Error;
use crate::preprocess::Preprocessing;

/// Which pictures a limit leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Selection {
    /// The first ones, as one would take them by hand.
    #[default]
    First,
    /// Evenly spaced ones, so that a dataset in the order of its classes keeps them all.
    Spread,
}

/// How a dataset is cut into batches.
#[derive(Debug, Clone)]
pub struct BatchOptions {
    /// Pictures in a batch, at least 1; the last batch may have fewer. Default 16.
    pub batch: usize,
    /// How many pictures to take at most; default all.
    pub limit: Option<usize>,
    /// Which ones to take under a limit.
    pub selection: Selection,
    /// Threads that decode, at least 1; default 1.
    pub threads: usize,
}

impl Default for BatchOptions {
    fn default() -> Self {
        Self {
            batch: 16,
            limit: None,
            selection: Selection::default(),
            threads: 1,
        }
    }
}

/// A picture that was left out.
#[derive(Debug)]
pub struct ImageFailure {
    /// Its index in the dataset.
    pub index: usize,
    /// Its name, as [`Dataset::image_name`].
    pub name: String,
    /// Why it could not be decoded.
    pub error: Error,
}

/// What is wrong with a dataset of which every picture was left out.
pub(crate) fn nothing_readable(dataset: &str, failures: &[ImageFailure]) -> Error {
    let first = failures.first().map_or_else(String::new, |failure| {
        format!("; the first, {}: {}", failure.name, failure.error)
    });
    Error::Dataset {
        dataset: dataset.to_owned(),
        problem: format!(
            "none of its images could be read ({} failed{first})",
            failures.len()
        ),
    }
}

/// Decoded pictures, in the order of the dataset.
#[derive(Debug, Default)]
pub struct Batch {
    /// The index of each picture in the dataset, ascending.
    pub indices: Vec<usize>,
    /// The class of each picture, `None` in an unlabelled dataset.
    pub labels: Vec<Option<usize>>,
    /// `[len, C, H, W]` or `[len, H, W, C]` by the layout.
    pub input: Vec<f32>,
    /// Those of this batch that could not be decoded and are not in the above.
    pub failures: Vec<ImageFailure>,
}

impl Batch {
    /// How many pictures were decoded; zero where all of the batch failed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whether no picture was decoded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.indices.is_empty()
    }
}

impl Dataset {
    /// Decodes pictures in threads ahead of their use, in the order of the dataset whatever the
    /// number of threads.
    ///
    /// At most `threads + 1` batches are held at once beside the one in use. A picture that cannot
    /// be read or decoded is left out and named in its batch; one that does not come out at the
    /// model's size ends the iteration with its error, since the settings are at fault.
    ///
    /// # Errors
    ///
    /// [`Error::Argument`] if `batch`, `threads` or `limit` is zero or the settings do not pass
    /// [`Preprocessing::check`]; [`Error::Io`] if a thread cannot be started.
    pub fn batches(
        &self,
        settings: &Preprocessing,
        options: &BatchOptions,
    ) -> Result<Batches, Error> {
        settings.check()?;
        let counts = [
            ("batch", options.batch),
            ("threads", options.threads),
            ("limit", options.limit.unwrap_or(1)),
        ];
        for (name, count) in counts {
            if count == 0 {
                return Err(Error::Argument {
                    name,
                    expected: "at least 1".to_owned(),
                    found: "0".to_owned(),
                });
            }
        }
        let total = options
            .limit
            .map_or(self.len(), |limit| limit.min(self.len()));
        let batch_count = total.div_ceil(options.batch);
        let threads = options.threads.min(batch_count);
        let shared = Arc::new(Shared {
            dataset: self.clone(),
            settings: settings.clone(),
            selection: options.selection,
            batch: options.batch,
            total,
            batch_count,
            window: threads + 1,
            progress: Mutex::default(),
            changed: Condvar::new(),
        });
        Batches::start(shared, threads)
    }
}

/// The iterator that [`Dataset::batches`] returns; dropping it stops its threads.
#[derive(Debug)]
pub struct Batches {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
}

impl Batches {
    fn start(shared: Arc<Shared>, threads: usize) -> Result<Self, Error> {
        let mut batches = Self {
            shared,
            workers: Vec::with_capacity(threads),
        };
        for _ in 0..threads {
            let shared = Arc::clone(&batches.shared);
            let worker = std::thread::Builder::new()
                .name("decode".to_owned())
                .spawn(move || shared.work())
                .map_err(|source| Error::io(batches.shared.dataset.name(), source))?;
            batches.workers.push(worker);
        }
        Ok(batches)
    }

    /// How many pictures all batches have together, those that fail included.
    #[must_use]
    pub fn image_count(&self) -> usize {
        self.shared.total
    }

    /// Waits for the threads, which have been told to stop, and passes a panic of theirs on.
    fn join(&mut self) {
        for worker in self.workers.drain(..) {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

#[derive(Debug)]
struct Shared {
    dataset: Dataset,
    settings: Preprocessing,
    selection: Selection,
    batch: usize,
    total: usize,
    batch_count: usize,
    /// How many batches may be claimed and not yet taken.
    window: usize,
    progress: Mutex<Progress>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Progress {
    claimed: usize,
    taken: usize,
    ready: BTreeMap<usize, Result<Batch, Error>>,
    stopped: bool,
}

impl Shared {
    /// No code panics while it holds the lock, so a poisoned one is sound.
    fn lock(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, Progress>) -> MutexGuard<'a, Progress> {
        self.changed
            .wait(guard)
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.changed.notify_all();
    }

    fn work(&self) {
        let _stop = StopOnPanic(self);
        while let Some(number) = self.claim() {
            let batch = self.decode(number);
            self.lock().ready.insert(number, batch);
            self.changed.notify_all();
        }
    }

    /// The number of the next batch once it may be decoded, `None` when there is nothing left.
    fn claim(&self) -> Option<usize> {
        let mut progress = self.lock();
        loop {
            if progress.stopped || progress.claimed == self.batch_count {
                return None;
            }
            if progress.claimed < progress.taken + self.window {
                progress.claimed += 1;
                return Some(progress.claimed - 1);
            }
            progress = self.wait(progress);
        }
    }

    fn decode(&self, number: usize) -> Result<Batch, Error> {
        let first = number * self.batch;
        let positions = first..(first + self.batch).min(self.total);
        let input_len = self.settings.input_len();
        let mut batch = Batch {
            input: vec![0.0; positions.len() * input_len],
            ..Batch::default()
        };
        for position in positions {
            let index = match self.selection {
                Selection::First => position,
                Selection::Spread => position * self.dataset.len() / self.total,
            };
            let start = batch.indices.len() * input_len;
            let input = &mut batch.input[start..start + input_len];
            match self.dataset.decode_into(index, &self.settings, input) {
                Ok(()) => {
                    batch.indices.push(index);
                    batch.labels.push(self.dataset.label(index));
                }
                Err(error) if error.is_skippable() => batch.failures.push(ImageFailure {
                    index,
                    name: self.dataset.image_name(index),
                    error,
                }),
                Err(error) => return Err(error),
            }
        }
        batch.input.truncate(batch.indices.len() * input_len);
        Ok(batch)
    }
}

/// Wakes the other side when a worker panics; it would wait for ever.
struct StopOnPanic<'a>(&'a Shared);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.stop();
        }
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut progress = self.shared.lock();
        loop {
            if progress.taken == self.shared.batch_count {
                return None;
            }
            if progress.stopped {
                drop(progress);
                self.join();
                return None;
            }
            let number = progress.taken;
            if let Some(batch) = progress.ready.remove(&number) {
                progress.taken += 1;
                progress.stopped = batch.is_err();
                drop(progress);
                self.shared.changed.notify_all();
                return Some(batch);
            }
            progress = self.shared.wait(progress);
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.shared.stop();
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so on stderr already.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dataset::DatasetOptions;

    #[test]
    #[should_panic(expected = "out of range")]
    fn a_panic_of_a_thread_is_passed_on_and_not_waited_for() {
        let dataset =
            Dataset::from_cifar_bytes(vec![0; 3073], "x", &DatasetOptions::default()).unwrap();
        let shared = Arc::new(Shared {
            dataset,
            settings: Preprocessing::new([32, 32], [0.0; 3], [1.0; 3]),
            selection: Selection::First,
            batch: 1,
            // Four more than there are.
            total: 5,
            batch_count: 5,
            window: 2,
            progress: Mutex::default(),
            changed: Condvar::new(),
        });
        let batches = Batches::start(shared, 1).unwrap();
        assert_eq!(batches.count(), 1);
    }
}
