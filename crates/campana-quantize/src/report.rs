//! What is said of a quantized model; the keys of the JSON are a contract.

use serde::Serialize;

use crate::CorrectionReport;

/// What became of a model.
#[derive(Clone, Debug, Serialize)]
pub struct QuantizeReport {
    /// The model that was read.
    pub input: String,
    /// The model that was written.
    pub output: String,
    /// Size of the model that was read, external data included.
    pub input_bytes: u64,
    /// Size of the model that was written, external data included.
    pub output_bytes: u64,
    /// Number of quantized weights.
    pub weights: u64,
    /// Bits a quantized weight takes: codes, codebooks, scales and padding.
    pub bits_per_weight: f64,
    /// Mean squared error of the quantized weights.
    pub mse: f64,
    /// Ratio of the energies of quantized weights and error, in dB; null
    /// where nothing was lost.
    pub sqnr_db: f64,
    /// Time from reading to written, in seconds.
    pub elapsed_s: f64,
    /// What was corrected; null where nothing was.
    pub correction: Option<CorrectionReport>,
    /// Why nothing was corrected; null where something was.
    pub not_corrected: Option<String>,
    /// The form of the model that was written.
    pub target: String,
    /// Each tensor of the model, quantized or kept.
    pub tensors: Vec<TensorReport>,
}

/// What became of one tensor.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// The tensor's name.
    pub name: String,
    /// The operator that uses it.
    pub op: String,
    /// Extents, outermost first.
    pub shape: Vec<usize>,
    /// Bits of a code; null where the tensor was kept.
    pub bits: Option<u8>,
    /// The method that designed the levels.
    pub method: Option<String>,
    /// The family whose density fits better.
    pub family: Option<String>,
    /// What shares a codebook or a scale: `tensor`, `channel`, `group=N`.
    pub granularity: Option<String>,
    /// The lowest and the highest level in use.
    pub clip: Option<[f32; 2]>,
    /// Mean squared error of the weights.
    pub mse: Option<f64>,
    /// Ratio of the energies of weights and error, in dB; null where nothing
    /// was lost or the tensor was kept.
    pub sqnr_db: Option<f64>,
    /// Bits a weight takes as stored.
    pub bits_per_weight: f64,
    /// Why the tensor stays float; null where it was quantized.
    pub kept: Option<String>,
    /// Bytes before.
    pub input_bytes: u64,
    /// Bytes after: codes, levels, scales.
    pub output_bytes: u64,
}

impl TensorReport {
    /// What is said of a tensor that stays as it is.
    pub fn kept(
        name: &str,
        shape: Vec<usize>,
        element_bits: usize,
        bytes: u64,
        reason: String,
    ) -> Self {
        Self {
            name: name.to_owned(),
            op: String::new(),
            shape,
            bits: None,
            method: None,
            family: None,
            granularity: None,
            clip: None,
            mse: None,
            sqnr_db: None,
            bits_per_weight: element_bits as f64,
            kept: Some(reason),
            input_bytes: bytes,
            output_bytes: bytes,
        }
    }
}
