//! Each kind of error that reading a file can end in.

use campana_onnx::{
    Content, Error, ErrorKind, Limits, Model, NewAttribute, NewNode, Source, schema,
};

use crate::common::{floats, initializer, model_bytes, node, parse};

/// A model with some of everything.
fn small_model() -> Vec<u8> {
    let graph = initializer(floats("w", &[1.0, 2.0]))
        .then(node(
            NewNode::new("Relu", ["x"], ["y"]).attribute("ints", vec![1, 2]),
        ))
        .string(schema::graph::NAME, "main");
    model_bytes(graph)
}

fn error(bytes: impl Into<Vec<u8>>) -> Error {
    parse(bytes).expect_err("an error")
}

/// The error of a graph field with this content in an otherwise valid model.
fn graph_error(field: u32, content: Content<'_>) -> Error {
    error(model_bytes(Content::default().message(field, content)))
}

#[test]
fn io_error_for_a_missing_file() {
    let error = Model::open("no/such/file.onnx").expect_err("missing");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.to_string().contains("no/such/file.onnx"));
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn not_onnx_error_says_what_the_file_seems_to_be() {
    let safetensors = [
        &[60, 0, 0, 0, 0, 0, 0, 0][..],
        b"{\"w\":{\"dtype\":\"F32\"}}",
    ]
    .concat();
    let cases: [(&[u8], &str); 14] = [
        (b"", "empty"),
        (b"<!DOCTYPE html><html><head></head></html>", "HTML"),
        (b"\n  <html>", "HTML"),
        (b"PK\x03\x04\x00\x00\x08\x08\x00\x00", "PyTorch"),
        (b"\x80\x02}q\x00(X\x05\x00\x00\x00", "pickle"),
        (&safetensors, "safetensors"),
        (b"{\"model\": 1}", "JSON"),
        (b"[1, 2]", "JSON"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:",
            "git lfs pull",
        ),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0", "Keras"),
        (b"\x1c\0\0\0TFL3\x14\0\0\0", "TensorFlow Lite"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"\x1f\x8b\x08\0\0\0\0\0", "gzip"),
        (b"Hello, this is a letter and no model.", "plain text"),
    ];
    for (bytes, word) in cases {
        let error = error(bytes);
        assert_eq!(error.kind(), ErrorKind::NotOnnx, "{error}");
        assert!(error.to_string().contains(word), "{word} in: {error}");
    }
}

#[test]
fn not_onnx_error_for_random_bytes() {
    let mut state = 1u64;
    for _ in 0..1000 {
        let bytes: Vec<u8> = (0..200)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect();
        // A first field that happens to be a version may lead further.
        let kind = error(bytes).kind();
        assert!(matches!(
            kind,
            ErrorKind::NotOnnx | ErrorKind::Truncated | ErrorKind::Malformed
        ));
    }
}

#[test]
fn not_onnx_error_for_a_model_without_a_graph() {
    let bytes = Content::default().int(schema::model::IR_VERSION, 8);
    let error = error(bytes.into_bytes().expect("encoded"));
    assert_eq!(error.kind(), ErrorKind::NotOnnx);
    assert!(error.to_string().contains("no graph"), "{error}");
}

#[test]
fn truncated_error_names_the_byte_and_what_is_missing() {
    let bytes = small_model();
    for len in 14..bytes.len() - 6 {
        let error = error(&bytes[..len]);
        assert_eq!(error.kind(), ErrorKind::Truncated, "{len}: {error}");
        assert!(error.offset().is_some());
        let end = format!("ends at byte {len}");
        assert!(error.to_string().contains(&end), "{error}");
    }
    let error = error(&bytes[..40]);
    assert!(error.to_string().contains("should hold"), "{error}");
}

#[test]
fn every_truncation_is_an_error_or_lacks_only_whole_fields() {
    let bytes = small_model();
    for len in 0..bytes.len() {
        if let Ok(model) = parse(&bytes[..len]) {
            assert!(model.opset_imports.is_empty(), "{len}");
        }
    }
}

#[test]
fn malformed_error_names_the_message_and_the_byte() {
    // A node whose attribute claims more bytes than the node has.
    let broken = Content::default()
        .string(schema::node::OP_TYPE, "Relu")
        .then(vec![schema::node::ATTRIBUTE as u8 * 8 + 2, 100]);
    let good = node(NewNode::new("Relu", ["x"], ["y"]));
    let graph = good.message(schema::graph::NODE, broken);
    let error = error(model_bytes(graph));
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert_eq!(error.path(), "graph.node[1]");
    assert!(error.offset().is_some());
    let text = error.to_string();
    assert!(
        text.starts_with("graph.node[1]: field 5 should hold 100 bytes, but 0"),
        "{text}"
    );
}

