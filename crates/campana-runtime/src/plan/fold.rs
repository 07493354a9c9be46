//! Computing what depends on constants alone.

use std::borrow::Cow;

use campana_ir::graph::Node;

use super::{Constants, constant_call};
use crate::error::PlanError;
use crate::ops::operator;

/// Runs every node whose inputs are all constant, and gives the others back.
pub(super) fn fold(
    nodes: &[Node],
    constants: &mut Constants<'_>,
    opset: i64,
) -> Result<Vec<Node>, PlanError> {
    let mut rest = Vec::new();
    for node in nodes {
        let constant = node
            .inputs
            .iter()
            .all(|name| name.is_empty() || constants.contains_key(name));
        let Some(run) = operator(&node.domain, &node.op_type).filter(|_| constant) else {
            rest.push(node.clone());
            continue;
        };
        let results = {
            let call = constant_call(node, opset, |name| constants.get(name).map(Cow::as_ref));
            run(&call).map_err(|fault| PlanError::at(node, fault))?
        };
        for (name, tensor) in node.outputs.iter().zip(results) {
            constants.insert(name.clone(), Cow::Owned(tensor));
        }
    }
    Ok(rest)
}
