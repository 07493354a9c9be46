//! Models with external data as models that hold all of it.
//!
//! A form other than ONNX is one file or folder, made of a model in memory:
//! what lies beside the input is put into it before any work is done.

use std::io;

use campana_onnx::{Content, DataLocation, Edits, Model, TensorProto, schema};
use campana_quantize::{Error, ErrorKind, Target};

use crate::write::replace_data_fields;

/// The model with the data inside that it keeps in files beside it; `None` where
/// it keeps none.
///
/// # Errors
///
/// Of kind `Unsupported` where that would be larger than readers of ONNX accept
/// or than the memory that the model may take; where the data cannot be read.
pub(crate) fn with_data_inside(model: &Model, target: Target) -> Result<Option<Model>, Error> {
    let is_beside = |tensor: &&TensorProto| matches!(tensor.data, DataLocation::External(_));
    let beside: Vec<&TensorProto> = model.tensors().into_iter().filter(is_beside).collect();
    if beside.is_empty() {
        return Ok(None);
    }
    let refused = |cause: Box<dyn std::error::Error + Send + Sync>| {
        let message = format!(
            "--target {target} is made of a model in memory, and the data in files beside this one does not fit \
             into it; use --target lut"
        );
        Error::new(ErrorKind::Unsupported, message).with_source(cause)
    };
    let mut budget = model.memory_budget();
    let mut edits = Edits::new(model);
    for tensor in beside {
        let len = model.external_len(tensor).map_err(unreadable)?;
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        budget
            .take(bytes)
            .map_err(|exceeded| refused(exceeded.into()))?;
        let data = Content::stream(len, move |out| {
            let copied = model.copy_external(tensor, out);
            copied.map_err(io::Error::other)
        });
        let data = Content::default().message(schema::tensor::RAW_DATA, data);
        replace_data_fields(model, &mut edits, tensor.message, data)?;
    }
    match edits.into_model() {
        Ok(inside) => Ok(Some(inside)),
        Err(error) if error.kind() == campana_onnx::ErrorKind::Limit => Err(refused(error.into())),
        Err(error) => Err(unreadable(error)),
    }
}

fn unreadable(error: campana_onnx::Error) -> Error {
    let message = "cannot read the data in files beside the model";
    Error::new(ErrorKind::Io, message).with_source(error)
}
