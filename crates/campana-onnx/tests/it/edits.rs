//! Changes to models, and all that must survive them.

use std::io::Write;

use campana_onnx::{
    AttributeValue, Content, Edits, ErrorKind, MessageId, NewAttribute, NewNode, Span,
    metadata_entry, schema,
};

use crate::common::{floats, initializer, model, model_bytes, node, parse, written};

fn relu(name: &str) -> Content<'static> {
    node(NewNode::new("Relu", ["x"], ["y"]).name(name))
}

fn node_names(bytes: &[u8]) -> Vec<String> {
    let model = parse(bytes).expect("a valid model");
    model
        .graph
        .nodes
        .into_iter()
        .map(|node| node.name)
        .collect()
}

#[test]
fn removals_insertions_and_replacements_go_where_they_were_placed() {
    let model = model(
        relu("a")
            .then(relu("b"))
            .then(initializer(floats("w", &[1.0]))),
    );
    let [a, b] = [0, 1].map(|at| model.graph.nodes[at].message);
    let mut edits = Edits::new(&model);
    edits.append(model.graph.message, relu("last"));
    edits.insert_after(a, relu("after a 1"));
    edits.insert_after(a, relu("after a 2"));
    edits.insert_before(b, relu("before b"));
    edits.replace(b, relu("B"));
    edits.prepend(model.graph.message, relu("first"));
    edits.append(model.parent(b), relu("very last"));
    edits.append(
        MessageId::MODEL,
        Content::default().message(schema::model::METADATA_PROPS, metadata_entry("k", "v")),
    );
    let out = written(edits);
    let names = [
        "first",
        "a",
        "after a 1",
        "after a 2",
        "before b",
        "B",
        "last",
        "very last",
    ];
    assert_eq!(node_names(&out), names);
    let read = parse(out).expect("a valid model");
    assert_eq!(read.metadata[0].key, "k");
    assert_eq!(
        read.source().read(read.metadata[0].value).expect("read"),
        b"v"
    );
    assert_eq!(
        read.read_f32(&read.graph.initializers[0]).expect("read"),
        [1.0]
    );
}

#[test]
fn edits_in_nested_graphs_change_every_enclosing_length() {
    let inner = relu("inner").then(initializer(floats("deep", &[1.0, 2.0])));
    let branch =
        node(NewNode::new("If", ["c"], ["t"]).attribute("then_branch", NewAttribute::Graph(inner)));
    let outer = node(
        NewNode::new("If", ["c"], ["y"]).attribute("then_branch", NewAttribute::Graph(branch)),
    );
    let model = model(outer.then(relu("tail")));
    let nested = |graph: &campana_onnx::Graph| match &graph.nodes[0].attributes[0].value {
        AttributeValue::Graph(graph) => (**graph).clone(),
        other => panic!("{other:?}"),
    };
    let deepest = nested(&nested(&model.graph));
    // 1,000 bytes more: lengths of one byte become lengths of two.
    let mut edits = Edits::new(&model);
    edits.replace(
        deepest.initializers[0].message,
        initializer(floats("deep", &[7.0; 250])),
    );
    let out = parse(written(edits)).expect("a valid model");
    let read = nested(&nested(&out.graph));
    assert_eq!(read.nodes[0].name, "inner");
    assert_eq!(
        out.read_f32(&read.initializers[0]).expect("read"),
        [7.0; 250]
    );
    assert_eq!(out.graph.nodes[1].name, "tail");
    // And back: the same bytes.
    let mut edits = Edits::new(&out);
    let smaller = initializer(floats("deep", &[1.0, 2.0]));
    edits.replace(read.initializers[0].message, smaller);
    let original = model.source().read(model.source().span()).expect("read");
    assert_eq!(written(edits), original);
}

