//! The real models of the shared folder, read and written.

use campana_onnx::{DataLocation, Edits, Model};
use campana_tensor::ElementType;
use campana_testing::shared_models;

#[test]
fn without_edits_output_and_input_are_the_same_bytes() {
    for path in shared_models() {
        let model = Model::open(&path).expect("a valid model");
        let mut out = Vec::new();
        let len = Edits::new(&model).write(&mut out).expect("written");
        assert_eq!(len, out.len() as u64);
        assert!(out == std::fs::read(&path).expect("read"), "{path:?}");
    }
}

#[test]
fn every_part_lies_inside_its_parent_and_every_weight_can_be_read() {
    for path in shared_models() {
        let model = Model::open(&path).expect("a valid model");
        assert!(!model.graph.nodes.is_empty() && !model.opset_imports.is_empty());
        for node in &model.graph.nodes {
            assert_eq!(model.parent(node.message), model.graph.message);
            assert!(
                model
                    .body(model.graph.message)
                    .contains(model.span(node.message))
            );
        }
        for tensor in &model.graph.initializers {
            assert_ne!(tensor.data, DataLocation::Absent);
            let read = model.read_tensor(tensor).expect("a readable tensor");
            assert_eq!(read.len(), tensor.count().expect("a count"));
            if tensor.element_type == ElementType::F32 {
                let weights = model.read_f32(tensor).expect("readable weights");
                assert!(weights.iter().all(|weight| weight.is_finite()));
            }
        }
    }
}
