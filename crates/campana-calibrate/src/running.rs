//! Networks that are run on samples.

use std::borrow::Cow;

use campana_ir::graph::{Graph, Value};
use campana_quantize::Error;
use campana_quantize::graph::unsupported;
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::Tensor;

/// What runs a graph.
///
/// # Errors
///
/// Of kind `Unsupported` where it cannot be run.
pub(crate) fn session<'g>(
    graph: impl Into<Cow<'g, Graph>>,
    threads: usize,
) -> Result<Session, Error> {
    let plan = Plan::new(graph, PlanOptions::default())
        .map_err(|error| unsupported("cannot run the network").with_source(error))?;
    Ok(Session::new(plan, threads))
}

/// The graph with these values, in their order, as its outputs.
pub(crate) fn giving<'n>(graph: &Graph, values: impl IntoIterator<Item = &'n str>) -> Graph {
    Graph {
        outputs: values.into_iter().map(Value::named).collect(),
        ..graph.clone()
    }
}

/// One run.
///
/// # Errors
///
/// Of kind `Unsupported` where the network cannot be run on these inputs.
pub(crate) fn run<'i>(
    session: &Session,
    inputs: impl IntoIterator<Item = (&'i str, &'i Tensor)>,
) -> Result<Vec<Tensor>, Error> {
    let inputs = inputs.into_iter();
    let inputs: Vec<(&str, Input<'_>)> = inputs
        .map(|(name, tensor)| (name, Input::from(tensor)))
        .collect();
    session
        .run(&inputs)
        .map_err(|error| unsupported("cannot run the network").with_source(error))
}
