//! Rounding before concatenations instead of behind them: the values are the same,
//! the layers before give codes, and codes are what is concatenated.

use std::collections::{HashMap, HashSet};

use campana_ir::graph::Node;

use super::{Constants, PlannedNode, quant_params_of};

/// Moves quantizations of concatenated values, which nothing else reads, to what is
/// concatenated.
pub(super) fn round_before(
    nodes: &mut Vec<PlannedNode>,
    constants: &Constants<'_>,
    only_use: impl Fn(&str) -> bool,
) {
    let names: HashSet<String> = nodes
        .iter()
        .flat_map(|planned| planned.node.inputs.iter().chain(&planned.node.outputs))
        .cloned()
        .collect();
    // Quantizations of values, by the value's name.
    let mut wanted: HashMap<String, Node> = HashMap::new();
    let mut done: Vec<PlannedNode> = Vec::with_capacity(nodes.len());
    for mut planned in nodes.drain(..).rev() {
        let node = &mut planned.node;
        if quant_params_of(node).is_some() && only_use(&node.inputs[0]) {
            wanted.insert(node.inputs[0].clone(), node.clone());
        }
        let rounding = wanted.get(node.outputs.first().map_or("", String::as_str));
        let is_concat = node.op_type == "Concat" && node.domain.is_empty();
        let has_constant = || node.inputs.iter().any(|name| constants.contains_key(name));
        let Some(rounding) = rounding.cloned().filter(|_| is_concat && !has_constant()) else {
            done.push(planned);
            continue;
        };
        let mut before = Vec::new();
        for (place, input) in node.inputs.iter_mut().enumerate() {
            let mut rounded = format!("{input}/{}/{place}", rounding.outputs[0]);
            while names.contains(&rounded) {
                rounded.push('/');
            }
            let rounding = Node {
                name: String::new(),
                inputs: vec![input.clone()],
                outputs: vec![rounded.clone()],
                ..rounding.clone()
            };
            if only_use(input) {
                wanted.insert(input.clone(), rounding.clone());
            }
            before.push(PlannedNode::new(rounding));
            *input = rounded;
        }
        done.push(planned);
        done.extend(before);
    }
    done.reverse();
    *nodes = done;
}
