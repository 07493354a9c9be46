//! What is no weight is carried over byte for byte, known to us or not.

use campana_onnx::{Content, NewNode, metadata_entry, opset_import, schema};

use crate::support::Folder;
use crate::support::models::{NewModel, add_conv, floats, random_weights, value};

/// A field that no version of ONNX has.
const UNKNOWN_FIELD: u32 = 4321;

/// A named piece of a model that must be in the output as it is in the input.
type Piece = (&'static str, Vec<u8>);

fn field(number: u32, body: Content<'static>) -> Content<'static> {
    Content::default().message(number, body)
}

fn unknown(text: &str) -> Content<'static> {
    Content::default().string(UNKNOWN_FIELD, text)
}

/// Fields of the model other than its graph.
fn model_pieces() -> Vec<Piece> {
    let function = Content::default()
        .string(schema::function::NAME, "Twice")
        .string(schema::function::INPUT, "a")
        .string(schema::function::OUTPUT, "b")
        .message(
            schema::function::NODE,
            NewNode::new("Add", ["a", "a"], ["b"]),
        )
        .string(schema::function::DOC_STRING, "doubles")
        .message(schema::function::OPSET_IMPORT, opset_import("", 17))
        .string(schema::function::DOMAIN, "ours")
        .then(unknown("of a function"));
    let binding = |name: &str, output: &str| Content::default().string(1, name).string(2, output);
    let algorithm = Content::default()
        .message(
            schema::graph::NODE,
            NewNode::new("Identity", ["trained.w"], ["stepped"]),
        )
        .string(schema::graph::NAME, "training");
    let training = Content::default()
        .message(schema::training_info::ALGORITHM, algorithm)
        .message(
            schema::training_info::UPDATE_BINDING,
            binding("trained.w", "stepped"),
        )
        .then(unknown("of the training"));
    let fields = [
        (
            "domain",
            Content::default().string(schema::model::DOMAIN, "org.ours"),
        ),
        (
            "model version",
            Content::default().int(schema::model::MODEL_VERSION, 77),
        ),
        (
            "doc string",
            Content::default().string(schema::model::DOC_STRING, "a model's doc"),
        ),
        ("function", field(schema::model::FUNCTIONS, function)),
        (
            "function's opset",
            field(schema::model::OPSET_IMPORT, opset_import("ours", 1)),
        ),
        (
            "metadata",
            field(
                schema::model::METADATA_PROPS,
                metadata_entry("author", "someone"),
            ),
        ),
        ("training", field(schema::model::TRAINING_INFO, training)),
        ("unknown field", unknown("of the model")),
        (
            "unknown number",
            Content::default().int(UNKNOWN_FIELD + 1, -5),
        ),
    ];
    encoded(fields)
}

/// Fields of the graph other than what the layers need.
fn graph_pieces() -> Vec<Piece> {
    let sparse = Content::default()
        .message(
            schema::sparse_tensor::VALUES,
            floats("sparse", &[2], &[1.0, 2.0]),
        )
        .ints(schema::sparse_tensor::DIMS, &[8]);
    let annotated = Content::default()
        .string(1, "y")
        .then(unknown("of an annotation"));
    let documented = Content::from(value("y", &[1, 16, 4, 4], campana_tensor::ElementType::F32))
        .string(schema::value_info::DOC_STRING, "a value's doc")
        .then(unknown("of a value"));
    let node = NewNode::new("Relu", ["y"], ["z"]).name("relu").with(
        Content::default()
            .string(schema::node::DOC_STRING, "a node's doc")
            .message(
                schema::node::METADATA_PROPS,
                metadata_entry("namespace", "top"),
            )
            .then(unknown("of a node")),
    );
    let custom = NewNode::new("Twice", ["z"], ["zz"]).domain("ours");
    let bias = floats("bias", &[16], &[0.5; 16])
        .with(Content::default().string(schema::tensor::DOC_STRING, "a tensor's doc"))
        .with(unknown("of a tensor"));
    let fields = [
        (
            "doc string",
            Content::default().string(schema::graph::DOC_STRING, "a graph's doc"),
        ),
        (
            "sparse initializer",
            field(schema::graph::SPARSE_INITIALIZER, sparse),
        ),
        (
            "annotation",
            field(schema::graph::QUANTIZATION_ANNOTATION, annotated),
        ),
        ("value", field(schema::graph::VALUE_INFO, documented)),
        (
            "metadata",
            field(
                schema::graph::METADATA_PROPS,
                metadata_entry("stage", "final"),
            ),
        ),
        ("node", field(schema::graph::NODE, node.into())),
        ("custom node", field(schema::graph::NODE, custom.into())),
        ("bias", field(schema::graph::INITIALIZER, bias.into())),
        ("unknown field", unknown("of the graph")),
    ];
    encoded(fields)
}

fn encoded<const N: usize>(fields: [(&'static str, Content<'static>); N]) -> Vec<Piece> {
    fields
        .into_iter()
        .map(|(name, field)| (name, field.into_bytes().unwrap()))
        .collect()
}

fn all_of(pieces: &[Piece]) -> Content<'static> {
    pieces.iter().fold(Content::default(), |all, (_, bytes)| {
        all.then(Content::bytes(bytes.clone()))
    })
}

