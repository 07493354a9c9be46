//! Models as TFLite files.

use campana_ir::format::onnx;
use campana_onnx::Model;
use campana_quantize::{Error, ErrorKind, Target};
use campana_tflite::{ErrorKind as TfLite, Interpreter};

/// The bytes of a TFLite file that computes as an ONNX model does: on int8
/// where the model rounds to it, in floats elsewhere; for TFLite Micro where that
/// is the target.
///
/// # Errors
///
/// Where a node or input has no form in TFLite, or an extent other than the
/// batch is open; the message names it.
pub fn tflite_bytes(model: &Model, target: Target) -> Result<Vec<u8>, Error> {
    let graph = onnx::graph(model).map_err(|error| {
        let message = "cannot understand the network";
        Error::new(ErrorKind::InvalidModel, message).with_source(error)
    })?;
    let interpreter = match target {
        Target::TfLiteMicro => Interpreter::Micro,
        _ => Interpreter::TfLite,
    };
    campana_tflite::convert(&graph, interpreter).map_err(|error| {
        let kind = match error.kind() {
            TfLite::InvalidModel => ErrorKind::InvalidModel,
            _ => ErrorKind::Unsupported,
        };
        Error::new(kind, "cannot be written as TFLite").with_source(error)
    })
}
