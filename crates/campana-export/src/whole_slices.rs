//! Slices that take all of their input.
//!
//! Exported GhostNets cut the channels that a block has too many, also where these are
//! none. Such a Slice between two rounded activations takes OpenVINO down (a
//! segmentation fault in 2026.4): before activations are rounded, what reads it reads
//! its input.

use std::collections::{HashMap, HashSet};

use campana_ir::format::onnx;
use campana_ir::network::Network;
use campana_ir::op::Op;
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

/// Whether a node gives its float input as it is, by the shapes of both.
fn takes_everything(network: &Network<'_>, node: usize) -> bool {
    let own = network.node(node);
    let value = |name: Option<&String>| network.value(name?);
    let shape = |name| value(name).and_then(|value| value.shape.as_ref());
    let (input, output) = (own.inputs.first(), own.outputs.first());
    let steps = own.inputs.get(4).filter(|name| !name.is_empty());
    let goes_forwards = || {
        let known = value(steps).and_then(|value| value.integers.as_ref());
        steps.is_none() || known.is_some_and(|steps| steps.iter().all(|&step| step == 1))
    };
    matches!(network.op(node), Op::Slice)
        && input.is_some_and(|input| network.is_activation(input))
        && shape(input).is_some()
        && shape(input) == shape(output)
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
}
