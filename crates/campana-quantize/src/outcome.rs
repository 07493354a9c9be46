//! What became of a model's tensors: the values that one stage hands to the
//! next.

use campana_codebook::QuantizedTensor;
use campana_ir::weights::ModelTensor;
use serde::Serialize;

use crate::choice::{Effort, Target};

/// A model's tensors with what became of each.
#[derive(Clone, Debug)]
pub struct QuantizedModel<'m> {
    /// The constant float tensors, in the file's order.
    pub tensors: Vec<TensorOutcome<'m>>,
    /// What it will be written as; a correction rounds levels as this asks.
    pub target: Target,
    /// How much time a correction may take.
    pub effort: Effort,
}

impl QuantizedModel<'_> {
    /// Whether any tensor is quantized.
    pub fn has_changes(&self) -> bool {
        self.changed_names().next().is_some()
    }

    /// The names of the tensors that are quantized.
    pub fn changed_names(&self) -> impl Iterator<Item = &str> {
        let changed = self.tensors.iter();
        let changed = changed.filter(|outcome| outcome.quantized.is_some());
        changed.map(|outcome| outcome.tensor.name)
    }
}

/// What became of one tensor.
#[derive(Clone, Debug)]
pub struct TensorOutcome<'m> {
    /// The tensor in the model.
    pub tensor: ModelTensor<'m>,
    /// Its codes and levels; `None` where it stays float.
    pub quantized: Option<QuantizedTensor>,
    /// Other values of a tensor that stays float, which make up for errors of
    /// quantized ones; row-major.
    pub corrected: Option<Vec<f32>>,
    /// Sum of the squared weights; 0 where it stays float.
    pub energy: f64,
    /// Sum of the squared errors of the weights.
    pub squared_error: f64,
    /// What is said of it.
    pub report: TensorReport,
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

/// `10 log10(energy / squared_error)`; infinite where nothing was lost.
pub fn sqnr_db(energy: f64, squared_error: f64) -> f64 {
    10.0 * (energy / squared_error).log10()
}

/// The lowest and the highest level of all groups.
pub fn clip(tensor: &QuantizedTensor) -> [f32; 2] {
    let mut clip = [f32::INFINITY, f32::NEG_INFINITY];
    for group in 0..tensor.partition.group_count() {
        for level in tensor.group_levels(group) {
            clip = [clip[0].min(level), clip[1].max(level)];
        }
    }
    clip
}

/// Share of the quantized weights that are zero.
pub fn zero_share(quantized: &QuantizedModel<'_>) -> f64 {
    let tensors = quantized.tensors.iter();
    let (mut zeros, mut count) = (0, 0);
    for tensor in tensors.filter_map(|outcome| outcome.quantized.as_ref()) {
        let weights = tensor.dequantize();
        zeros += weights.iter().filter(|&&weight| weight == 0.0).count();
        count += weights.len();
    }
    zeros as f64 / count.max(1) as f64
}
