//! Whatever the bytes: reading ends, what was read is written back byte for
//! byte, and each tensor can be read or is refused.
#![no_main]

use campana_onnx::{AttributeValue, Edits, Graph, Model, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(model) = Model::parse(Source::from_bytes(bytes.to_vec())) else {
        return;
    };
    let mut out = Vec::new();
    Edits::new(&model).write(&mut out).expect("no edits");
    assert_eq!(out, bytes);
    visit(&model, &model.graph);
});

fn visit(model: &Model, graph: &Graph) {
    for tensor in &graph.initializers {
        let _ = model.read_tensor(tensor);
        let _ = model.read_f32(tensor);
    }
    for node in &graph.nodes {
        model
            .fields(node.message)
            .expect("fields that were read before");
        for attribute in &node.attributes {
            match &attribute.value {
                AttributeValue::Graph(graph) => visit(model, graph),
                AttributeValue::Tensor(tensor) => drop(model.read_tensor(tensor)),
                _ => {}
            }
        }
    }
}
