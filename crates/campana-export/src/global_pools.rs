//! Means over all pixels as global pools.
//!
//! PyTorch's exporter of today writes an adaptive average pool as `ReduceMean`
//! over the spatial axes. Engines compute a `GlobalAveragePool` on quantized
//! activations, a `ReduceMean` in floats alone: before activations are rounded, the
//! one is put in the place of the other.

use std::collections::HashMap;

use campana_ir::format::onnx;
use campana_ir::graph::Graph;
use campana_ir::network::Network;
use campana_ir::op::{Op, Reduce, ReduceKind, axis_from_start};
use campana_onnx::{Content, Edits, Model, NewNode, Node, schema};
use campana_quantize::{Error, ErrorKind};

/// Axes from which on a tensor holds images: samples, channels, rows and columns.
/// A mean over the last axis of three is that of a layer normalization.
const MIN_RANK: usize = 4;

/// The model with global pools for means over all axes behind the channels;
/// `None` where it has no such means.
///
/// # Errors
///
/// Where the model cannot be written with them.
pub(crate) fn with_global_pools(model: &Model) -> Result<Option<Model>, Error> {
    // What cannot be analysed is refused where it matters.
    let Ok(graph) = onnx::graph(model) else {
        return Ok(None);
    };
    let Ok(network) = Network::new(&graph) else {
        return Ok(None);
    };
    let nodes = (0..graph.nodes.len()).filter_map(|node| {
        let keeps_axes = mean_over_pixels(&network, node)?;
        Some((network.node(node).outputs.first()?.as_str(), keeps_axes))
    });
    let means: HashMap<&str, bool> = nodes.collect();
    if means.is_empty() {
        return Ok(None);
    }
    let mut edits = Edits::new(model);
    for node in &model.graph.nodes {
        let output = node.outputs.first().map_or("", String::as_str);
        if let (Some(&keeps_axes), [input, ..]) = (means.get(output), &*node.inputs) {
            let pooled = (!keeps_axes).then(|| unused_name(&graph, output));
            edits.replace(node.message, pool(node, [input, output], pooled));
        }
    }
    let changed = edits.into_model();
    changed.map(Some).map_err(|error| {
        Error::new(
            ErrorKind::InvalidModel,
            "cannot write means as global pools",
        )
        .with_source(error)
    })
}

/// Whether the reduced axes stay, where a node is the mean over all axes behind
/// the channels.
fn mean_over_pixels(network: &Network<'_>, node: usize) -> Option<bool> {
    let Op::Reduce(Reduce {
        kind: ReduceKind::Mean,
        axes,
        keep_axes,
    }) = network.op(node)
    else {
        return None;
    };
    let inputs = &network.node(node).inputs;
    let rank = network.value(&inputs[0])?.shape.as_ref()?.len();
    let given = match (axes, inputs.get(1)) {
        (Some(axes), _) => axes.clone(),
        (None, Some(axes)) => network.value(axes)?.integers.clone()?,
        (None, None) => return None,
    };
    let mut axes: Vec<usize> = given
        .iter()
        .map(|&axis| axis_from_start(axis, rank))
        .collect::<Option<_>>()?;
    axes.sort_unstable();
    let is_pool =
        rank >= MIN_RANK && axes.iter().copied().eq(2..rank) && network.is_activation(&inputs[0]);
    is_pool.then_some(*keep_axes)
}

/// A name like that of an output that no value of a graph has.
fn unused_name(graph: &Graph, output: &str) -> String {
    let mut name = format!("{output}_pooled");
    let is_used = |name: &String| {
        let mut outputs = graph.nodes.iter().flat_map(|node| &node.outputs);
        outputs.any(|output| output == name)
            || graph.constants.contains_key(name)
            || graph.inputs.iter().any(|input| input.name == *name)
    };
    while is_used(&name) {
        name.push('_');
    }
    name
}

/// A global pool in the place of a node, with what takes off the axes where these
/// do not stay and the pool's own output is `pooled`.
fn pool(node: &Node, [input, output]: [&str; 2], pooled: Option<String>) -> Content<'static> {
    let own = pooled.as_deref().unwrap_or(output);
    let mut pool = NewNode::new("GlobalAveragePool", [input], [own]);
    if !node.name.is_empty() {
        pool = pool.name(&node.name);
    }
    let nodes = Content::default().message(schema::graph::NODE, pool);
    match &pooled {
        None => nodes,
        Some(pooled) => {
            let flat = NewNode::new("Flatten", [pooled.as_str()], [output]);
            nodes.message(schema::graph::NODE, flat)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::small_models::SmallGraph;

    /// Operators of a model with one node that becomes others.
    fn operators(rank: usize, node: NewNode<'static>, opset: i64) -> Option<Vec<String>> {
        let shape = &[2i64, 3, 4, 6, 5][..rank];
        let small = SmallGraph::new()
            .opset(opset)
            .input("x", shape)
            .node(node)
            .output("y", &[]);
        let changed = with_global_pools(&small.into_model()).unwrap()?;
        let nodes = changed.graph.nodes.iter();
        Some(nodes.map(|node| node.op_type.clone()).collect())
    }

    fn mean(axes: &[i64], keeps_axes: bool) -> NewNode<'static> {
        NewNode::new("ReduceMean", ["x"], ["y"])
            .attribute("axes", axes.to_vec())
            .attribute("keepdims", i64::from(keeps_axes))
    }

    #[test]
    fn means_over_all_pixels_become_pools() {
        let pool = || vec!["GlobalAveragePool".to_owned()];
        assert_eq!(operators(4, mean(&[2, 3], true), 13), Some(pool()));
        assert_eq!(operators(4, mean(&[-1, -2], true), 13), Some(pool()));
        assert_eq!(operators(5, mean(&[2, 3, 4], true), 13), Some(pool()));
        let flat = operators(4, mean(&[2, 3], false), 13).unwrap();
        assert_eq!(flat, ["GlobalAveragePool", "Flatten"]);
    }

    #[test]
    fn other_means_stay() {
        for (rank, axes) in [(4, &[3][..]), (4, &[1, 2, 3]), (3, &[2]), (5, &[3, 4])] {
            assert_eq!(operators(rank, mean(axes, true), 13), None, "{axes:?}");
        }
        let sum = NewNode::new("ReduceMax", ["x"], ["y"]).attribute("axes", vec![2, 3]);
        assert_eq!(operators(4, sum, 13), None);
    }
}
