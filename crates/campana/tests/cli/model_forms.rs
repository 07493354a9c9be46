//! Every way in which a model holds weights. That the results decode to the
//! right values is checked by the peers, where Python is at hand.

use campana_onnx::{Model, NewNode, NewTensor, Source, TensorProto, ValueInfo};
use campana_tensor::ElementType;
use serde_json::Value;

use crate::support::models::{NewModel, conv_model, every_layer, float16, random_weights};
use crate::support::{Folder, fixture};

/// Weight tensors of [`every_layer`] that are quantized.
const WEIGHTS: [&str; 15] = [
    "conv.w",
    "grouped.w",
    "depthwise.w",
    "transposed.w",
    "conv1d.w",
    "gemm.w",
    "gemm_t.w",
    "right.w",
    "left.w",
    "batch.w",
    "twice.w",
    "both.w",
    "constant.w",
    "half.w",
    "outer.w",
];

fn quantize(folder: &Folder, options: &[&str]) -> Value {
    let args = [
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--json",
        "--force",
    ];
    folder
        .run(&[&args, options].concat())
        .may_warn("no image and of unknown scale")
        .json()
}

fn reported<'r>(report: &'r Value, name: &str) -> &'r Value {
    let mut tensors = report["tensors"].as_array().unwrap().iter();
    tensors
        .find(|tensor| tensor["name"] == name)
        .unwrap_or_else(|| panic!("no tensor {name} in {report}"))
}

fn parse(bytes: Vec<u8>) -> Model {
    Model::parse(Source::from_bytes(bytes)).unwrap()
}

#[test]
fn every_kind_of_weights_is_quantized() {
    let folder = Folder::with_model(every_layer().into_bytes());
    for target in ["lut", "lut-uint4", "float"] {
        // uint4 needs another opset; none of these operators changed until then.
        let report = quantize(
            &folder,
            &["--bits=8", "--granularity=tensor", "--target", target],
        );
        for name in WEIGHTS {
            assert_eq!(
                reported(&report, name)["kept"],
                Value::Null,
                "{target}: {name}"
            );
        }
        assert_eq!(reported(&report, "gemm.b")["kept"], "a bias");
        // Read by a graph inside of a node alone.
        assert_eq!(reported(&report, "outer.inner")["kept"], Value::Null);
        let model = parse(folder.read("out.onnx"));
        let is_stored = |name: &str| {
            model
                .graph
                .initializers
                .iter()
                .any(|tensor| tensor.name == name)
        };
        for name in WEIGHTS {
            let expected = target == "float" && name != "constant.w";
            assert_eq!(
                is_stored(name),
                expected,
                "{target}: {name} among the initializers"
            );
        }
    }
}

#[test]
fn inputs_and_outputs_stay() {
    let folder = Folder::with_model(every_layer().into_bytes());
    for target in ["lut", "lut-uint4", "float"] {
        quantize(&folder, &["--target", target]);
        let names = |bytes| {
            let graph = parse(bytes).graph;
            let names = |values: Vec<campana_onnx::ValueInfo>| {
                values.into_iter().map(|v| v.name).collect::<Vec<_>>()
            };
            (names(graph.inputs), names(graph.outputs))
        };
        assert_eq!(
            names(folder.read("model.onnx")),
            names(folder.read("out.onnx")),
            "{target}"
        );
    }
}

#[test]
fn activations_are_rounded_between_layers() {
    let folder = Folder::with_model(std::fs::read(fixture()).unwrap());
    for (target, ranges) in [("w4a8", "mse"), ("int8", "minmax")] {
        let options = [
            "--no-correct",
            "--method=mse",
            "--granularity=channel",
            "--target",
            target,
            "--activation-ranges",
            ranges,
        ];
        let report = quantize(&folder, &options);
        let graph = parse(folder.read("out.onnx")).graph;
        let count = |op_type: &str| {
            graph
                .nodes
                .iter()
                .filter(|node| node.op_type == op_type)
                .count()
        };
        let rounded = report["rounded_activations"].as_u64().unwrap() as usize;
        assert!(rounded >= 10, "{target}: {rounded}");
        let pairs = count("QuantizeLinear");
        let layers: Vec<_> = graph
            .nodes
            .iter()
            .filter(|node| matches!(node.op_type.as_str(), "Conv" | "Gemm"))
            .collect();
        let maker = |input: &String| graph.nodes.iter().find(|node| node.outputs.contains(input));
        if target == "w4a8" {
            assert_eq!(pairs, rounded);
            for layer in &layers {
                // Codes become integer levels, and these weights.
                let weights = maker(&layer.inputs[1]).expect("operators make the weights");
                assert_eq!(weights.op_type, "DequantizeLinear", "{}", layer.name);
                let levels = maker(&weights.inputs[0]).expect("operators make the levels");
                let looked_up = matches!(levels.op_type.as_str(), "Gather" | "Cast");
                assert!(looked_up, "{}: {}", layer.name, levels.op_type);
            }
            let biases = layers
                .iter()
                .filter(|layer| layer.inputs.len() == 3)
                .count();
            let expected = pairs + layers.len() + biases;
            assert_eq!(count("DequantizeLinear"), expected);
            continue;
        }
        // What only moves codes has a pair too; every layer has its weights
        // and its bias, which took in the normalization, in whole numbers.
        assert!(pairs >= rounded, "{pairs} pairs for {rounded}");
        assert_eq!(count("BatchNormalization"), 0);
        assert_eq!(layers.len(), 10);
        for layer in &layers {
            for input in &layer.inputs {
                let op_type = maker(input).map(|node| node.op_type.as_str());
                assert_eq!(op_type, Some("DequantizeLinear"), "{input}");
            }
            assert_eq!(layer.inputs.len(), 3, "{}", layer.name);
        }
        assert_eq!(count("DequantizeLinear"), pairs + 2 * layers.len());
    }
}

