//! Constants read under their own names.
//!
//! PyTorch's exporter stores equal tensors once and gives the others an `Identity`
//! of the one. What reads such a copy reads the constant itself, so that layers
//! that share weights are seen to share them.

use std::collections::{HashMap, HashSet};

use campana_onnx::{Content, Edits, Graph, Model, Node, schema};
use campana_quantize::{Error, ErrorKind};

use crate::opset;

/// The model without copies of constants; `None` where it has none. A copy that is
/// an output of the model stays.
///
/// # Errors
///
/// Where the model cannot be written without them.
pub(crate) fn with_direct_constants(model: &Model) -> Result<Option<Model>, Error> {
    let copies = copies(&model.graph);
    if copies.is_empty() {
        return Ok(None);
    }
    let fault = |error| {
        Error::new(
            ErrorKind::InvalidModel,
            "cannot read constants without their copies",
        )
        .with_source(error)
    };
    let mut edits = Edits::new(model);
    for graph in opset::graphs(model) {
        for node in &graph.nodes {
            let is_copy = |output: &String| copies.contains_key(output.as_str());
            if node.outputs.iter().any(is_copy) {
                edits.remove(node.message);
            } else if node.inputs.iter().any(is_copy) {
                rename_inputs(model, node, &copies, &mut edits).map_err(fault)?;
            }
        }
    }
    edits.into_model().map(Some).map_err(fault)
}

/// The constant that each copy in a graph is of.
fn copies(graph: &Graph) -> HashMap<&str, &str> {
    let tensors = graph.initializers.iter().map(|tensor| &*tensor.name);
    let given: HashSet<&str> = graph.outputs.iter().map(|output| &*output.name).collect();
    let mut constants: HashSet<&str> = tensors.collect();
    let mut copies: HashMap<&str, &str> = HashMap::new();
    for node in &graph.nodes {
        match (node.op_type.as_str(), &*node.inputs, &*node.outputs) {
            ("Constant", [], [output]) => {
                constants.insert(output);
            }
            ("Identity", [input], [output])
                if opset::is_onnx(&node.domain) && !given.contains(output.as_str()) =>
            {
                let original = copies.get(input.as_str()).copied();
                if let Some(original) = original.or(constants.get(input.as_str()).copied()) {
                    copies.insert(output, original);
                }
            }
            _ => {}
        }
    }
    copies
}

/// Lets a node read originals instead of copies.
fn rename_inputs<'m>(
    model: &'m Model,
    node: &'m Node,
    copies: &HashMap<&str, &'m str>,
    edits: &mut Edits<'m>,
) -> campana_onnx::Result<()> {
    let fields = model.fields(node.message)?;
    let mut runs = fields
        .iter()
        .filter(|run| run.number == schema::node::INPUT);
    let mut inputs = Content::default();
    for input in &node.inputs {
        let original = copies.get(input.as_str()).copied();
        inputs = inputs.string(schema::node::INPUT, original.unwrap_or(input));
    }
    if let Some(first) = runs.next() {
        edits.replace_fields(node.message, first.span, inputs);
    }
    for other in runs {
        edits.replace_fields(node.message, other.span, Content::default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::small_models::SmallGraph;
    use campana_onnx::{AttributeValue, NewNode};

    #[test]
    fn layers_behind_copies_read_the_constant() {
        let branch = |name: &str| {
            SmallGraph::new()
                .node(NewNode::new("MatMul", ["c", "w2"], [name]))
                .output(name, &[])
                .into_fields()
        };
        let model = SmallGraph::new()
            .input("x", &[1, 4, 8, 8])
            .weights("w", &[4, 4, 3, 3])
            .node(NewNode::new("Identity", ["w"], ["w1"]))
            .node(NewNode::new("Identity", ["w1"], ["w2"]))
            .node(NewNode::new("Identity", ["w2"], ["given"]))
            .node(NewNode::new("Identity", ["x"], ["a"]))
            .node(NewNode::new("Conv", ["a", "w1"], ["b"]).attribute("group", 1))
            .node(NewNode::new("Conv", ["b", "w2"], ["c"]))
            .node(
                NewNode::new("If", ["x"], ["y"])
                    .attribute(
                        "then_branch",
                        campana_onnx::NewAttribute::Graph(branch("t")),
                    )
                    .attribute(
                        "else_branch",
                        campana_onnx::NewAttribute::Graph(branch("e")),
                    ),
            )
            .output("y", &[])
            .output("given", &[])
            .into_model();
        let direct = with_direct_constants(&model).unwrap().expect("changed");
        let nodes = &direct.graph.nodes;
        let ops: Vec<&str> = nodes.iter().map(|node| &*node.op_type).collect();
        assert_eq!(ops, ["Identity", "Identity", "Conv", "Conv", "If"]);
        assert_eq!(nodes[0].inputs, ["w"]);
        assert_eq!(nodes[1].inputs, ["x"]);
        assert_eq!(nodes[2].inputs, ["a", "w"]);
        assert_eq!(nodes[2].int("group"), Some(1));
        assert_eq!(nodes[3].inputs, ["b", "w"]);
        let Some(AttributeValue::Graph(then)) =
            nodes[4].attribute("then_branch").map(|found| &found.value)
        else {
            panic!("no branch");
        };
        assert_eq!(then.nodes[0].inputs, ["c", "w"]);
        assert!(with_direct_constants(&direct).unwrap().is_none());
    }
}
