//! The weights of a model's tensors, and what is known of them without reading
//! any.

use campana_design::Moments;
use campana_ir::weights::ModelTensor;
use campana_onnx::Model;

use crate::error::{Error, ErrorKind};

/// Extents of a tensor, outermost first.
pub fn shape(tensor: &ModelTensor<'_>) -> Vec<usize> {
    // Negative or overflowing extents are refused when the data is read.
    tensor
        .proto
        .dims
        .iter()
        .map(|&dim| usize::try_from(dim).unwrap_or(0))
        .collect()
}

/// Elements of a tensor. Extents that overflow are refused when the data is
/// read.
pub fn count(tensor: &ModelTensor<'_>) -> usize {
    shape(tensor)
        .iter()
        .fold(1, |product, &dim| product.saturating_mul(dim))
}

/// Bytes that a tensor takes as floats.
pub fn float_len_bytes(tensor: &ModelTensor<'_>) -> usize {
    tensor
        .proto
        .element_type
        .len_bytes(count(tensor))
        .unwrap_or(0)
}

/// The weights of a tensor, row-major.
///
/// # Errors
///
/// Where they cannot be read.
pub fn read_weights(model: &Model, tensor: &ModelTensor<'_>) -> Result<Vec<f32>, Error> {
    model.read_f32(tensor.proto).map_err(|error| {
        let message = format!("cannot read tensor '{}'", tensor.name);
        Error::new(ErrorKind::InvalidModel, message).with_source(error)
    })
}

/// Whether all weights of a tensor are finite.
///
/// # Errors
///
/// Where some are not.
pub fn check_finite(name: &str, moments: &Moments) -> Result<(), Error> {
    if moments.non_finite == 0 {
        return Ok(());
    }
    let Moments {
        count, non_finite, ..
    } = moments;
    Err(Error::new(
        ErrorKind::InvalidModel,
        format!(
            "tensor '{name}' has {non_finite} NaN or infinite weights among {}; repair the model, or leave \
             this tensor as it is with --keep '{name}'",
            count + non_finite
        ),
    ))
}