/// A network with a value whose first channel is a thousand times as loud as the
/// others; the layer that reads it takes that back.
fn with_a_loud_channel() -> NewModel {
    const LOUD: f32 = 1000.0;
    let factors: [f32; 16] = std::array::from_fn(|channel| if channel == 0 { LOUD } else { 1.0 });
    let mut weights = random_weights("undo.w", 8 * 16);
    weights
        .iter_mut()
        .step_by(16)
        .for_each(|weight| *weight /= LOUD);
    NewModel::new()
        .input("x", &[1, 8, 6, 6])
        .weights("first.w", &[16, 8, 3, 3])
        .floats("factors", &[1, 16, 1, 1], &factors)
        .floats("undo.w", &[8, 16, 1, 1], &weights)
        .weights("last.w", &[8, 8, 3, 3])
        .node(NewNode::new("Conv", ["x", "first.w"], ["wide"]))
        .node(NewNode::new("Tanh", ["wide"], ["even"]))
        .node(NewNode::new("Mul", ["even", "factors"], ["loud"]))
        .node(NewNode::new("Conv", ["loud", "undo.w"], ["undone"]))
        .node(NewNode::new("Relu", ["undone"], ["clamped"]))
        .node(NewNode::new("Conv", ["clamped", "last.w"], ["y"]))
        .output("y", &[1, 8, 2, 2])
}

#[test]
fn an_activation_with_a_loud_channel_stays_float() {
    let folder = Folder::with_model(with_a_loud_channel().into_bytes());
    for (target, output) in [
        ("int8", "out.onnx"),
        ("w4a8", "out.onnx"),
        ("tflite", "out.tflite"),
        ("tflm", "out.tflite"),
    ] {
        let command = ["quantize", "model.onnx", "-o", output, "--target", target];
        let quantize = |options: &[&str]| {
            let options = [&["--json", "--force", "--input-range=-1,1"], options].concat();
            folder.run(&[&command, &*options].concat())
        };
        let told = quantize(&[]).json();
        let floats = &told["float_activations"];
        assert_eq!(floats["names"], serde_json::json!(["loud"]), "{target}");
        let sqnr_db = [0, 1].map(|at| floats["sqnr_db"][at].as_f64().unwrap());
        assert!(sqnr_db[1] > sqnr_db[0] + 3.0, "{target}: {sqnr_db:?}");
        let all = quantize(&["--round-all-activations"]);
        let all = all.warns("leaves the outputs an SQNR of").json();
        assert!(all["float_activations"].is_null(), "{target}");
        let rounded = |report: &Value| report["rounded_activations"].as_u64().unwrap();
        assert_eq!(rounded(&all), rounded(&told) + 1, "{target}");
    }
}

#[test]
fn with_everything_kept_the_output_is_the_input() {
    for bytes in [
        every_layer().into_bytes(),
        std::fs::read(fixture()).unwrap(),
    ] {
        let folder = Folder::with_model(&bytes);
        for target in ["lut", "lut-uint4", "float"] {
            let report = quantize(&folder, &["--keep=*", "--target", target]);
            assert_eq!(report["weights"], 0);
            assert!(folder.read("out.onnx") == bytes, "{target}");
        }
    }
}

#[test]
fn initializers_that_are_inputs_too_are_replaced_in_both_places() {
    // Up to IR version 3 every initializer is an input of the graph.
    let folder = Folder::with_model(ir_version_3().into_bytes());
    for target in ["lut", "float"] {
        quantize(&folder, &["--target", target]);
        let model = parse(folder.read("out.onnx"));
        assert_eq!(model.ir_version, Some(3));
        let inputs: Vec<_> = model
            .graph
            .inputs
            .iter()
            .map(|input| input.name.as_str())
            .collect();
        for tensor in &model.graph.initializers {
            assert!(
                inputs.contains(&tensor.name.as_str()),
                "{target}: {} is no input",
                tensor.name
            );
        }
        assert_eq!(
            inputs.contains(&"w"),
            target == "float",
            "{target}: {inputs:?}"
        );
    }
}