fn model() -> Vec<u8> {
    let model = NewModel::new()
        .weights("w", &[16, 8, 3, 3])
        .weights("trained.w", &[40, 40])
        .input("v", &[1, 40])
        .node(NewNode::new("MatMul", ["v", "trained.w"], ["u"]))
        .output("u", &[1, 40])
        .graph_fields(all_of(&graph_pieces()))
        .model_fields(all_of(&model_pieces()));
    add_conv(model, "").into_bytes()
}

fn contains(bytes: &[u8], piece: &[u8]) -> bool {
    bytes.windows(piece.len()).any(|window| window == piece)
}

#[test]
fn everything_else_is_carried_over() {
    let folder = Folder::with_model(model());
    for target in ["lut", "float"] {
        let args = [
            "quantize",
            "model.onnx",
            "-o",
            "out.onnx",
            "--force",
            "--target",
            target,
        ];
        folder.run(&args).may_warn("sparse initializer").succeeds();
        let output = folder.read("out.onnx");
        for (name, piece) in graph_pieces().into_iter().chain(model_pieces()) {
            assert!(
                contains(&output, &piece),
                "{target}: the {name} was changed"
            );
        }
        let weights = random_weights("w", 16 * 8 * 9);
        let weights = crate::support::models::little_endian(&weights);
        assert!(
            !contains(&output, &weights),
            "{target}: the weights are still there"
        );
    }
}

#[test]
fn weights_that_training_assigns_are_kept() {
    let folder = Folder::with_model(model());
    let report = folder
        .run(&["quantize", "model.onnx", "-o", "out.onnx", "--json"])
        .warns("sparse initializer")
        .json();
    let tensor = &report["tensors"][1];
    assert_eq!(tensor["name"], "trained.w");
    assert_eq!(tensor["kept"], "bound to an output of the training graph");
}

#[test]
fn functions_forbid_another_opset() {
    let folder = Folder::with_model(model());
    let args = [
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--target=lut-uint4",
    ];
    folder.refuses(&args, &["opset 21", "functions", "--target lut"]);
}

#[test]
fn doc_strings_of_quantized_tensors_survive_in_the_float_form() {
    let tensor = floats("w", &[16, 8, 3, 3], &random_weights("w", 16 * 8 * 9))
        .with(Content::default().string(schema::tensor::DOC_STRING, "the weights' doc"))
        .with(unknown("of the weights"));
    let model = add_conv(NewModel::new().initializer(tensor), "").into_bytes();
    let folder = Folder::with_model(model);
    folder
        .run(&["quantize", "model.onnx", "-o", "out.onnx", "--target=float"])
        .succeeds();
    let output = folder.read("out.onnx");
    for text in ["the weights' doc", "of the weights"] {
        assert!(contains(&output, text.as_bytes()), "{text}");
    }
}

#[test]
fn names_that_look_like_ours_are_left_alone() {
    let model = NewModel::new()
        .weights("q0", &[16, 8, 3, 3])
        .weights("qq1", &[40, 40])
        .input("q", &[1, 40])
        .node(NewNode::new("MatMul", ["q", "qq1"], ["qqq"]))
        .output("qqq", &[1, 40])
        .input("x", &[1, 8, 3, 3])
        .node(NewNode::new("Conv", ["x", "q0"], ["y"]))
        .output("y", &[1, 16, 1, 1])
        .into_bytes();
    let folder = Folder::with_model(model);
    folder
        .run(&["quantize", "model.onnx", "-o", "out.onnx"])
        .warns("no image and of unknown scale")
        .succeeds();
    let output = campana_onnx::Model::open(folder.path("out.onnx")).unwrap();
    let made = output
        .graph
        .nodes
        .iter()
        .flat_map(|node| node.outputs.clone());
    let stored = output
        .graph
        .initializers
        .iter()
        .map(|tensor| tensor.name.clone());
    let mut names: Vec<String> = made.chain(stored).collect();
    names.sort();
    let count = names.len();
    names.dedup();
    assert_eq!(names.len(), count, "every name is made once");
    assert!(
        names.iter().all(|name| name != "q"),
        "the input stays an input"
    );
}
