//! Graphs from ONNX models.
//!
//! Initializers and `Constant` nodes become the graph's constants, calls of
//! functions that the model defines are replaced by the functions' nodes, and
//! nodes are put in an order in which they can run. Weights that the model
//! computes from codes become the graph's quantized tensors (see
//! [`decoder`]).

mod constant;
mod convert;
mod function;
mod order;
#[cfg(test)]
mod tests;

use campana_onnx::Model;

use super::Result;
use crate::decoder;
use crate::graph::{Graph, Value};

/// The graph of an ONNX model, with all constants read into memory.
///
/// # Errors
///
/// Where a value is made twice or not at all, nodes depend on each other in a
/// circle, a tensor cannot be read, or the model uses what is not supported
/// (sparse tensors, functions of other operator-set versions than the model's);
/// the error names the node, tensor or value.
pub fn graph(model: &Model) -> Result<Graph> {
    let mut graph = convert::Converter::new(model)?.graph(&model.graph)?;
    decoder::take(&mut graph);
    Ok(graph)
}

/// The inputs that the [`graph`] of a model would have, without reading any
/// constant.
pub fn inputs(model: &Model) -> Vec<Value> {
    let constants = &model.graph.initializers;
    let inputs = model.graph.inputs.iter();
    inputs
        .filter(|input| constants.iter().all(|tensor| tensor.name != input.name))
        .map(|input| convert::value(input, &convert::Scope::default()))
        .collect()
}
