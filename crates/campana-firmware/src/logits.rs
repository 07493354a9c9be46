//! Softmaxes at the end of a network: they need exponentials of floats, and
//! the largest logit is the largest probability.

use campana_ir::graph::Graph;

/// Gives what softmaxes read in place of outputs that they make; says so.
pub(crate) fn leave_out_softmax(graph: &mut Graph) -> Option<String> {
    let mut left_out = Vec::new();
    for at in 0..graph.outputs.len() {
        let name = graph.outputs[at].name.clone();
        let makes = |op_type: &str| matches!(op_type, "Softmax" | "LogSoftmax");
        let softmax = graph.nodes.iter().position(|node| {
            makes(&node.op_type) && node.domain.is_empty() && node.outputs.first() == Some(&name)
        });
        let Some(softmax) = softmax else { continue };
        let is_read = graph
            .nodes
            .iter()
            .any(|node| node.reads().any(|read| read == name));
        let logits = graph.nodes[softmax].inputs.first().cloned();
        if let Some(logits) = logits.filter(|_| !is_read) {
            graph.nodes.remove(softmax);
            graph.outputs[at].name = logits;
            left_out.push(format!("'{name}'"));
        }
    }
    (!left_out.is_empty()).then(|| {
        let names = left_out.join(", ");
        format!("The softmax of {names} is left out: the output is its logits.")
    })
}
