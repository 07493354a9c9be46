//! Which tensors stay float.

use campana_ir::weights::{ModelTensor, Role};

use crate::error::Error;
use crate::options::Options;
use crate::outcome::{TensorOutcome, TensorReport};
use crate::weights::{float_len_bytes, shape};

/// Whether every pattern of the options fits a weight tensor: one that fits
/// nothing is a typing error that would go unnoticed.
///
/// # Errors
///
/// Where one fits none.
pub fn check_patterns(options: &Options, tensors: &[ModelTensor<'_>]) -> Result<(), Error> {
    let weights = tensors
        .iter()
        .filter(|tensor| matches!(tensor.role, Role::Weight { .. }));
    options.check_names(&weights.map(|tensor| tensor.name).collect::<Vec<_>>())
}

/// Why a tensor stays float, as far as can be said without its data.
pub fn kept_beforehand(tensor: &ModelTensor<'_>, options: &Options) -> Option<String> {
    match &tensor.role {
        Role::Other(purpose) => Some(purpose.clone()),
        Role::Weight { .. } if options.keeps(tensor.name) => Some("kept by --keep".to_owned()),
        Role::Weight { .. } if tensor.proto.count().is_ok_and(|count| count == 0) => {
            Some("empty".to_owned())
        }
        Role::Weight { .. } if options.choice_of(tensor.name).bits.is_none() => {
            Some("kept by the plan".to_owned())
        }
        Role::Weight { .. } => None,
    }
}

/// A tensor that stays float for this reason.
pub fn keep(tensor: ModelTensor<'_>, reason: String) -> TensorOutcome<'_> {
    let element_bits = tensor.proto.element_type.bits().unwrap_or(0);
    let bytes = float_len_bytes(&tensor) as u64;
    TensorOutcome {
        report: TensorReport {
            op: tensor.op_type.to_owned(),
            ..TensorReport::kept(tensor.name, shape(&tensor), element_bits, bytes, reason)
        },
        tensor,
        quantized: None,
        corrected: None,
        energy: 0.0,
        squared_error: 0.0,
    }
}
