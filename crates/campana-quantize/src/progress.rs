//! How a long run tells how far it is, and learns that it should stop.

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

    /// Whether to stop with an error of kind
    /// [`Interrupted`](crate::ErrorKind::Interrupted).
    fn is_cancelled(&self) -> bool {
        false
    }
}

/// Says nothing and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {}
