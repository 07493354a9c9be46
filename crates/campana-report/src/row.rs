//! A quantized tensor as the page of a quantized model shows it.

use campana_quantize::{StoredTensor, TensorReport};

use crate::page::relative_error;

/// A quantized tensor in the report and as it was stored.
pub(super) struct Row<'a> {
    pub(super) report: &'a TensorReport,
    pub(super) stored: &'a StoredTensor,
}

impl Row<'_> {
    /// Weights of the tensor.
    pub(super) fn weights(&self) -> u64 {
        self.report.shape.iter().map(|&dim| dim as u64).product()
    }

    /// Error of a typical weight, as a share of it.
    pub(super) fn error(&self) -> f64 {
        relative_error(self.report.sqnr_db.unwrap_or(f64::INFINITY))
    }

    /// The channel with the largest error, and that.
    pub(super) fn worst_channel(&self) -> Option<(usize, f64)> {
        let errors = self.stored.channel_errors.iter().copied().enumerate();
        let known = errors.filter(|(_, error)| !error.is_nan());
        known.max_by(|a, b| a.1.total_cmp(&b.1))
    }
}