#[test]
fn what_is_not_understood_survives() {
    // Unknown fields of every wire type, with numbers longer than need be.
    let unknown: &[u8] = &[
        0xb8, 0x3e, 0x85, 0x80, 0x00, // 999: a varint of three bytes
        0xb9, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8, // 999: 8 bytes
        0xba, 0x3e, 0x82, 0x00, 0xaa, 0xbb, // 999: 2 bytes, their length in two
        0xbb, 0x3e, 0x0b, 0x10, 0x01, 0x0c, 0xbc, 0x3e, // 999: a group in a group
        0xbd, 0x3e, 1, 2, 3, 4, // 999: 4 bytes
    ];
    let with_unknown = |content: Content<'static>| content.then(unknown.to_vec());
    // Tag and length of the node in more bytes than need be.
    let node_body = with_unknown(Content::default().string(schema::node::NAME, "a"))
        .into_bytes()
        .expect("encoded");
    let mut long_form = vec![0x8a, 0x80, 0x00, 0x80 | node_body.len() as u8, 0x80, 0x00];
    long_form.extend(&node_body);
    let graph = with_unknown(Content::bytes(long_form).then(relu("gone")))
        .string(schema::graph::DOC_STRING, "kept");
    let bytes = [model_bytes(graph), unknown.to_vec()].concat();
    let model = parse(&*bytes).expect("a valid model");
    assert_eq!(written(Edits::new(&model)), bytes);
    let gone = model.span(model.graph.nodes[1].message);
    let mut edits = Edits::new(&model);
    edits.remove(model.graph.nodes[1].message);
    let out = written(edits);
    // Only the node and the graph's length differ.
    let start = model.body(model.graph.message).start as usize;
    assert_eq!(
        out[start..gone.start as usize],
        bytes[start..gone.start as usize]
    );
    assert_eq!(out[gone.start as usize..], bytes[gone.end as usize..]);
    // An edit that keeps a message's length keeps its header's long form.
    let mut edits = Edits::new(&model);
    let node = model.graph.nodes[0].message;
    let name = model.fields(node).expect("fields")[0];
    assert_eq!(name.number, schema::node::NAME);
    edits.replace_fields(
        node,
        name.span,
        Content::default().string(schema::node::NAME, "b"),
    );
    let out = written(edits);
    let differing = out.iter().zip(&bytes).filter(|(a, b)| a != b).count();
    assert_eq!((out.len(), differing), (bytes.len(), 1));
}

#[test]
fn functions_training_info_and_sparse_initializers_survive() {
    let values = floats("thin", &[1.0]);
    let sparse = Content::default()
        .message(schema::sparse_tensor::VALUES, values)
        .ints(schema::sparse_tensor::DIMS, &[10]);
    let graph = relu("a").message(schema::graph::SPARSE_INITIALIZER, sparse);
    let body = NewNode::new("Neg", ["i"], ["o"]);
    let function = Content::default()
        .string(schema::function::NAME, "f")
        .string(schema::function::INPUT, "i")
        .string(schema::function::OUTPUT, "o")
        .message(schema::function::NODE, body);
    let training = Content::default()
        .message(schema::training_info::ALGORITHM, relu("step"))
        .message(
            schema::training_info::UPDATE_BINDING,
            metadata_entry("w", "new w"),
        );
    let tail = Content::default()
        .message(schema::model::TRAINING_INFO, training)
        .message(schema::model::FUNCTIONS, function)
        .into_bytes()
        .expect("encoded");
    let bytes = [model_bytes(graph), tail.clone()].concat();
    let model = parse(bytes).expect("a valid model");
    assert_eq!(model.graph.sparse_initializers[0].name(), "thin");
    assert_eq!(model.graph.sparse_initializers[0].dims, [10]);
    assert_eq!(model.functions[0].nodes[0].op_type, "Neg");
    let info = &model.training_info[0];
    assert_eq!(info.update_binding, [("w".to_owned(), "new w".to_owned())]);
    assert_eq!(
        info.algorithm.as_ref().expect("a graph").nodes[0].name,
        "step"
    );
    let mut edits = Edits::new(&model);
    edits.replace(model.graph.nodes[0].message, relu("another name"));
    let out = written(edits);
    assert!(out.ends_with(&tail));
}