fn ir_version_3() -> NewModel {
    conv_model().versions(3, 8).input("w", &[16, 8, 3, 3])
}

#[test]
fn an_opset_that_cannot_decode_is_refused_with_advice() {
    let folder = Folder::with_model(conv_model().versions(3, 6).into_bytes());
    let args = ["quantize", "model.onnx", "-o", "out.onnx"];
    folder.refuses(&args, &["opset 6", "convert"]);
    folder
        .run(&[&args[..], &["--target=float"]].concat())
        .succeeds();
}

#[test]
fn uint4_raises_the_opset_where_it_is_needed() {
    let folder = Folder::with_model(conv_model().into_bytes());
    quantize(&folder, &["--target=lut-uint4"]);
    let versions = parse(folder.read("out.onnx")).opset_imports;
    assert_eq!(
        versions
            .iter()
            .map(|import| import.version)
            .collect::<Vec<_>>(),
        [21]
    );
    // Other widths need no uint4.
    quantize(&folder, &["--target=lut-uint4", "--bits=3"]);
    let versions = parse(folder.read("out.onnx")).opset_imports;
    assert_eq!(
        versions
            .iter()
            .map(|import| import.version)
            .collect::<Vec<_>>(),
        [17]
    );
    // Reductions get their axes from an input since opset 18.
    let pooled = |node: NewNode<'static>, opset: i64| {
        conv_model()
            .versions(8, opset)
            .node(node)
            .output("mean", &[1, 16, 1, 1])
            .into_bytes()
    };
    let reduce = NewNode::new("ReduceMean", ["y"], ["mean"]).attribute("axes", vec![2, 3]);
    let folder = Folder::with_model(pooled(reduce, 17));
    quantize(&folder, &["--target=lut-uint4"]);
    let written = parse(folder.read("out.onnx"));
    let mut nodes = written.graph.nodes.iter();
    let reduce = nodes.find(|node| node.op_type == "ReduceMean").unwrap();
    assert_eq!((reduce.inputs.len(), reduce.attributes.len()), (2, 0));
    // What has no form there is refused, with its name.
    let norm = NewNode::new("GroupNormalization", ["y", "one", "one"], ["mean"])
        .name("norm")
        .attribute("num_groups", 1);
    let folder = Folder::with_model(pooled(norm, 18));
    let args = [
        "quantize",
        "model.onnx",
        "-o",
        "out.onnx",
        "--target=lut-uint4",
    ];
    let expected = ["opset 21", "'norm'", "GroupNormalization", "--target lut"];
    folder.refuses(&args, &expected);
}

#[test]
fn small_tensors_are_kept_and_the_reason_is_said() {
    let bytes = conv_model()
        .weights("tiny", &[8, 2])
        .input("v", &[1, 8])
        .node(NewNode::new("MatMul", ["v", "tiny"], ["u"]))
        .output("u", &[1, 2])
        .into_bytes();
    let folder = Folder::with_model(bytes);
    let report = quantize(&folder, &[]);
    assert_eq!(reported(&report, "tiny")["kept"], "too small to gain");
    assert_eq!(reported(&report, "tiny")["bits_per_weight"], 32.0);
    let stdout = folder
        .run(&["quantize", "model.onnx", "-o", "out.onnx", "--force"])
        .warns("no image and of unknown scale")
        .succeeds();
    assert!(
        stdout.contains("1 tensor stays float (64 bytes): too small to gain"),
        "{stdout}"
    );
}

#[test]
fn options_for_some_tensors_reach_them() {
    let folder = Folder::with_model(every_layer().into_bytes());
    let options = [
        "--bits=4",
        "--method=kmeans",
        "--bits-for",
        "gemm*=6",
        "--bits-for",
        "gemm_t.w=2",
        "--keep",
        "t*.w",
    ];
    let report = quantize(&folder, &options);
    let bits =
        ["conv.w", "gemm.w", "gemm_t.w"].map(|name| reported(&report, name)["bits"].as_u64());
    assert_eq!(bits, [Some(4), Some(6), Some(2)]);
    for name in ["transposed.w", "twice.w"] {
        assert_eq!(reported(&report, name)["kept"], "kept by --keep");
    }
}

