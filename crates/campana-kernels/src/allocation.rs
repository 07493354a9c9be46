//! What happens where the system gives no memory: a report before the process is
//! aborted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Duration;

/// The system's allocator, which calls what [`on_exhausted`] was given where there is
/// no memory for an allocation. For the `#[global_allocator]` of a program.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReportingAllocator;

static REPORT: OnceLock<fn(usize)> = OnceLock::new();

/// Memory that is given back before the report, which may allocate.
static RESERVE: Mutex<Vec<u8>> = Mutex::new(Vec::new());

const RESERVE_LEN: usize = 1 << 20;

static IS_REPORTED: AtomicBool = AtomicBool::new(false);

/// How long other threads wait for the end that the report leads to.
const WAIT: Duration = Duration::from_secs(1);

/// Has `report` called with the bytes of the first allocation that fails. It should
/// end the process: otherwise the allocation fails as without it.
pub fn on_exhausted(report: fn(usize)) {
    if REPORT.set(report).is_ok()
        && let Ok(mut reserve) = RESERVE.lock()
    {
        // Touched, so that it is there.
        *reserve = vec![1; RESERVE_LEN];
    }
}

#[cold]
fn exhausted(bytes: usize) {
    let Some(report) = REPORT.get() else { return };
    if IS_REPORTED.swap(true, Ordering::Relaxed) {
        thread::sleep(WAIT);
        return;
    }
    if let Ok(mut reserve) = RESERVE.try_lock() {
        drop(std::mem::take(&mut *reserve));
    }
    report(bytes);
}

fn checked(pointer: *mut u8, bytes: usize) -> *mut u8 {
    if pointer.is_null() {
        exhausted(bytes);
    }
    pointer
}

// SAFETY: each method is the system allocator's own.
unsafe impl GlobalAlloc for ReportingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps what this method asks for, which is the same.
        checked(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        checked(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as in `alloc`.
        checked(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as in `alloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}
