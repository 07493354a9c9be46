//! What every form takes out of a model.

use campana_ir::weights::{ModelTensor, Origin};
use campana_onnx::Edits;
use campana_quantize::{Error, ErrorKind};

/// Takes a constant that operators will make out of the graph.
pub(super) fn remove_constant(edits: &mut Edits<'_>, tensor: &ModelTensor<'_>) {
    let graph = tensor.graph;
    edits.remove(match tensor.origin {
        Origin::Initializer(_) => tensor.proto.message,
        Origin::ConstantNode(index) => graph.nodes[index].message,
    });
    // What an operator makes cannot be an input of the graph as well.
    for input in graph
        .inputs
        .iter()
        .filter(|input| input.name == tensor.name)
    {
        edits.remove(input.message);
    }
}

/// The error of a model that cannot be read again.
pub(super) fn unreadable(error: campana_onnx::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot read the model").with_source(error)
}
