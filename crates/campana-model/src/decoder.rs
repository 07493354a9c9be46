//! Finding weights that a graph computes from codes and levels.
//!
//! A quantized model in plain ONNX holds a few operators for each weight that
//! turn packed bytes into floats (the project's page on the ONNX form says
//! which). Running them gives back the float weights, eight times as large.
//! [`take`] runs them on what they mean instead: bytes become codes, a lookup
//! makes codes weights, and the terms and factors after it become shifts and
//! scales of groups. What comes out is the tensor as it is stored.
//!
//! Operators are judged by what they compute, not by their names or order in
//! the file: another writer's decoder is found too, as long as it is a lookup
//! of bytes (or of digits or bit planes in bytes) in tables of at most 256
//! levels. Whatever else a graph computes from constants is left alone.

mod evaluate;
mod form;
mod groups;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};

use campana_tensor::{Tensor, TensorData};

use crate::graph::{Attribute, Graph, Node};
use evaluate::evaluate;
use form::{Form, Found};

/// Operators of which decoders consist.
const DECODING: [&str; 7] = [
    "Cast",
    "Gather",
    "Reshape",
    "Slice",
    "Mul",
    "Add",
    "ReduceSum",
];

/// Elements that may be computed or copied in all for each byte that the graph
/// stores: one-bit codes take the most, 50 with all that decoders do to them.
const MAX_WORK_PER_BYTE: usize = 56;

/// Turns the graph's decoders into quantized tensors: these are then in
/// [`Graph::quantized`], and neither the operators that made them nor the
/// constants that only those read are there any more.
pub fn take(graph: &mut Graph) {
    // Nested graphs read names of this one; image networks have none.
    let is_nested = |value: &Attribute| matches!(value, Attribute::Graph(_));
    if graph
        .nodes
        .iter()
        .any(|node| node.attributes.values().any(is_nested))
    {
        return;
    }
    let outputs: HashSet<&str> = graph.outputs.iter().map(|v| v.name.as_str()).collect();
    let mut uses: HashMap<&str, usize> = HashMap::new();
    // Names that something else than a decoder reads.
    let mut wanted: HashSet<&str> = HashSet::new();
    for node in &graph.nodes {
        for name in &node.inputs {
            *uses.entry(name).or_default() += 1;
            if !is_decoding(node) {
                wanted.insert(name);
            }
        }
    }
    let mut forms: HashMap<&str, Form<'_>> = HashMap::new();
    let mut found = Vec::new();
    let stored_len: usize = graph.constants.values().map(len_bytes).sum();
    let mut work_left = stored_len.saturating_mul(MAX_WORK_PER_BYTE);
    for node in &graph.nodes {
        let [output] = node.outputs.as_slice() else {
            continue;
        };
        if is_decoding(node) {
            let copied = copied_len(node, &graph.constants);
            let Some(left) = work_left.checked_sub(copied) else {
                break;
            };
            work_left = left;
        }
        let result = is_decoding(node)
            .then(|| evaluate(node, &graph.constants, &forms))
            .flatten();
        for name in &node.inputs {
            // Codes take a byte a weight here: kept no longer than needed.
            if let Some(count) = uses.get_mut(name.as_str()) {
                *count -= 1;
                if *count == 0 {
                    forms.remove(name.as_str());
                }
            }
        }
        let Some(form) = result else {
            continue;
        };
        let Some(left) = work_left.checked_sub(form.len()) else {
            break;
        };
        work_left = left;
        if let Form::Weights(weights) = &form
            && wanted.contains(output.as_str())
            && !outputs.contains(output.as_str())
            && let Some(tensor) = weights.to_quantized()
        {
            found.push((output.clone(), tensor));
        }
        if uses.contains_key(output.as_str()) {
            forms.insert(output, form);
        }
    }
    if !found.is_empty() {
        let names: HashSet<String> = found.iter().map(|(name, _)| name.clone()).collect();
        let freed = remove_unread(graph, &names);
        add_quantized(graph, found, freed);
    }
}

/// Adds tensors to the graph. Bytes that nothing else needs are theirs: large
/// models hold them once.
fn add_quantized(
    graph: &mut Graph,
    found: Vec<(String, Found)>,
    mut freed: BTreeMap<String, Tensor>,
) {
    let mut uses: HashMap<String, usize> = HashMap::new();
    for name in found
        .iter()
        .filter_map(|(_, found)| found.bytes_of.as_ref())
    {
        *uses.entry(name.clone()).or_default() += 1;
    }
    for (
        name,
        Found {
            mut tensor,
            bytes_of,
        },
    ) in found
    {
        if let Some(constant) = bytes_of {
            let left = uses.entry(constant.clone()).or_default();
            *left -= 1;
            let data = match freed.remove(&constant) {
                Some(own) if *left == 0 => Some(own.into_parts().1),
                Some(shared) => {
                    let data = shared.data().clone();
                    freed.insert(constant, shared);
                    Some(data)
                }
                None => graph
                    .constants
                    .get(&constant)
                    .map(|kept| kept.data().clone()),
            };
            if let Some(TensorData::U8(bytes)) = data {
                tensor.packed = bytes;
            }
            tensor
                .packed
                .truncate(tensor.packing.len_bytes(tensor.partition.len()));
        }
        graph.quantized.insert(name, tensor);
    }
}

fn len_bytes(tensor: &Tensor) -> usize {
    let element_type = tensor.data().element_type();
    element_type.len_bytes(tensor.len()).unwrap_or(0)
}

/// Elements of constants that an operator copies; packed bytes are read where
/// they are.
fn copied_len(node: &Node, constants: &BTreeMap<String, Tensor>) -> usize {
    let constants = node.inputs.iter().filter_map(|name| constants.get(name));
    constants
        .filter(|tensor| !matches!(tensor.data(), TensorData::U8(_)))
        .map(Tensor::len)
        .sum()
}

fn is_decoding(node: &Node) -> bool {
    node.domain.is_empty() && DECODING.contains(&node.op_type.as_str())
}

/// Removes the decoding operators whose results nothing reads any more, and
/// gives back the constants that only they read.
fn remove_unread(graph: &mut Graph, quantized: &HashSet<String>) -> BTreeMap<String, Tensor> {
    let mut read: HashSet<String> = graph.outputs.iter().map(|v| v.name.clone()).collect();
    let mut freed: HashSet<String> = HashSet::new();
    let mut kept = Vec::with_capacity(graph.nodes.len());
    for node in std::mem::take(&mut graph.nodes).into_iter().rev() {
        let unread = |name: &String| quantized.contains(name) || !read.contains(name);
        if is_decoding(&node) && node.outputs.iter().all(unread) {
            freed.extend(node.inputs);
        } else {
            read.extend(node.inputs.iter().cloned());
            kept.push(node);
        }
    }
    kept.reverse();
    graph.nodes = kept;
    let is_needed = |name: &String| read.contains(name) || !freed.contains(name);
    let constants = std::mem::take(&mut graph.constants);
    let (needed, freed) = constants.into_iter().partition(|(name, _)| is_needed(name));
    graph.constants = needed;
    freed
}
