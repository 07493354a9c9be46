//! Slices that take all of their input.
//!
//! Exported GhostNets cut the channels that a block has too many, also where these are
//! none. Such a Slice between two rounded activations takes OpenVINO down (a
//! segmentation fault in 2026.4): before activations are rounded, what reads it reads
//! its input.

use std::collections::{HashMap, HashSet};

use campana_ir::format::onnx;
use campana_ir::graph::Dim;
use campana_ir::network::Network;
use campana_ir::op::{Op, axis_from_start};
use campana_onnx::Model;
use campana_quantize::Error;

use crate::aliases::{defined, without_makers};

/// The model without the slices of its own graph that take everything; `None` where
/// it has none.
///
/// # Errors
///
/// Where the model cannot be written without them.
pub(crate) fn without_whole_slices(model: &Model) -> Result<Option<Model>, Error> {
    if !model.graph.nodes.iter().any(|node| node.op_type == "Slice") {
        return Ok(None);
    }
    // What cannot be analysed is refused where it matters.
    let Ok(graph) = onnx::graph(model) else {
        return Ok(None);
    };
    let Ok(network) = Network::new(&graph) else {
        return Ok(None);
    };
    let graphs = model.graphs();
    let inner: HashSet<&str> = graphs[1..]
        .iter()
        .flat_map(|graph| defined(graph))
        .collect();
    let mut names: HashMap<&str, String> = HashMap::new();
    for node in (0..graph.nodes.len()).filter(|&node| takes_everything(&network, node)) {
        let node = network.node(node);
        let ends = (node.inputs.first(), node.outputs.first());
        let (Some(input), Some(output)) = ends else {
            continue;
        };
        let is_free = |name: &String| !inner.contains(name.as_str());
        if !network.is_output(output) && is_free(output) && is_free(input) {
            let own = names.get(input.as_str()).unwrap_or(input).clone();
            names.insert(output, own);
        }
    }
    match names.is_empty() {
        true => Ok(None),
        false => without_makers(model, &names).map(Some),
    }
}

/// Whether a node gives its float input as it is, by the shapes of both. Of an axis
/// of unknown extent nobody knows how much a slice leaves.
fn takes_everything(network: &Network<'_>, node: usize) -> bool {
    let own = network.node(node);
    let value = |name: Option<&String>| network.value(name?);
    let shape = |name| value(name).and_then(|value| value.shape.as_ref());
    let given = |input: usize| own.inputs.get(input).filter(|name| !name.is_empty());
    let known = |input: usize| value(given(input)).and_then(|value| value.integers.as_ref());
    let goes_forwards =
        || given(4).is_none() || known(4).is_some_and(|steps| steps.iter().all(|&step| step == 1));
    let (Some(before), Some(after)) = (shape(own.inputs.first()), shape(own.outputs.first()))
    else {
        return false;
    };
    let is_sliced = |axis: usize| match known(3) {
        Some(axes) => axes
            .iter()
            .any(|&other| axis_from_start(other, before.len()) == Some(axis)),
        None => true,
    };
    let is_whole = |(axis, (before, after)): (usize, (&Dim, &Dim))| {
        before == after && (matches!(before, Dim::Fixed(_)) || !is_sliced(axis))
    };
    let is_float = own
        .inputs
        .first()
        .is_some_and(|input| network.is_activation(input));
    matches!(network.op(node), Op::Slice)
        && is_float
        && before.len() == after.len()
        && before.iter().zip(after).enumerate().all(is_whole)
        && goes_forwards()
}

#[cfg(test)]
mod tests {
    use campana_onnx::NewNode;
    use campana_tensor::ElementType;

    use super::*;
    use crate::small_models::SmallGraph;

    #[test]
    fn what_reads_a_slice_of_everything_reads_its_input() {
        let integers = [
            ("start", 0),
            ("all", 4),
            ("some", 3),
            ("axis", 1),
            ("back", -1),
            ("far", -9),
        ];
        let graph = integers
            .into_iter()
            .fold(SmallGraph::new(), |graph, (name, value)| {
                graph.tensor(
                    name,
                    &[1],
                    ElementType::I64,
                    i64::to_le_bytes(value).to_vec(),
                )
            });
        let graph = graph
            .input("x", &[1, 4, 3, 3])
            .node(NewNode::new("Relu", ["x"], ["r"]))
            .node(NewNode::new("Slice", ["r", "start", "all", "axis"], ["s"]))
            .node(NewNode::new("Slice", ["s", "start", "all", "axis"], ["t"]))
            .node(NewNode::new("Slice", ["t", "start", "some", "axis"], ["u"]))
            .node(NewNode::new(
                "Slice",
                ["t", "back", "far", "axis", "back"],
                ["v"],
            ))
            .node(NewNode::new("Sum", ["t", "t"], ["y"]))
            .output("y", &[])
            .output("u", &[])
            .output("v", &[]);
        let found = without_whole_slices(&graph.into_model()).unwrap();
        let nodes = found.expect("two of them").graph.nodes;
        let read: Vec<&str> = nodes.iter().map(|node| &*node.inputs[0]).collect();
        assert_eq!(read, ["x", "r", "r", "r"]);
    }

    #[test]
    fn a_slice_of_an_axis_of_unknown_extent_stays() {
        let integers = [("one", 1), ("end", i64::MAX), ("rows", 2), ("channels", 1)];
        let graph = integers
            .into_iter()
            .fold(SmallGraph::new(), |graph, (name, value)| {
                let bytes = i64::to_le_bytes(value).to_vec();
                graph.tensor(name, &[1], ElementType::I64, bytes)
            })
            .tensor("none", &[1], ElementType::I64, vec![0; 8]);
        let cut = ["r", "one", "end", "rows"];
        let graph = graph
            .input("x", &[1, 4, -1, -1])
            .node(NewNode::new("Relu", ["x"], ["r"]))
            .node(NewNode::new("Slice", cut, ["y"]))
            .node(NewNode::new(
                "Slice",
                ["r", "none", "end", "channels"],
                ["s"],
            ))
            .node(NewNode::new("Relu", ["s"], ["z"]))
            .output("y", &[])
            .output("z", &[]);
        let found = without_whole_slices(&graph.into_model()).unwrap();
        let nodes = found.expect("one of them").graph.nodes;
        let types: Vec<&str> = nodes.iter().map(|node| &*node.op_type).collect();
        assert_eq!(types, ["Relu", "Slice", "Relu"]);
    }
}
