//! Inputs of fixed shape: a batch that is open becomes one image.

use campana_ir::graph::{Dim, Graph};
use campana_tensor::ElementType;

use crate::error::{Error, ErrorKind};

/// The graph with a batch of 1 where the inputs leave theirs open.
///
/// # Errors
///
/// Where another extent is open, or an input is not float32; names the input.
pub(crate) fn fixed(graph: &Graph) -> Result<Graph, Error> {
    let mut graph = graph.clone();
    let batches = graph.inputs.iter().filter_map(|input| {
        let first = input.shape.as_ref()?.first()?;
        Some(first.clone()).filter(|dim| matches!(dim, Dim::Symbol(_)))
    });
    let batches: Vec<Dim> = batches.collect();
    for input in &mut graph.inputs {
        for (axis, dim) in input.shape.iter_mut().flatten().enumerate() {
            let is_named = matches!(dim, Dim::Symbol(name) if !name.is_empty());
            let is_batch = axis == 0 || is_named && batches.contains(dim);
            if is_batch && matches!(dim, Dim::Symbol(_)) {
                *dim = Dim::Fixed(1);
            }
        }
    }
    for input in &graph.inputs {
        let name = &input.name;
        if let Some(other) = input
            .element_type
            .filter(|found| *found != ElementType::F32)
        {
            let message = format!("the input '{name}' is {other}, and only float32 is taken");
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let Some(shape) = &input.shape else {
            let message = format!("the input '{name}' declares no shape; give --shape");
            return Err(Error::new(ErrorKind::OpenShape, message));
        };
        if shape.contains(&Dim::Fixed(0)) {
            let message = format!("the input '{name}' has no elements");
            return Err(Error::new(ErrorKind::InvalidModel, message));
        }
        if shape.iter().any(|dim| matches!(dim, Dim::Symbol(_))) {
            let extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
            let message = format!(
                "the input '{name}' leaves extents open ({}), and TFLite wants them fixed; give --shape",
                extents.join(" x ")
            );
            return Err(Error::new(ErrorKind::OpenShape, message));
        }
    }
    Ok(graph)
}
