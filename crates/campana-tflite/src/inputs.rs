//! Inputs of fixed shape: a batch that is open becomes one image.

use campana_ir::fixed_inputs::{Unfit, fixed_inputs};
use campana_ir::graph::Graph;

use crate::error::{Error, ErrorKind};

/// The graph with a batch of 1 where the inputs leave theirs open.
///
/// # Errors
///
/// Where another extent is open, or an input is not float32; names the input.
pub(crate) fn fixed(graph: &Graph) -> Result<Graph, Error> {
    fixed_inputs(graph).map_err(|unfit| {
        let kind = match unfit.reason {
            Unfit::ElementType(_) => ErrorKind::Unsupported,
            Unfit::Empty => ErrorKind::InvalidModel,
            Unfit::NoShape | Unfit::Open(_) => ErrorKind::OpenShape,
        };
        let message = unfit.message("only float32 is taken", "TFLite wants them fixed");
        Error::new(kind, message)
    })
}
