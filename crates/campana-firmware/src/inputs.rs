//! Inputs of fixed shape: a batch that is open becomes one image.

use campana_ir::fixed_inputs::{Unfit, UnfitInput, fixed_inputs};
use campana_ir::graph::Graph;

use crate::error::{Error, ErrorKind};

/// The graph with a batch of 1 where the inputs leave theirs open.
///
/// # Errors
///
/// Where another extent is open, or an input is not float32; names the input.
pub(crate) fn fixed(graph: &Graph) -> Result<Graph, Error> {
    fixed_inputs(graph).map_err(|UnfitInput { name, reason }| {
        let (kind, what) = match reason {
            Unfit::ElementType(other) => (
                ErrorKind::Unsupported,
                format!("is {other}, and only float32 that is rounded to 8 bits is taken"),
            ),
            Unfit::NoShape => (
                ErrorKind::OpenShape,
                "declares no shape; give --shape".to_owned(),
            ),
            Unfit::Empty => (ErrorKind::InvalidModel, "has no elements".to_owned()),
            Unfit::Open(extents) => (
                ErrorKind::OpenShape,
                format!(
                    "leaves extents open ({extents}), and an arena wants them fixed; give --shape"
                ),
            ),
        };
        Error::new(kind, format!("the input '{name}' {what}"))
    })
}
