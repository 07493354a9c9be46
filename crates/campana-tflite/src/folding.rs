//! Constants in place of all that a network computes from constants alone, or
//! from the extents of values, so that shapes behind these are known too.

use std::collections::BTreeMap;

use campana_ir::graph::{Graph, Node};
use campana_ir::network::Network;
use campana_tensor::{ElementType, Tensor, TensorData};

use crate::error::{Error, ErrorKind};
use crate::parameters::Parameters;

/// The graph with constants for what its nodes make of constants and extents.
///
/// # Errors
///
/// Where a node is no valid use of its operator, or cannot be run; names it.
pub(crate) fn folded(mut graph: Graph) -> Result<Graph, Error> {
    let known = known_integers(&analysed(&graph)?);
    replace(&mut graph, known);
    let computed = Parameters::new(&analysed(&graph)?)?.into_computed();
    replace(&mut graph, computed);
    Ok(graph)
}

/// The typed form of a graph.
///
/// # Errors
///
/// Where a node is no valid use of its operator; names it.
pub(crate) fn analysed(graph: &Graph) -> Result<Network<'_>, Error> {
    Network::new(graph).map_err(|error| {
        Error::new(ErrorKind::InvalidModel, "cannot analyse the network").with_source(error)
    })
}

/// Lists and scalars of integers that extents determine.
fn known_integers(network: &Network<'_>) -> BTreeMap<String, Tensor> {
    let outputs = network.graph().nodes.iter().flat_map(|node| &node.outputs);
    let known = outputs.filter_map(|name| {
        let value = network.value(name)?;
        let integers = value.integers.clone()?;
        let data = match value.element_type? {
            ElementType::I64 => TensorData::I64(integers),
            ElementType::I32 => {
                let narrow = integers.into_iter().map(i32::try_from);
                TensorData::I32(narrow.collect::<Result<_, _>>().ok()?)
            }
            _ => return None,
        };
        Some((name.clone(), Tensor::new(value.fixed_shape()?, data)?))
    });
    known.collect()
}

/// Puts constants in the places of the nodes that make them, where they are all
/// that a node makes.
fn replace(graph: &mut Graph, mut values: BTreeMap<String, Tensor>) {
    let is_replaced = |node: &Node| {
        let mut outputs = node.outputs.iter().filter(|name| !name.is_empty());
        !node.outputs.is_empty() && outputs.all(|name| values.contains_key(name))
    };
    let (replaced, kept) = std::mem::take(&mut graph.nodes)
        .into_iter()
        .partition::<Vec<_>, _>(is_replaced);
    graph.nodes = kept;
    for name in replaced.into_iter().flat_map(|node| node.outputs) {
        if let Some(tensor) = values.remove(&name) {
            graph.constants.insert(name, tensor);
        }
    }
}
