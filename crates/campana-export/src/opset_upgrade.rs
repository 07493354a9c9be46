//! A model of an older operator set in the form of the one that a target needs:
//! opset 13, the first with a scale for each channel in DequantizeLinear, or
//! opset 21, the first with tensors of 4-bit integers.
//!
//! [`CHANGES`] lists the operators whose form or meaning changed on the way,
//! after ONNX's operator changelog, each with what makes the new form of the
//! old; all others only came to accept more. Attributes that became inputs are
//! `Constant` nodes before the node.

mod changes;
mod form;
mod ranks;

use campana_onnx::{Edits, Graph, Model};
use campana_quantize::{Error, ErrorKind};

use self::changes::CHANGES;
use self::form::{NewForm, Upgrade};
use self::ranks::Ranks;
use crate::opset;

/// The opset that models are raised to where integers are behind
/// DequantizeLinear, or another form is made of them.
pub(crate) const RAISED_TO: i64 = 13;

/// The oldest opset that is raised: before, operators broadcast as attributes
/// told.
pub(crate) const MIN_OPSET: i64 = 7;

/// The model at the opset `to`, which is at most 21; `None` where it is not
/// older.
///
/// # Errors
///
/// Of kind `Unsupported`, with the node's name, where a node has no form at
/// that opset.
pub(crate) fn upgraded(model: &Model, to: i64) -> Result<Option<Model>, Error> {
    let from = opset::version(model);
    if from >= to {
        return Ok(None);
    }
    let refused = |reason: &str| Err(unsupported([from, to], reason));
    if from < MIN_OPSET {
        return refused("opsets before 7 broadcast by attributes");
    }
    if !model.functions.is_empty() {
        return refused("the model defines functions of its own");
    }
    let mut edits = Edits::new(model);
    let mut upgrade = Upgrade {
        model,
        from,
        to,
        names: model.value_names(),
        fresh: 0,
        ranks: Ranks::default(),
    };
    for graph in model.graphs() {
        upgrade.ranks = Ranks::of(graph);
        upgrade_graph(&mut upgrade, graph, &mut edits)?;
    }
    opset::set_version(model, &mut edits, to);
    let raised = edits.into_model();
    raised.map(Some).map_err(|error| {
        Error::new(ErrorKind::InvalidModel, "cannot raise the model's opset").with_source(error)
    })
}

fn unsupported([from, to]: [i64; 2], reason: &str) -> Error {
    Error::new(
        ErrorKind::Unsupported,
        format!(
            "the target needs opset {to}, and the model's opset {from} cannot be raised to it: {reason}; \
             convert the model first (onnx.version_converter), or use --target lut"
        ),
    )
}

/// Puts the nodes of one graph into their new forms.
fn upgrade_graph<'m>(
    upgrade: &mut Upgrade<'m>,
    graph: &'m Graph,
    edits: &mut Edits<'m>,
) -> Result<(), Error> {
    for node in graph
        .nodes
        .iter()
        .filter(|node| opset::is_onnx(&node.domain))
    {
        let of_node = |change: &&changes::Change| {
            node.op_type == change.op_type
                && upgrade.from < change.since
                && change.since <= upgrade.to
        };
        let due: Vec<_> = CHANGES.iter().filter(of_node).collect();
        if due.is_empty() {
            continue;
        }
        let mut new = NewForm::of(node);
        for change in due {
            (change.make)(upgrade, node, &mut new).map_err(|reason| {
                let reason = format!("node '{}' ({}): {reason}", node.name, node.op_type);
                unsupported([upgrade.from, upgrade.to], &reason)
            })?;
        }
        if !new.is_changed {
            continue;
        }
        edits.replace(node.message, new.into_nodes(upgrade.model, node));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
