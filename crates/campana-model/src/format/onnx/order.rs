//! Nodes in an order in which they can run.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet};

use crate::format::{Error, Result};
use crate::graph::{Attribute, Graph, Node};

/// The graph with its nodes in an order in which they can run, the given one
/// where it will do; and the names that it reads but does not make, each with
/// a reader.
pub(super) fn sorted(mut graph: Graph) -> Result<(Graph, BTreeMap<String, String>)> {
    let makers = makers(&graph)?;
    let mut captured = BTreeMap::new();
    // For each node: how many makers it waits for, and who waits for it.
    let mut waits = vec![0usize; graph.nodes.len()];
    let mut waiting: Vec<Vec<usize>> = vec![Vec::new(); graph.nodes.len()];
    for (position, node) in graph.nodes.iter().enumerate() {
        for name in reads(node) {
            match makers.get(name) {
                Some(Some(maker)) => {
                    waits[position] += 1;
                    waiting[*maker].push(position);
                }
                Some(None) => {}
                None => {
                    captured.insert(name.to_owned(), describe(node));
                }
            }
        }
    }
    for output in &graph.outputs {
        if !makers.contains_key(&*output.name) {
            captured.insert(output.name.clone(), "the graph's output".to_owned());
        }
    }
    let ready = (0..waits.len()).filter(|&position| waits[position] == 0);
    let mut ready: BinaryHeap<_> = ready.map(Reverse).collect();
    let mut order = Vec::with_capacity(graph.nodes.len());
    while let Some(Reverse(position)) = ready.pop() {
        order.push(position);
        for &reader in &waiting[position] {
            waits[reader] -= 1;
            if waits[reader] == 0 {
                ready.push(Reverse(reader));
            }
        }
    }
    if let Some(stuck) = waits.iter().position(|&count| count > 0) {
        let node = describe(&graph.nodes[stuck]);
        let message = format!("{node} waits for itself, or for nodes that do");
        return Err(Error::malformed(message));
    }
    let mut nodes: Vec<_> = graph.nodes.into_iter().map(Some).collect();
    graph.nodes = order
        .into_iter()
        .filter_map(|at| nodes[at].take())
        .collect();
    Ok((graph, captured))
}

/// Who makes each name: a node, or `None` for inputs and constants.
fn makers(graph: &Graph) -> Result<HashMap<&str, Option<usize>>> {
    let mut makers = HashMap::new();
    makers.extend(graph.constants.keys().map(|name| (&**name, None)));
    for input in &graph.inputs {
        if makers.insert(&*input.name, None).is_some() {
            return Err(Error::malformed(format!(
                "input {:?} is defined twice",
                input.name
            )));
        }
    }
    for (position, node) in graph.nodes.iter().enumerate() {
        for output in node.outputs.iter().filter(|name| !name.is_empty()) {
            if makers.insert(&**output, Some(position)).is_some() {
                let message = format!(
                    "{} makes {output:?}, which is made elsewhere too",
                    describe(node)
                );
                return Err(Error::malformed(message));
            }
        }
    }
    Ok(makers)
}

/// Every name that a node reads, those of its nested graphs included, once.
fn reads(node: &Node) -> BTreeSet<&str> {
    let mut names: BTreeSet<&str> = node.inputs.iter().map(|name| &**name).collect();
    for attribute in node.attributes.values() {
        if let Attribute::Graph(graph) = attribute {
            names.extend(captures(graph));
        }
    }
    names.remove("");
    names
}

/// The names that a nested graph takes from around it.
fn captures(graph: &Graph) -> BTreeSet<&str> {
    let outputs = graph.nodes.iter().flat_map(|node| &node.outputs);
    let inputs = graph.inputs.iter().map(|input| &input.name);
    let own: HashSet<&str> = graph
        .constants
        .keys()
        .chain(inputs)
        .chain(outputs)
        .map(|name| &**name)
        .collect();
    let mut names: BTreeSet<&str> = graph.nodes.iter().flat_map(reads).collect();
    names.extend(graph.outputs.iter().map(|output| &*output.name));
    names.retain(|name| !own.contains(name));
    names
}

fn describe(node: &Node) -> String {
    node_name(&node.name, &node.op_type, &node.outputs)
}

/// A node as an error shows it; many files do not name their nodes.
pub(super) fn node_name(name: &str, op_type: &str, outputs: &[String]) -> String {
    let op_type = shown(op_type);
    match (name, outputs.first()) {
        ("", Some(output)) => format!("node {op_type} that makes {:?}", shown(output)),
        (name, _) => format!("node {:?} ({op_type})", shown(name)),
    }
}

/// The first bytes of a name: a file may have names of a megabyte, and many
/// nodes to describe.
fn shown(name: &str) -> &str {
    const MAX_LEN: usize = 200;
    let end = (0..=MAX_LEN.min(name.len())).rfind(|&end| name.is_char_boundary(end));
    &name[..end.unwrap_or(0)]
}
