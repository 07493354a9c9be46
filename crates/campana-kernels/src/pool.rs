//! Threads that wait for work in short naps.
//!
//! A small network takes less than a millisecond and has twenty layers, so
//! handing work over must cost microseconds. Workers spin for a while before
//! they sleep; the caller works too, and waits only for workers that have
//! begun: one that is asleep or off its core delays nothing.
//!
//! Each thread begins with its own share of the tasks, the same part of every
//! call's, and then takes from the others' what is left. Calls that cut images
//! into parts in the same order so find most of what they read in the cache of
//! the core that wrote it.

use std::any::Any;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// Rounds of spinning before a worker sleeps, a few dozen microseconds in all.
const SPINS: u32 = 4_000;

/// Rounds of spinning before the caller yields its core to a worker that is still busy.
const SPINS_BEFORE_YIELD: u32 = 2_000;

/// Set in `Shared::entry` while workers may join.
const OPEN: u32 = 1 << 31;

/// A fixed number of threads that share the tasks of one call at a time.
#[derive(Debug)]
pub struct ThreadPool {
    shared: Option<Arc<Shared>>,
    workers: Vec<JoinHandle<()>>,
}

/// A task list: a closure that takes the number of the task.
type Job<'a> = &'a (dyn Fn(usize) + Sync);

#[derive(Debug)]
struct Shared {
    /// `OPEN`, and the number of workers inside the current job.
    entry: AtomicU32,
    /// Changes with each job, so that a worker joins each at most once.
    epoch: AtomicUsize,
    /// The next task of each thread's share.
    next_tasks: Box<[NextTask]>,
    /// The current job; written only while `entry` is closed and empty.
    job: JobCell,
    sleepers: AtomicUsize,
    sleep: Mutex<()>,
    wake: Condvar,
    stop: AtomicBool,
    /// Held by the thread whose job runs.
    owner: Mutex<()>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

/// A count on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
struct NextTask(AtomicUsize);

struct JobCell(std::cell::UnsafeCell<Option<(Job<'static>, usize)>>);

// SAFETY: written only by the holder of `owner` while no worker is inside, and read only by workers inside.
unsafe impl Sync for JobCell {}
// SAFETY: the reference inside is to a `Sync` closure.
unsafe impl Send for JobCell {}

impl std::fmt::Debug for JobCell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("JobCell")
    }
}

impl ThreadPool {
    /// A pool in which `threads` threads work, the caller's included; 0 counts as 1.
    pub fn new(threads: usize) -> Self {
        if threads <= 1 {
            return Self::serial();
        }
        let shared = Arc::new(Shared {
            entry: AtomicU32::new(0),
            epoch: AtomicUsize::new(0),
            next_tasks: (0..threads).map(|_| NextTask::default()).collect(),
            job: JobCell(std::cell::UnsafeCell::new(None)),
            sleepers: AtomicUsize::new(0),
            sleep: Mutex::new(()),
            wake: Condvar::new(),
            stop: AtomicBool::new(false),
            owner: Mutex::new(()),
            panic: Mutex::new(None),
        });
        let workers = (1..threads)
            .map_while(|i| {
                let shared = Arc::clone(&shared);
                std::thread::Builder::new()
                    .name(format!("campana-{i}"))
                    .spawn(move || shared.work(i))
                    .ok()
            })
            .collect();
        Self {
            shared: Some(shared),
            workers,
        }
    }

    /// A pool of the caller's thread alone.
    pub const fn serial() -> Self {
        Self {
            shared: None,
            workers: Vec::new(),
        }
    }

    /// Number of threads that work, the caller's included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Runs `task(0)`, .., `task(count - 1)`, each once, in any order and
    /// on any thread, and returns when all are done. Called from within a
    /// task, or while another thread's call runs, it does everything itself.
    ///
    /// # Panics
    ///
    /// Where a task panics, with its message, after all threads have left.
    pub fn run(&self, count: usize, task: impl Fn(usize) + Sync) {
        let shared = match &self.shared {
            Some(shared) if count > 1 => shared,
            _ => return (0..count).for_each(task),
        };
        let _owner = match shared.owner.try_lock() {
            Ok(owner) => owner,
            // A task panicked; the job was closed all the same.
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return (0..count).for_each(task),
        };
        shared.run(count, &task);
    }

