//! How a long run tells how far it is, and learns that it should stop.

use crate::error::{Error, ErrorKind};

/// What a caller may want to hear and say while a model is quantized.
pub trait Progress: Sync {
    /// Work begins; `weights` weights will be quantized.
    fn start(&self, weights: u64) {
        let _ = weights;
    }

    /// A tensor of this many weights is done.
    fn tensor_done(&self, name: &str, weights: u64) {
        let _ = (name, weights);
    }

    /// A step of a distillation is done, of `steps`; the best divergence so far.
    fn distilled(&self, step: u64, steps: u64, divergence: f64) {
        let _ = (step, steps, divergence);
    }

    /// Whether to stop with an error of kind
    /// [`Interrupted`](crate::ErrorKind::Interrupted).
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Stops where that is wanted.
///
/// # Errors
///
/// Of kind [`Interrupted`](crate::ErrorKind::Interrupted) where `progress` says
/// so.
pub fn check_cancelled(progress: &dyn Progress) -> Result<(), Error> {
    match progress.is_cancelled() {
        true => Err(Error::new(ErrorKind::Interrupted, "interrupted")),
        false => Ok(()),
    }
}

/// Says nothing and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
