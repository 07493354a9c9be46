//! Graphs inside of nodes: what If, Loop and Scan run.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use campana_ir::graph::{Attribute, Graph, Node, Value};

use super::{Constants, Plan, PlanOptions};
use crate::error::PlanError;
use crate::ops::is_control_flow;

/// A graph that a node runs, planned: its inputs are those that it declares
/// and then what it takes from around it.
#[derive(Debug)]
pub(crate) struct Body {
    /// The attribute that holds it.
    pub(crate) attribute: String,
    pub(crate) plan: Arc<Plan>,
    /// Inputs that the graph declares.
    pub(crate) declared: usize,
    /// The node's inputs that the further inputs of the plan are.
    pub(crate) captured: Vec<usize>,
}

/// The nodes, each with what its graphs take from around them as further
/// inputs: so they count as read wherever reads count.
pub(super) fn with_captures(nodes: &[Node]) -> Cow<'_, [Node]> {
    if nodes.iter().all(|node| node.graphs().next().is_none()) {
        return Cow::Borrowed(nodes);
    }
    let wide = nodes.iter().map(|node| {
        let mut wide = node.clone();
        let names: BTreeSet<&str> = node
            .graphs()
            .flat_map(|(_, graph)| graph.captures())
            .collect();
        // Optional inputs that were left out stay left out.
        if !names.is_empty() {
            let places = match node.op_type.as_str() {
                "Loop" => 2,
                _ => 0,
            };
            let len = wide.inputs.len().max(places);
            wide.inputs.resize(len, String::new());
        }
        wide.inputs.extend(names.into_iter().map(str::to_owned));
        wide
    });
    Cow::Owned(wide.collect())
}

/// Plans the graphs of a node; what they take from around them is among its inputs.
pub(super) fn plan(
    node: &Node,
    constants: &Constants<'_>,
    options: &PlanOptions,
) -> Result<Vec<Body>, PlanError> {
    if !is_control_flow(&node.domain, &node.op_type) {
        return Ok(Vec::new());
    }
    let mut bodies = Vec::new();
    for (attribute, graph) in node.graphs() {
        let mut own = graph.clone();
        let declared = own.inputs.len();
        let mut captured = Vec::new();
        for name in graph.captures() {
            match constants.get(name) {
                Some(tensor) => {
                    let tensor = tensor.clone().into_owned();
                    own.constants.insert(name.to_owned(), tensor);
                }
                None => {
                    let index = node.inputs.iter().rposition(|input| input == name);
                    captured.push(index.ok_or_else(|| {
                        PlanError::graph(format!("nothing makes {name:?} for {attribute}"))
                    })?);
                    own.inputs.push(Value {
                        name: name.to_owned(),
                        element_type: None,
                        shape: None,
                    });
                }
            }
        }
        let plan = Plan::new(own, options.clone())?;
        bodies.push(Body {
            attribute: attribute.to_owned(),
            plan: Arc::new(plan),
            declared,
            captured,
        });
    }
    Ok(bodies)
}

/// The nodes of a branch in place of the If node that would run it; its
/// constants are added. Names made in the branch are made unlike all others.
pub(super) fn inlined(node: &Node, branch: &Graph, constants: &mut Constants<'_>) -> Vec<Node> {
    let own = node.outputs.first().map_or("", String::as_str);
    let made = branch.nodes.iter().flat_map(|node| &node.outputs);
    let names: HashMap<String, String> = made
        .chain(branch.constants.keys())
        .filter(|name| !name.is_empty())
        // A name that no graph can contain: its own end where the zero begins.
        .map(|name| (name.clone(), format!("{name}\0in {own}")))
        .collect();
    let mut branch = branch.clone();
    rename(&mut branch, &names);
    for (name, tensor) in std::mem::take(&mut branch.constants) {
        let name = names.get(&name).cloned().unwrap_or(name);
        constants.insert(name, Cow::Owned(tensor));
    }
    let ends = branch.outputs.iter().zip(&node.outputs);
    let ends = ends.map(|(from, to)| Node {
        name: node.name.clone(),
        op_type: "Identity".to_owned(),
        inputs: vec![from.name.clone()],
        outputs: vec![to.clone()],
        ..Node::default()
    });
    let ends: Vec<Node> = ends.collect();
    branch.nodes.into_iter().chain(ends).collect()
}

/// Gives values of a graph, and of the graphs in it, other names.
fn rename(graph: &mut Graph, names: &HashMap<String, String>) {
    let renamed = |name: &mut String| {
        if let Some(new) = names.get(name) {
            name.clone_from(new);
        }
    };
    for node in &mut graph.nodes {
        node.inputs.iter_mut().for_each(renamed);
        node.outputs.iter_mut().for_each(renamed);
        for attribute in node.attributes.values_mut() {
            if let Attribute::Graph(graph) = attribute {
                rename(graph, names);
            }
        }
    }
    graph
        .outputs
        .iter_mut()
        .for_each(|value| renamed(&mut value.name));
}
