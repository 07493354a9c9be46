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
    for input in &mut graph.inputs {
        let first = input.shape.iter_mut().flatten().next();
        if let Some(batch @ Dim::Symbol(_)) = first {
            *batch = Dim::Fixed(1);
        }
    }
    for input in &graph.inputs {
        let name = &input.name;
        let refused =
            |kind, reason: String| Err(Error::new(kind, format!("the input '{name}' {reason}")));
        let other = input
            .element_type
            .filter(|found| *found != ElementType::F32);
        if let Some(other) = other {
            return refused(
                ErrorKind::Unsupported,
                format!("is {other}, and only float32 that is rounded to 8 bits is taken"),
            );
        }
        let Some(shape) = &input.shape else {
            return refused(
                ErrorKind::OpenShape,
                "declares no shape; give --shape".to_owned(),
            );
        };
        if shape.contains(&Dim::Fixed(0)) {
            return refused(ErrorKind::InvalidModel, "has no elements".to_owned());
        }
        if shape.iter().any(|dim| matches!(dim, Dim::Symbol(_))) {
            let extents: Vec<String> = shape.iter().map(ToString::to_string).collect();
            let extents = extents.join(" x ");
            return refused(
                ErrorKind::OpenShape,
                format!(
                    "leaves extents open ({extents}), and an arena wants them fixed; give --shape"
                ),
            );
        }
    }
    Ok(graph)
}
