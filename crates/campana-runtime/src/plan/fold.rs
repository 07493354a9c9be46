//! Computing what depends on constants alone.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};

use campana_ir::graph::{Attribute, Node};
use campana_tensor::TensorData;

use super::{Constants, PlanOptions, bodies, constant_call};
use crate::error::PlanError;
use crate::ops::{Fault, is_control_flow, len_bytes, operator, run};

/// Runs every node whose inputs are all constant, puts the branch that is
/// taken in place of each If whose condition is, and gives the others back.
/// Constants that nothing reads any more are dropped.
pub(super) fn fold(
    nodes: &[Node],
    constants: &mut Constants<'_>,
    graph_outputs: &HashSet<&str>,
    options: &PlanOptions,
    opset: i64,
) -> Result<Vec<Node>, PlanError> {
    let mut uses: HashMap<String, usize> = HashMap::new();
    for name in nodes.iter().flat_map(|node| &node.inputs) {
        *uses.entry(name.clone()).or_default() += 1;
    }
    let mut rest = Vec::new();
    let mut computed_bytes = 0;
    // Constants that were computed here, and may be dropped.
    let mut computed: HashSet<String> = HashSet::new();
    let mut waiting: VecDeque<Cow<'_, Node>> = nodes.iter().map(Cow::Borrowed).collect();
    while let Some(node) = waiting.pop_front() {
        if let Some(branch) = taken_branch(&node, constants) {
            let inner = bodies::inlined(&node, branch, constants);
            let inner = bodies::with_captures(&inner).into_owned();
            for name in inner.iter().flat_map(|node| &node.inputs) {
                *uses.entry(name.clone()).or_default() += 1;
            }
            for node in inner.into_iter().rev() {
                waiting.push_front(Cow::Owned(node));
            }
            continue;
        }
        let constant = node
            .inputs
            .iter()
            .all(|name| name.is_empty() || constants.contains_key(name));
        if !constant || operator(&node.domain, &node.op_type).is_none() {
            rest.push(node.into_owned());
            continue;
        }
        let results = {
            let mut call = constant_call(&node, opset, |name| constants.get(name).map(Cow::as_ref));
            call.max_bytes = Some(options.limits.max_value_bytes);
            call.interrupt = options.interrupt.as_ref();
            call.check_interrupt()
                .and_then(|()| run(&call))
                .map_err(|fault| PlanError::at(&node, fault))?
        };
        let bytes = results.iter().map(len_bytes);
        computed_bytes = bytes.fold(computed_bytes, u64::saturating_add);
        if computed_bytes > options.limits.max_run_bytes {
            let limit = options.limits.max_run_bytes;
            let fault = Fault::Limit(format!(
                "values computed from constants take {computed_bytes} bytes by here, of {limit} that they may"
            ));
            return Err(PlanError::at(&node, fault));
        }
        for (name, tensor) in node.outputs.iter().zip(results) {
            computed.insert(name.clone());
            constants.insert(name.clone(), Cow::Owned(tensor));
        }
        for name in &node.inputs {
            let left = uses.entry(name.clone()).or_default();
            *left = left.saturating_sub(1);
            if *left == 0 && computed.contains(name) && !graph_outputs.contains(name.as_str()) {
                let dropped = constants.remove(name);
                computed_bytes -= dropped.map_or(0, |dropped| len_bytes(&dropped));
            }
        }
    }
    Ok(rest)
}

/// The branch that an If node with a constant condition takes.
fn taken_branch<'n>(
    node: &'n Node,
    constants: &Constants<'_>,
) -> Option<&'n campana_ir::graph::Graph> {
    if !is_control_flow(&node.domain, &node.op_type) || node.op_type != "If" {
        return None;
    }
    let TensorData::Bool(condition) = constants.get(node.inputs.first()?)?.data() else {
        return None;
    };
    let branch = match condition.as_slice() {
        [true] => "then_branch",
        [false] => "else_branch",
        _ => return None,
    };
    match node.attributes.get(branch) {
        Some(Attribute::Graph(graph)) => Some(graph),
        _ => None,
    }
}
