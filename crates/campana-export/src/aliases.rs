//! Constants under several names, as one.
//!
//! Exporters share weights by an Identity: a layer behind it reads a constant
//! under another name. Without it all layers read the one constant, which forms
//! on integers store once.

use std::collections::{HashMap, HashSet};

use campana_onnx::{Content, Edits, Graph, Model, Node, schema};
use campana_quantize::{Error, ErrorKind};

use crate::opset;

/// The model without the Identity nodes of its own graph that give constants
/// other names; `None` where it has none.
///
/// # Errors
///
/// Where the model cannot be read.
pub(crate) fn without_aliases(model: &Model) -> Result<Option<Model>, Error> {
    let names = aliases(model);
    if names.is_empty() {
        return Ok(None);
    }
    without_makers(model, &names).map(Some)
}

/// The model without the nodes of its own graph that give these other names to values;
/// what read such a name reads the value's own.
///
/// # Errors
///
/// Where the model cannot be written so.
pub(crate) fn without_makers(model: &Model, names: &HashMap<&str, String>) -> Result<Model, Error> {
    let failed = |error: campana_onnx::Error| {
        let message = "cannot leave out nodes that only give values other names";
        Error::new(ErrorKind::InvalidModel, message).with_source(error)
    };
    let mut edits = Edits::new(model);
    for (depth, graph) in model.graphs().into_iter().enumerate() {
        for node in &graph.nodes {
            let gives_alias = |output: &String| names.contains_key(output.as_str());
            if depth == 0 && node.outputs.iter().any(gives_alias) {
                edits.remove(node.message);
            } else {
                rename(model, &mut edits, node, names).map_err(failed)?;
            }
        }
    }
    edits.into_model().map_err(failed)
}

/// The constants' own names, by the others. Those that a graph inside of a node
/// uses for something else, or an output has, are none.
fn aliases(model: &Model) -> HashMap<&str, String> {
    let graph = &model.graph;
    let constants = graph.nodes.iter().filter(|node| node.op_type == "Constant");
    let constants = constants.flat_map(|node| &node.outputs).map(String::as_str);
    let stored = graph.initializers.iter().map(|tensor| tensor.name.as_str());
    let stored: HashSet<&str> = stored.chain(constants).collect();
    let graphs = model.graphs();
    let mut taken: HashSet<&str> = graph.outputs.iter().map(|value| &*value.name).collect();
    for inner in &graphs[1..] {
        taken.extend(defined(inner));
    }
    let mut names: HashMap<&str, String> = HashMap::new();
    for node in &graph.nodes {
        let ([from], [to]) = (&*node.inputs, &*node.outputs) else {
            continue;
        };
        let is_alias = node.op_type == "Identity" && opset::is_onnx(&node.domain);
        if !is_alias || taken.contains(to.as_str()) || taken.contains(from.as_str()) {
            continue;
        }
        if let Some(own) = names.get(from.as_str()) {
            names.insert(to, own.clone());
        } else if stored.contains(from.as_str()) {
            names.insert(to, from.clone());
        }
    }
    names
}

/// Names that a graph gives to values, or returns.
pub(crate) fn defined(graph: &Graph) -> impl Iterator<Item = &str> {
    let values = graph.inputs.iter().chain(&graph.outputs);
    let stored = graph.initializers.iter().map(|tensor| &tensor.name);
    let made = graph.nodes.iter().flat_map(|node| &node.outputs);
    let names = values.map(|value| &value.name).chain(stored).chain(made);
    names.map(String::as_str)
}

/// Has a node read and give values under these names.
pub(crate) fn rename(
    model: &Model,
    edits: &mut Edits<'_>,
    node: &Node,
    names: &HashMap<&str, String>,
) -> Result<(), campana_onnx::Error> {
    let lists = [
        (schema::node::INPUT, &node.inputs),
        (schema::node::OUTPUT, &node.outputs),
    ];
    for (field, list) in lists {
        if !list.iter().any(|name| names.contains_key(name.as_str())) {
            continue;
        }
        let renamed = list.iter().fold(Content::default(), |content, name| {
            content.string(field, names.get(name.as_str()).unwrap_or(name))
        });
        let mut renamed = Some(renamed);
        for run in model.fields(node.message)? {
            if run.number == field {
                let names = renamed.take().unwrap_or_default();
                edits.replace_fields(node.message, run.span, names);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use campana_onnx::NewNode;

    use super::*;
    use crate::small_models::SmallGraph;

    fn network(outputs: &[&str]) -> Model {
        let graph = SmallGraph::new()
            .input("x", &[1, 2])
            .weights("w", &[2, 2])
            .node(NewNode::new("Identity", ["w"], ["v"]))
            .node(NewNode::new("Identity", ["v"], ["u"]))
            .node(NewNode::new("Identity", ["x"], ["z"]))
            .node(NewNode::new("MatMul", ["z", "w"], ["a"]))
            .node(NewNode::new("MatMul", ["a", "u"], ["y"]));
        let graph = outputs
            .iter()
            .fold(graph, |graph, output| graph.output(output, &[]));
        graph.into_model()
    }

    #[test]
    fn layers_read_constants_under_their_own_names() {
        let joined = without_aliases(&network(&["y"])).unwrap().expect("aliases");
        let nodes = &joined.graph.nodes;
        let read: Vec<_> = nodes.iter().map(|node| node.inputs.join(" ")).collect();
        assert_eq!(read, ["x", "z w", "a w"]);
        assert!(without_aliases(&joined).unwrap().is_none());
    }

    #[test]
    fn outputs_keep_their_names() {
        let joined = without_aliases(&network(&["y", "v"])).unwrap();
        assert!(joined.is_none());
    }
}