    /// Cuts a slice into chunks of `chunk_len` (the last may be shorter) and
    /// gives each, with its number, to `task` on any thread.
    ///
    /// # Panics
    ///
    /// Where `chunk_len` is 0 or a task panics.
    pub fn for_chunks<T: Send>(
        &self,
        slice: &mut [T],
        chunk_len: usize,
        task: impl Fn(usize, &mut [T]) + Sync,
    ) {
        assert!(chunk_len > 0, "chunks must not be empty");
        let len = slice.len();
        let start = SendPtr(slice.as_mut_ptr());
        self.run(len.div_ceil(chunk_len), |i| {
            let begin = i * chunk_len;
            let chunk_len = chunk_len.min(len - begin);
            // SAFETY: chunks are disjoint parts of the slice, which stays borrowed
            // exclusively until `run` returns; each number is given out once.
            let chunk =
                unsafe { std::slice::from_raw_parts_mut(start.get().add(begin), chunk_len) };
            task(i, chunk);
        });
    }
}

impl Drop for ThreadPool {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.stop.store(true, Ordering::SeqCst);
            shared.epoch.fetch_add(1, Ordering::SeqCst);
            shared.wake_all();
        }
        for worker in self.workers.drain(..) {
            // Tasks' panics are caught, so a worker has none of its own to tell of.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn run(&self, count: usize, job: Job<'_>) {
        // SAFETY: only the lifetime changes; `Closer` keeps the job from being
        // used after this function returns or unwinds.
        let job_static = unsafe { std::mem::transmute::<Job<'_>, Job<'static>>(job) };
        // SAFETY: the caller holds `owner` and the last job was closed, so no worker is inside.
        unsafe { *self.job.0.get() = Some((job_static, count)) };
        for (thread, next) in self.next_tasks.iter().enumerate() {
            next.0
                .store(self.share(thread, count).start, Ordering::Relaxed);
        }
        self.entry.store(OPEN, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::SeqCst);
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.wake_all();
        }
        {
            let _closer = Closer(self);
            self.take_tasks(job, count, 0);
        }
        let panic = self
            .panic
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// The tasks that a thread begins with.
    fn share(&self, thread: usize, count: usize) -> Range<usize> {
        let threads = self.next_tasks.len();
        count * thread / threads..count * (thread + 1) / threads
    }

    /// Runs the thread's own share of the tasks, then what is left of the others'.
    fn take_tasks(&self, job: Job<'_>, count: usize, thread: usize) {
        let threads = self.next_tasks.len();
        for share in (thread..threads).chain(0..thread) {
            let end = self.share(share, count).end;
            loop {
                let task = self.next_tasks[share].0.fetch_add(1, Ordering::Relaxed);
                if task >= end {
                    break;
                }
                job(task);
            }
        }
    }

    fn wake_all(&self) {
        let _guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.wake.notify_all();
    }

    /// What a worker, the pool's thread of this number, does all its life.
    fn work(&self, thread: usize) {
        let mut seen = 0;
        loop {
            seen = self.wait_for_epoch_after(seen);
            if self.stop.load(Ordering::SeqCst) {
                return;
            }
            let entered = self
                .entry
                .fetch_update(Ordering::AcqRel, Ordering::Relaxed, |entry| {
                    (entry & OPEN != 0).then_some(entry + 1)
                })
                .is_ok();
            if entered {
                // SAFETY: this worker is inside, so the job is not written until it leaves.
                if let Some((job, count)) = unsafe { *self.job.0.get() } {
                    let result =
                        catch_unwind(AssertUnwindSafe(|| self.take_tasks(job, count, thread)));
                    if let Err(panic) = result {
                        for next in &self.next_tasks {
                            next.0.fetch_add(count, Ordering::Relaxed);
                        }
                        *self.panic.lock().unwrap_or_else(PoisonError::into_inner) = Some(panic);
                    }
                }
                self.entry.fetch_sub(1, Ordering::Release);
            }
        }
    }

