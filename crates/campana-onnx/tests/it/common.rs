//! Small models made by hand.

use campana_onnx::{
    Content, Edits, Model, NewNode, NewTensor, Result, Source, opset_import, schema,
};
use campana_tensor::ElementType;

/// A model of this graph.
pub(crate) fn model_bytes(graph: Content<'_>) -> Vec<u8> {
    let content = Content::default()
        .int(schema::model::IR_VERSION, 8)
        .string(schema::model::PRODUCER_NAME, "by hand")
        .message(schema::model::GRAPH, graph)
        .message(schema::model::OPSET_IMPORT, opset_import("", 17));
    content.into_bytes().expect("encoded")
}

pub(crate) fn parse(bytes: impl Into<Vec<u8>>) -> Result<Model> {
    Model::parse(Source::from_bytes(bytes.into()))
}

/// A model of this graph, which is valid.
pub(crate) fn model(graph: Content<'_>) -> Model {
    parse(model_bytes(graph)).expect("a valid model")
}

/// A float tensor.
pub(crate) fn floats(name: &str, values: &[f32]) -> NewTensor<'static> {
    let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    NewTensor::raw(name, &[values.len()], ElementType::F32, bytes)
}

pub(crate) fn initializer<'a>(tensor: impl Into<Content<'a>>) -> Content<'a> {
    Content::default().message(schema::graph::INITIALIZER, tensor)
}

pub(crate) fn node<'a>(node: NewNode<'a>) -> Content<'a> {
    Content::default().message(schema::graph::NODE, node)
}

pub(crate) fn written(edits: Edits<'_>) -> Vec<u8> {
    let expected_len = edits.encoded_len().expect("a length");
    let mut out = Vec::new();
    let len = edits.write(&mut out).expect("written");
    assert_eq!((len, expected_len), (out.len() as u64, len));
    out
}