#[test]
fn parts_of_the_model_can_be_copied_and_payloads_streamed() {
    let doc = Content::default().string(schema::tensor::DOC_STRING, "about w");
    let model = model(initializer(floats("w", &[1.0]).with(doc)));
    let tensor = &model.graph.initializers[0];
    let runs = model.fields(tensor.message).expect("fields");
    let doc = runs
        .iter()
        .find(|run| run.number == schema::tensor::DOC_STRING);
    let values = [3f32; 1000];
    let payload = Content::stream(4000, |out: &mut dyn Write| {
        values
            .iter()
            .try_for_each(|value| out.write_all(&value.to_le_bytes()))
    });
    let new = campana_onnx::NewTensor::from_content(
        "w",
        &[10, 100],
        campana_tensor::ElementType::F32,
        payload,
    );
    let mut edits = Edits::new(&model);
    edits.replace(
        tensor.message,
        initializer(new.with(Content::copy(doc.expect("a doc string").span))),
    );
    let out = parse(written(edits)).expect("a valid model");
    let tensor = &out.graph.initializers[0];
    assert_eq!(tensor.dims, [10, 100]);
    assert_eq!(out.read_f32(tensor).expect("read"), values);
    let text = out.source().read(out.span(tensor.message)).expect("read");
    assert!(text.windows(7).any(|window| window == b"about w"));
}

#[test]
fn changes_that_contradict_each_other_are_refused() {
    let attributed = node(NewNode::new("Relu", ["x"], ["y"]).attribute("alpha", 1.0));
    let model = model(attributed.then(relu("b")));
    let node = &model.graph.nodes[0];
    let contradictions: [fn(&mut Edits<'_>, MessageId, MessageId); 4] = [
        |edits, node, _| {
            edits.remove(node);
            edits.remove(node);
        },
        |edits, node, attribute| {
            edits.remove(attribute);
            edits.remove(node);
        },
        |edits, node, _| {
            edits.remove(node);
            edits.append(node, vec![]);
        },
        |edits, node, _| {
            let outside = Span { start: 0, end: 1 };
            edits.replace_fields(node, outside, vec![]);
        },
    ];
    for contradict in contradictions {
        let mut edits = Edits::new(&model);
        contradict(&mut edits, node.message, node.attributes[0].message);
        let error = edits.encoded_len().expect_err("a contradiction");
        assert_eq!(error.kind(), ErrorKind::Argument);
        let mut out = Vec::new();
        edits.write(&mut out).expect_err("a contradiction");
        assert!(out.is_empty());
    }
}

#[test]
fn insertions_beside_a_removed_message_are_kept() {
    let model = model(relu("a").then(relu("b")).then(relu("c")));
    let b = model.graph.nodes[1].message;
    let mut edits = Edits::new(&model);
    edits.insert_before(b, relu("before"));
    edits.insert_after(b, relu("after"));
    edits.remove(b);
    assert_eq!(node_names(&written(edits)), ["a", "before", "after", "c"]);
}

#[test]
fn a_graph_can_be_emptied_and_filled() {
    let model = model(relu("a"));
    let mut edits = Edits::new(&model);
    edits.remove(model.graph.nodes[0].message);
    let out = written(edits);
    assert_eq!(node_names(&out), [""; 0]);
    let empty = parse(out).expect("a valid model");
    let mut edits = Edits::new(&empty);
    edits.append(empty.graph.message, relu("2"));
    edits.prepend(empty.graph.message, relu("3"));
    assert_eq!(node_names(&written(edits)), ["2", "3"]);
}

#[test]
fn output_beyond_what_readers_accept_is_refused_before_writing() {
    let model = model(relu("a"));
    let mut edits = Edits::new(&model);
    let huge = Content::stream(3 << 30, |_| panic!("nothing should be written"));
    edits.append(model.graph.message, initializer(huge));
    assert!(edits.encoded_len().expect("a length") > 3 << 30);
    let mut out = Vec::new();
    let error = edits.write(&mut out).expect_err("too large");
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.message().contains("external data"), "{error}");
    assert!(out.is_empty());
}

#[test]
fn a_full_device_is_an_error_with_its_cause() {
    let model = model(relu("a"));
    let mut room = [0u8; 10];
    let error = Edits::new(&model)
        .write(&mut &mut room[..])
        .expect_err("no room");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_model_file_that_changed_meanwhile_is_an_error() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(&model_bytes(relu("a"))).expect("written");
    let model = campana_onnx::Model::open(file.path()).expect("a valid model");
    file.write_all(b"more").expect("written");
    let error = Edits::new(&model)
        .write(&mut Vec::new())
        .expect_err("changed");
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.message().contains("changed"), "{error}");
}
