//! Nodes that no output depends on, which need neither flash nor time.

use std::collections::HashSet;

use campana_ir::graph::Graph;

/// Takes them out of a graph.
pub(crate) fn drop_dead_nodes(graph: &mut Graph) {
    let outputs = graph.outputs.iter().map(|output| output.name.clone());
    let mut needed: HashSet<String> = outputs.collect();
    let mut is_live = vec![false; graph.nodes.len()];
    // Nodes follow those that make their inputs.
    for (node, is_live) in graph.nodes.iter().zip(&mut is_live).rev() {
        *is_live = node.outputs.iter().any(|name| needed.contains(name));
        if *is_live {
            needed.extend(node.reads().map(str::to_owned));
        }
    }
    let mut is_live = is_live.into_iter();
    graph.nodes.retain(|_| is_live.next().unwrap_or(true));
}