#[test]
fn more_bits_lose_less() {
    let folder = Folder::with_model(conv_model().into_bytes());
    for method in [
        "auto", "ks", "gaussian", "laplace", "ggd", "kmeans", "ecsq", "minmax", "mse", "aciq",
        "pwlq", "apot", "nf",
    ] {
        let mse = |bits: u8| {
            let bits = bits.to_string();
            quantize(
                &folder,
                &["--bits", &bits, "--granularity=tensor", "--method", method],
            )["mse"]
                .as_f64()
                .unwrap()
        };
        let errors: Vec<f64> = (1..=8).map(mse).collect();
        assert!(
            errors.is_sorted_by(|more, less| more > less),
            "{method}: {errors:?}"
        );
    }
}

#[test]
fn a_model_with_few_distinct_weights_is_stored_exactly() {
    let values: Vec<f32> = random_weights("w", 1152)
        .iter()
        .map(|w| (w * 10.0).round() / 10.0)
        .collect();
    let mut distinct: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    assert!((5..=16).contains(&distinct.len()), "{distinct:?}");
    let folder = Folder::with_model(crate::support::models::conv_with(&values).into_bytes());
    for method in ["kmeans", "auto"] {
        let report = quantize(&folder, &["--granularity=tensor", "--method", method]);
        assert_eq!(report["mse"], 0.0, "{method}");
        assert_eq!(report["sqnr_db"], Value::Null, "{method}: nothing was lost");
    }
}

#[test]
fn a_weight_that_is_an_output_too_stays() {
    let bytes = conv_model()
        .weights("given", &[64, 64])
        .input("v", &[1, 64])
        .node(NewNode::new("MatMul", ["v", "given"], ["u"]))
        .node(NewNode::new("Identity", ["given"], ["copy"]))
        .output("u", &[1, 64])
        .output("copy", &[64, 64])
        .into_bytes();
    let folder = Folder::with_model(&bytes);
    for target in ["lut", "w4a8", "int8", "float"] {
        let options = ["--target", target, "--input-range=-1,1"];
        let report = quantize(&folder, &options);
        let kept = &reported(&report, "given")["kept"];
        assert_eq!(kept, "also an output of the graph", "{target}");
        let [before, after] = [bytes.clone(), folder.read("out.onnx")].map(parse);
        let values = |model: &Model| {
            let mut tensors = model.graph.initializers.iter();
            let tensor = tensors.find(|tensor| tensor.name == "given").unwrap();
            model.read_f32(tensor).unwrap()
        };
        assert_eq!(values(&before), values(&after), "{target}");
    }
}

#[test]
fn halved_weights_that_are_cast_are_quantized_where_activations_are() {
    let weights = random_weights("w", 16 * 8 * 9);
    let half = NewTensor::raw("h", &[16, 8, 3, 3], ElementType::F16, float16(&weights));
    let bytes = NewModel::new()
        .initializer(half)
        .input("x", &[1, 8, 12, 12])
        .node(NewNode::new("Cast", ["h"], ["w"]).attribute("to", 1))
        .node(NewNode::new("Conv", ["x", "w"], ["y"]))
        .output("y", &[1, 16, 10, 10])
        .into_bytes();
    let folder = Folder::with_model(bytes);
    for target in ["w4a8", "int8"] {
        let options = ["--target", target, "--input-range=-1,1"];
        let report = quantize(&folder, &options);
        assert_eq!(reported(&report, "h")["kept"], Value::Null, "{target}");
        let graph = parse(folder.read("out.onnx")).graph;
        let is_cast = |tensor: &TensorProto| tensor.name == "h";
        assert!(!graph.initializers.iter().any(is_cast), "{target}");
    }
}

#[test]
fn networks_of_half_precision_keep_the_types_of_inputs_and_outputs() {
    let weights = random_weights("w", 16 * 8 * 9);
    let half = NewTensor::raw("w", &[16, 8, 3, 3], ElementType::F16, float16(&weights));
    let bytes = NewModel::new()
        .initializer(half)
        .input_of("x", &[1, 8, 12, 12], ElementType::F16)
        .node(NewNode::new("Conv", ["x", "w"], ["y"]))
        .output_of("y", &[1, 16, 10, 10], ElementType::F16)
        .into_bytes();
    let folder = Folder::with_model(&bytes);
    for target in ["w4a8", "int8"] {
        let options = ["--target", target, "--input-range=-1,1"];
        let report = quantize(&folder, &options);
        assert_eq!(reported(&report, "w")["kept"], Value::Null, "{target}");
        let [before, after] = [bytes.clone(), folder.read("out.onnx")].map(parse);
        let types = |values: &[ValueInfo]| {
            let types = values.iter().map(|value| value.value_type.clone());
            types.collect::<Vec<_>>()
        };
        for graphs in [
            [&before.graph.inputs, &after.graph.inputs],
            [&before.graph.outputs, &after.graph.outputs],
        ] {
            let [before, after] = graphs.map(|values| types(values));
            assert_eq!(before, after, "{target}");
        }
    }
}
