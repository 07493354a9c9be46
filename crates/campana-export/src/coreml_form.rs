//! Models as Core ML packages.

use campana_coreml::{ErrorKind as CoreMl, Options, Package};
use campana_ir::format::onnx;
use campana_onnx::Model;
use campana_quantize::{Error, ErrorKind};

/// A Core ML package that computes as an ONNX model does; weights that the model
/// decodes from codes stay codes.
///
/// # Errors
///
/// Where a node, input or output has no form in Core ML, or an extent other
/// than the batch is open; the message names it.
pub fn coreml_package(model: &Model, options: &Options) -> Result<Package, Error> {
    let graph = onnx::graph(model).map_err(|error| {
        let message = "cannot understand the network";
        Error::new(ErrorKind::InvalidModel, message).with_source(error)
    })?;
    campana_coreml::convert(&graph, options).map_err(|error| {
        let kind = match error.kind() {
            CoreMl::InvalidModel => ErrorKind::InvalidModel,
            _ => ErrorKind::Unsupported,
        };
        Error::new(kind, "cannot be written as a Core ML package").with_source(error)
    })
}