    fn wait_for_epoch_after(&self, seen: usize) -> usize {
        for _ in 0..SPINS {
            let epoch = self.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            std::hint::spin_loop();
        }
        let mut guard = self.sleep.lock().unwrap_or_else(PoisonError::into_inner);
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        loop {
            let epoch = self.epoch.load(Ordering::SeqCst);
            if epoch != seen {
                self.sleepers.fetch_sub(1, Ordering::SeqCst);
                return epoch;
            }
            guard = self
                .wake
                .wait(guard)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Ends a job: lets no more workers in and waits for those inside.
struct Closer<'a>(&'a Shared);

impl Drop for Closer<'_> {
    fn drop(&mut self) {
        self.0.entry.fetch_and(!OPEN, Ordering::AcqRel);
        let mut spins = 0u32;
        while self.0.entry.load(Ordering::Acquire) != 0 {
            spins += 1;
            if spins > SPINS_BEFORE_YIELD {
                std::thread::yield_now();
            } else {
                std::hint::spin_loop();
            }
        }
    }
}

/// A pointer that tasks on several threads write disjoint parts through.
pub(crate) struct SendPtr<T>(pub(crate) *mut T);

impl<T> SendPtr<T> {
    /// The pointer; a method, so that closures capture the whole wrapper.
    #[inline]
    pub(crate) fn get(&self) -> *mut T {
        self.0
    }
}

// SAFETY: whoever dereferences the pointer promises disjoint access.
unsafe impl<T: Send> Sync for SendPtr<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Send for SendPtr<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in [0, 1, 2, 3, 5] {
            let pool = ThreadPool::new(threads);
            for count in [0, 1, 2, 17, 1000] {
                let done: Vec<AtomicU32> = (0..count).map(|_| AtomicU32::new(0)).collect();
                pool.run(count, |i| {
                    done[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn many_short_jobs_in_a_row_lose_no_task() {
        let pool = ThreadPool::new(3);
        let total = AtomicUsize::new(0);
        for _ in 0..20_000 {
            pool.run(4, |i| {
                total.fetch_add(i + 1, Ordering::Relaxed);
            });
        }
        assert_eq!(total.load(Ordering::Relaxed), 200_000);
    }

    #[test]
    fn sleeping_workers_wake_up() {
        let pool = ThreadPool::new(2);
        for _ in 0..3 {
            std::thread::sleep(std::time::Duration::from_millis(5));
            let total = AtomicUsize::new(0);
            pool.run(100, |_| {
                total.fetch_add(1, Ordering::Relaxed);
            });
            assert_eq!(total.load(Ordering::Relaxed), 100);
        }
    }

    #[test]
    #[cfg_attr(target_family = "wasm", ignore = "there are no threads")]
    fn nested_and_concurrent_calls_run_on_their_own_thread() {
        let pool = ThreadPool::new(2);
        let total = AtomicUsize::new(0);
        pool.run(4, |_| {
            pool.run(4, |_| {
                total.fetch_add(1, Ordering::Relaxed);
            });
        });
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    pool.run(100, |_| {
                        total.fetch_add(1, Ordering::Relaxed);
                    });
                });
            }
        });
        assert_eq!(total.load(Ordering::Relaxed), 416);
    }

    #[test]
    #[cfg_attr(target_family = "wasm", ignore = "a panic ends the program")]
    fn a_panic_reaches_the_caller_and_the_pool_goes_on() {
        let pool = ThreadPool::new(2);
        for _ in 0..10 {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.run(50, |i| assert_ne!(i, 20, "task twenty"));
            }));
            assert!(result.is_err());
        }
        let mut values = vec![0; 1000];
        pool.for_chunks(&mut values, 7, |i, chunk| chunk.fill(i));
        assert!(values.iter().enumerate().all(|(i, &v)| v == i / 7));
    }
}
