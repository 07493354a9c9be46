//! Values that a network computes from constants alone.

use std::collections::BTreeMap;

use campana_ir::graph::{Graph, Node, Value};
use campana_ir::network::Network;
use campana_tensor::Tensor;

use crate::plan::{Plan, PlanOptions};
use crate::session::Session;

/// The values of these names, which depend on constants alone.
///
/// # Errors
///
/// Where a node that makes them cannot be run; names it.
pub fn parameters<'n>(
    network: &Network<'_>,
    names: impl IntoIterator<Item = &'n str>,
) -> Result<BTreeMap<String, Tensor>, Box<dyn std::error::Error + Send + Sync>> {
    let names: Vec<&str> = names.into_iter().collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let graph = network.graph();
    let makes = |node: &&Node| {
        let mut outputs = node.outputs.iter().filter(|name| !name.is_empty());
        outputs.all(|name| network.is_parameter(name))
    };
    let folded = Graph {
        nodes: graph.nodes.iter().filter(makes).cloned().collect(),
        outputs: names.iter().map(|name| Value::named(name)).collect(),
        inputs: Vec::new(),
        ..graph.clone()
    };
    let plan = Plan::new(folded, PlanOptions::default())?;
    let values = Session::new(plan, 1).run(&[])?;
    let names = names.into_iter().map(str::to_owned);
    Ok(names.zip(values).collect())
}
