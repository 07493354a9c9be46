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
mod input_shapes;
mod order;
#[cfg(test)]
mod tests;

use campana_onnx::Model;

pub use input_shapes::{InputShape, state_shapes, with_input_shapes};

use super::Result;
use crate::decoder;
use crate::graph::{Dim, Graph, Value};

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
    for input in &mut graph.inputs {
        fix_channels(model, input);
    }
    Ok(graph)
}

/// The inputs that the [`graph`] of a model would have, without reading any
/// constant.
pub fn inputs(model: &Model) -> Vec<Value> {
    let constants = &model.graph.initializers;
    let inputs = model.graph.inputs.iter();
    inputs
        .filter(|input| constants.iter().all(|tensor| tensor.name != input.name))
        .map(|input| {
            let mut input = convert::value(input, &convert::Scope::default());
            fix_channels(model, &mut input);
            input
        })
        .collect()
}

/// Fixes the channels that an input leaves open where a convolution with
/// weights of the model reads it.
fn fix_channels(model: &Model, input: &mut Value) {
    let Some([_, channels @ Dim::Symbol(_), _, ..]) = input.shape.as_deref_mut() else {
        return;
    };
    let fixed = model.graph.nodes.iter().find_map(|node| {
        let is_reader = node.op_type == "Conv" && node.inputs.first() == Some(&input.name);
        let weights = node.inputs.get(1).filter(|_| is_reader)?;
        let mut initializers = model.graph.initializers.iter();
        let weights = initializers.find(|tensor| tensor.name == *weights)?;
        let per_group = *weights.dims.get(1)?;
        usize::try_from(per_group.checked_mul(node.int("group").unwrap_or(1))?).ok()
    });
    if let Some(fixed) = fixed {
        *channels = Dim::Fixed(fixed);
    }
}
