//! Constants of half precision that a network casts to float32, as float32
//! constants.
//!
//! Exporters halve files in this way while the network computes in float32. For
//! targets whose weights are float32 the casts are done beforehand; they are
//! exact.

use std::collections::{HashMap, HashSet};

use campana_onnx::{
    AttributeValue, Content, Edits, Graph, Model, NewNode, Node, TensorProto, schema,
};
use campana_quantize::{Error, ErrorKind};
use campana_tensor::ElementType;

use crate::opset;
use crate::single_precision::{is_half, widen, widen_value};

/// The model with float32 constants where it casts constants of half precision
/// and reads them in no other way: these keep their names, and each cast becomes
/// an Identity. `None` where it has no such casts.
///
/// # Errors
///
/// Where the model cannot be read, or would be larger than readers of ONNX
/// accept.
pub(crate) fn with_wide_constants(model: &Model) -> Result<Option<Model>, Error> {
    let mut edits = Edits::new(model);
    let read = read_otherwise(model);
    for graph in model.graphs() {
        let mut halves = halves(graph);
        halves.retain(|name, _| !read.contains(name));
        let mut cast = HashMap::new();
        for node in graph.nodes.iter().filter(|node| widens(node)) {
            let name = node.inputs.first().map_or("", String::as_str);
            if let Some(&tensor) = halves.get(name) {
                cast.insert(name, tensor);
                edits.replace(node.message, identity(node));
            }
        }
        for tensor in cast.values() {
            widen(model, &mut edits, tensor)?;
        }
        let lists = [
            (schema::graph::INPUT, &graph.inputs),
            (schema::graph::VALUE_INFO, &graph.value_info),
        ];
        for (field, values) in lists {
            let declared = values
                .iter()
                .filter(|value| cast.contains_key(&*value.name));
            declared.for_each(|value| widen_value(&mut edits, field, value));
        }
    }
    if edits.is_empty() {
        return Ok(None);
    }
    let widened = edits.into_model();
    widened.map(Some).map_err(|error| {
        let message = "cannot store the constants of half precision as float32";
        Error::new(ErrorKind::InvalidModel, message).with_source(error)
    })
}

/// The constants of half precision of a graph, by their names.
fn halves(graph: &Graph) -> HashMap<&str, &TensorProto> {
    let initializers = graph.initializers.iter();
    let initializers = initializers.map(|tensor| (tensor.name.as_str(), tensor));
    let constants = graph.nodes.iter().filter(|node| node.op_type == "Constant");
    let constants = constants.filter_map(|node| match &node.attribute("value")?.value {
        AttributeValue::Tensor(tensor) => Some((node.outputs.first()?.as_str(), &**tensor)),
        _ => None,
    });
    let all = initializers.chain(constants);
    all.filter(|(_, tensor)| is_half(tensor.element_type))
        .collect()
}

/// Whether a node casts to float32.
fn widens(node: &Node) -> bool {
    node.op_type == "Cast"
        && opset::is_onnx(&node.domain)
        && node.int("to") == Some(ElementType::F32.to_onnx().into())
}

/// The node that gives on what it reads, in the place of one that casts it.
fn identity(cast: &Node) -> Content<'static> {
    let mut node = NewNode::new("Identity", &cast.inputs, &cast.outputs);
    if !cast.name.is_empty() {
        node = node.name(&cast.name);
    }
    Content::default().message(schema::graph::NODE, node)
}

/// The values that are outputs, or read by more than casts to float32.
fn read_otherwise(model: &Model) -> HashSet<&str> {
    let graphs = model.graphs().into_iter();
    let reads = graphs.flat_map(|graph| {
        let nodes = graph.nodes.iter().filter(|node| !widens(node));
        let inputs = nodes.flat_map(|node| &node.inputs);
        inputs.chain(graph.outputs.iter().map(|output| &output.name))
    });
    reads.map(String::as_str).collect()
}

#[cfg(test)]
mod tests {
    use campana_formats::encode_f32;

    use super::*;
    use crate::small_models::SmallGraph;

    /// Values that half precision holds.
    const VALUES: [f32; 2] = [0.25, -2.0];

    fn with_half(nodes: Vec<NewNode<'static>>) -> Model {
        let halves = encode_f32(&VALUES, ElementType::F16);
        let graph = SmallGraph::new()
            .input("x", &[1, 2])
            .output("y", &[1, 2])
            .tensor("h", &[2, 1], ElementType::F16, halves);
        let graph = nodes.into_iter().fold(graph, SmallGraph::node);
        graph.into_model()
    }

    fn cast(to: ElementType) -> NewNode<'static> {
        NewNode::new("Cast", ["h"], ["w"]).attribute("to", i64::from(to.to_onnx()))
    }

    #[test]
    fn constants_that_are_cast_become_what_they_are_cast_to() {
        let product = NewNode::new("MatMul", ["x", "w"], ["y"]);
        let model = with_half(vec![cast(ElementType::F32), product]);
        let wide = with_wide_constants(&model).unwrap().expect("a cast");
        let [tensor] = &*wide.graph.initializers else {
            panic!("one constant");
        };
        assert_eq!((&*tensor.name, &*tensor.dims), ("h", &[2, 1][..]));
        assert_eq!(tensor.element_type, ElementType::F32);
        assert_eq!(wide.read_f32(tensor).unwrap(), VALUES);
        assert_eq!(wide.graph.nodes[0].op_type, "Identity");
    }

    #[test]
    fn a_constant_that_is_read_otherwise_stays() {
        let shape = NewNode::new("Shape", ["h"], ["s"]);
        let product = NewNode::new("MatMul", ["x", "w"], ["y"]);
        let model = with_half(vec![cast(ElementType::F32), shape, product]);
        assert!(with_wide_constants(&model).unwrap().is_none());
        let other = with_half(vec![cast(ElementType::F64)]);
        assert!(with_wide_constants(&other).unwrap().is_none());
    }
}
