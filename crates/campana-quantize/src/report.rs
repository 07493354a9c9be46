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
    /// Share of the quantized weights that are zero; null where codes were not
    /// chosen for an entropy coder.
    pub zeros: Option<f64>,
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
    /// How widths were chosen under a bound; null where none was asked for.
    pub allocation: Option<AllocationReport>,
    /// The form of the model that was written.
    pub target: String,
    /// Activations that are rounded to 8 bits.
    pub rounded_activations: usize,
    /// Each tensor of the model, quantized or kept.
    pub tensors: Vec<TensorReport>,
}

/// How the widths of a model's tensors were chosen under a bound.
#[derive(Clone, Debug, Serialize)]
pub struct AllocationReport {
    /// The bound, in words.
    pub bound: String,
    /// Whether it is met.
    pub met: bool,
    /// Whether the model was written.
    pub written: bool,
    /// How the tensors' sensitivities are known.
    pub sensitivities: String,
    /// Sum of the divergences of the network's outputs that the tensors cause
    /// one by one.
    pub divergence: f64,
    /// What is lost, where that is bounded.
    pub drop: Option<DropReport>,
}

/// What a quantized network loses.
#[derive(Clone, Debug, Serialize)]
pub struct DropReport {
    /// Drop of the share of right answers.
    pub drop: f64,
    /// `measured` with labels or `estimated` without.
    pub how: &'static str,
    /// Number of images.
    pub images: u64,
    /// What images these are.
    pub data: String,
    /// Share of images whose answer is another than the float network's; null
    /// where the drop was measured.
    pub changed: Option<f64>,
    /// Share of right answers of the float and of the quantized network; null
    /// where the drop was estimated.
    pub top1: Option<[f64; 2]>,
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
    /// Divergence of the network's outputs with this tensor alone quantized so,
    /// where that was estimated.
    pub divergence: Option<f64>,
    /// Price of a byte that `auto` weighed against errors, where a plan named
    /// it.
    #[serde(skip)]
    pub byte_price: Option<f64>,
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
            divergence: None,
            byte_price: None,
            kept: Some(reason),
            input_bytes: bytes,
            output_bytes: bytes,
        }
    }
}
