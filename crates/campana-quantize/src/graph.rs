//! The network as it computes after quantization.

use campana_ir::format::onnx;
use campana_ir::graph::Graph;
use campana_onnx::Model;
use campana_tensor::{Tensor, TensorData};

use crate::error::{Error, ErrorKind};
use crate::outcome::QuantizedModel;

/// The network in float32, as it is analysed and corrected; half precision is
/// [widened](Graph::in_single_precision).
///
/// # Errors
///
/// Of kind `Unsupported` where the network cannot be read.
pub fn float_graph(model: &Model) -> Result<Graph, Error> {
    let graph = onnx::graph(model)
        .map_err(|error| unsupported("cannot run the network").with_source(error))?;
    Ok(graph.in_single_precision())
}

/// The network with its quantized weights as they are decoded, and what was
/// corrected beside them.
///
/// # Errors
///
/// Where the network cannot be read.
pub fn quantized_graph(model: &Model, quantized: &QuantizedModel<'_>) -> Result<Graph, Error> {
    let mut graph = float_graph(model)?;
    for outcome in &quantized.tensors {
        let values = match (&outcome.quantized, &outcome.corrected) {
            (Some(tensor), _) => tensor.dequantize(),
            (None, Some(values)) => values.clone(),
            (None, None) => continue,
        };
        replace(&mut graph, outcome.tensor.name, values)?;
    }
    Ok(graph)
}

/// Puts other values into a constant of a graph, if there is one of this name.
///
/// # Errors
///
/// Where it is not in float32 or of another size.
pub fn replace(graph: &mut Graph, name: &str, values: Vec<f32>) -> Result<(), Error> {
    let Some(constant) = graph.constants.get_mut(name) else {
        return Ok(());
    };
    let shape = constant.shape().to_vec();
    if !matches!(constant.data(), TensorData::F32(_)) {
        return Err(unsupported(format!("'{name}' is no float32 tensor")));
    }
    *constant = Tensor::new(shape, TensorData::F32(values))
        .ok_or_else(|| unsupported(format!("'{name}' changes its size")))?;
    Ok(())
}

/// An error of a network that cannot be run or is not of the kind that is
/// needed.
pub fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, message)
}