#[test]
fn malformed_error_for_a_field_of_another_wire_type() {
    let wrong = Content::default().int(schema::node::OP_TYPE, 5);
    let error = graph_error(schema::graph::NODE, wrong);
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert_eq!(error.path(), "graph.node[0].op_type");
    assert!(error.message().contains("found a varint"), "{error}");
}

#[test]
fn malformed_error_for_a_name_that_is_not_utf8() {
    let wrong = Content::default().message(schema::node::INPUT, vec![0xff, 0xfe]);
    let error = graph_error(schema::graph::NODE, wrong);
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(
        error
            .to_string()
            .contains("graph.node[0].input: not valid UTF-8"),
        "{error}"
    );
}

#[test]
fn malformed_error_for_an_attribute_without_its_value() {
    let attribute = Content::default()
        .string(schema::attribute::NAME, "value")
        .int(schema::attribute::TYPE, 4);
    let node = Content::default().message(schema::node::ATTRIBUTE, attribute);
    let error = graph_error(schema::graph::NODE, node);
    assert_eq!(error.kind(), ErrorKind::Malformed);
    assert!(
        error.message().contains("\"value\" should hold a tensor"),
        "{error}"
    );
}

#[test]
fn unsupported_error_for_a_second_graph() {
    let mut bytes = small_model();
    let second = Content::default().message(schema::model::GRAPH, Content::default());
    bytes.extend(second.into_bytes().expect("encoded"));
    let error = error(bytes);
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("second time"), "{error}");
}

#[test]
fn limit_error_for_graphs_nested_too_deep() {
    let mut graph = Content::default();
    for _ in 0..200 {
        graph = node(NewNode::new("If", ["c"], ["y"]).attribute("g", NewAttribute::Graph(graph)));
    }
    let error = error(model_bytes(graph));
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.message().contains("nested"), "{error}");
}

#[test]
fn limit_error_for_types_nested_too_deep() {
    let mut value_type = Content::default();
    for _ in 0..200 {
        let inner = Content::default().message(1, value_type);
        value_type = Content::default().message(4, inner);
    }
    let value = Content::default().message(schema::value_info::TYPE, value_type);
    let error = graph_error(schema::graph::INPUT, value);
    assert_eq!(error.kind(), ErrorKind::Limit);
}

#[test]
fn limit_error_for_a_name_of_megabytes() {
    let node = Content::default().string(schema::node::NAME, &"n".repeat(3 << 20));
    let error = graph_error(schema::graph::NODE, node);
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert_eq!(error.path(), "graph.node[0].name");
}

#[test]
fn limit_error_for_millions_of_empty_messages() {
    let nodes = [schema::graph::NODE as u8 * 8 + 2, 0].repeat(1 << 22);
    let error = error(model_bytes(Content::bytes(nodes)));
    assert_eq!(error.kind(), ErrorKind::Limit);
}

#[test]
fn limit_error_for_messages_that_take_more_memory_than_their_file_may() {
    let nodes = [schema::graph::NODE as u8 * 8 + 2, 0].repeat(1000);
    let bytes = model_bytes(Content::bytes(nodes));
    let read = |memory| {
        let source = Source::from_bytes(bytes.clone());
        Model::parse_within(source, &Limits::with_max_memory(memory))
    };
    let error = read(100_000).expect_err("too much");
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.message().contains("bytes of memory"), "{error}");
    assert!(read(10_000_000).is_ok());
}

/// The error of an initializer of this shape.
fn shape_error(dims: &[i64]) -> Error {
    let dims = dims.iter().fold(
        Content::default().string(schema::tensor::NAME, "w"),
        |content, &dim| content.int(schema::tensor::DIMS, dim),
    );
    graph_error(schema::graph::INITIALIZER, dims)
}

#[test]
fn malformed_error_for_shapes_that_no_tensor_has() {
    for (dims, words) in [
        (&[1 << 40, 1 << 40][..], "more elements than can be counted"),
        (&[2, -1], "an extent of -1"),
        (&[1; 65], "65 axes"),
    ] {
        let error = shape_error(dims);
        assert_eq!(error.kind(), ErrorKind::Malformed, "{error}");
        assert!(error.message().contains(words), "{error}");
        assert!(error.message().contains("\"w\""), "{error}");
    }
}

#[test]
fn limit_error_for_a_tensor_of_more_elements_than_allowed() {
    let error = shape_error(&[1 << 31, 4]);
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.message().contains("4294967296 elements"), "{error}");
}

#[test]
fn external_data_error_for_an_offset_that_is_no_number() {
    let entry = campana_onnx::metadata_entry("offset", "-1");
    let tensor = Content::default()
        .string(schema::tensor::NAME, "w")
        .message(schema::tensor::EXTERNAL_DATA, entry)
        .int(schema::tensor::DATA_LOCATION, 1);
    let error = graph_error(schema::graph::INITIALIZER, tensor);
    assert_eq!(error.kind(), ErrorKind::ExternalData);
    let text = error.to_string();
    assert!(text.contains("\"w\"") && text.contains("\"-1\""), "{text}");
}
