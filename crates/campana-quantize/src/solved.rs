//! Which weights a correction solves anew.

use std::collections::{HashMap, HashSet};

use campana_ir::weights::{ModelTensor, Role};
use campana_onnx::Model;

/// Operators whose weights, input 1, a correction solves.
pub const LAYERS: [&str; 4] = ["Conv", "ConvTranspose", "Gemm", "MatMul"];

/// Names of the weights that only layers of the model's own graph read, all along
/// the same axis: a correction finds them codes for the least error of the
/// layers' outputs, so that what the design does to their mean does not stay.
/// Weights of recurrent layers, grouped transposed convolutions and graphs inside of
/// nodes keep their design.
pub fn solved_weights(model: &Model, tensors: &[ModelTensor<'_>]) -> HashSet<String> {
    let read_by_others = readers(model);
    let is_solved = |tensor: &&ModelTensor<'_>| {
        let has_axis = matches!(
            tensor.role,
            Role::Weight {
                channel_axis: Some(_),
                ..
            }
        );
        has_axis && read_by_others.get(tensor.name) == Some(&false)
    };
    let solved = tensors.iter().filter(is_solved);
    solved.map(|tensor| tensor.name.to_owned()).collect()
}

/// Whether each value that is read is read by anything but a layer of the main
/// graph, or given to its caller.
fn readers(model: &Model) -> HashMap<&str, bool> {
    let mut by_others: HashMap<&str, bool> = HashMap::new();
    for (depth, graph) in model.graphs().into_iter().enumerate() {
        for node in &graph.nodes {
            let is_grouped = node.int("group").is_some_and(|group| group != 1);
            let is_layer = depth == 0
                && LAYERS.contains(&node.op_type.as_str())
                && !(node.op_type == "ConvTranspose" && is_grouped);
            for (input, name) in node.inputs.iter().enumerate() {
                *by_others.entry(name).or_insert(false) |= !is_layer || input != 1;
            }
        }
        let outputs = graph.outputs.iter().map(|output| (&*output.name, true));
        by_others.extend(outputs);
    }
    by_others
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_ir::weights::constant_tensors;
    use campana_onnx::{Content, NewNode, NewTensor, Source, opset_import, schema};
    use campana_tensor::ElementType;

    #[test]
    fn weights_that_a_correction_does_not_reach_keep_their_design() {
        let mut graph = Content::default().string(schema::graph::NAME, "net");
        let nodes = [
            NewNode::new("Conv", ["x", "shared"], ["a"]),
            NewNode::new("Conv", ["a", "shared"], ["b"]),
            NewNode::new("Conv", ["b", "tied"], ["c"]),
            NewNode::new("ConvTranspose", ["c", "tied"], ["d"]),
            NewNode::new("Conv", ["d", "given"], ["e"]),
            NewNode::new("MatMul", ["e", "product"], ["y"]),
        ];
        for node in nodes {
            graph = graph.message(schema::graph::NODE, node);
        }
        for (name, shape) in [
            ("shared", &[4usize, 4, 1, 1][..]),
            ("tied", &[4, 4, 1, 1]),
            ("given", &[4, 4, 1, 1]),
            ("product", &[4, 4]),
        ] {
            let data = vec![0u8; 64];
            let tensor = NewTensor::raw(name, shape, ElementType::F32, data);
            graph = graph.message(schema::graph::INITIALIZER, tensor);
        }
        for name in ["y", "given"] {
            let output = campana_onnx::NewValueInfo::tensor(name, ElementType::F32, None);
            graph = graph.message(schema::graph::OUTPUT, output);
        }
        let bytes = Content::default()
            .int(schema::model::IR_VERSION, 8)
            .message(schema::model::GRAPH, graph)
            .message(schema::model::OPSET_IMPORT, opset_import("", 17))
            .into_bytes();
        let model = Model::parse(Source::from_bytes(bytes.unwrap())).unwrap();
        let solved = solved_weights(&model, &constant_tensors(&model));
        let expected = ["product", "shared"].map(str::to_owned);
        assert_eq!(solved, HashSet::from(expected));
    }
}
