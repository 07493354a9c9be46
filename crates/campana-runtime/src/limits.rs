//! What a plan may take, and how a run is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What planning and running a graph may take: a file of a few bytes can ask
/// for gigabytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Bytes of one value that is computed from constants alone. Default:
    /// 2 GiB, the largest ONNX file.
    pub max_value_bytes: u64,
    /// Bytes of any value of a run, of all values together that are computed from
    /// constants, and of the memory that the values of a run share. Default: twice
    /// the [global](campana_tensor::Limits::global) `max_memory`, that is 8 GiB.
    pub max_run_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_value_bytes: 2 << 30,
            max_run_bytes: (campana_tensor::Limits::global().max_memory as u64).saturating_mul(2),
        }
    }
}

/// A flag that stops what goes on: planning and runs look at it between steps
/// and in the outer loops of slow operators. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// A flag that is not set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks to stop.
    pub fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked to stop.
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl From<Arc<AtomicBool>> for Interrupt {
    fn from(flag: Arc<AtomicBool>) -> Self {
        Self(flag)
    }
}

/// Two are equal where they share their flag.
impl PartialEq for Interrupt {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Interrupt {}
