use campana_ir::format::onnx;
use campana_onnx::{NewNode, Node};
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::{ElementType, Tensor, TensorData};

use super::*;
use crate::small_models::{SmallGraph, numbers};

/// What a model gives for an input of this shape.
fn outputs(model: &Model, shape: &[usize]) -> Vec<f32> {
    let graph = onnx::graph(model).expect("a graph");
    let session = Session::new(
        Plan::new(&graph, PlanOptions::default()).expect("a plan"),
        1,
    );
    let values = TensorData::F32(numbers(9, shape.iter().product()));
    let input = Tensor::new(shape.to_vec(), values).expect("values of the shape");
    let outputs = session
        .run(&[("x", Input::Tensor(&input))])
        .expect("outputs");
    match outputs[0].data() {
        TensorData::F32(values) => values.clone(),
        other => panic!("{:?}", other.element_type()),
    }
}

fn with(node: NewNode<'static>, opset: i64) -> SmallGraph {
    SmallGraph::new()
        .opset(opset)
        .input("x", &[2, 3, 4, 6])
        .node(node)
        .output("y", &[])
}

const SHAPE: [usize; 4] = [2, 3, 4, 6];

#[test]
fn old_forms_compute_what_they_did() {
    let cases: Vec<(&str, i64, NewNode<'static>)> = vec![
        (
            "Squeeze",
            11,
            NewNode::new("Unsqueeze", ["x"], ["y"]).attribute("axes", vec![0, 2]),
        ),
        (
            "ReduceSum",
            11,
            NewNode::new("ReduceSum", ["x"], ["y"]).attribute("axes", vec![1, 3]),
        ),
        (
            "Softmax of all axes",
            11,
            NewNode::new("Softmax", ["x"], ["y"]),
        ),
        (
            "Softmax of the last",
            11,
            NewNode::new("Softmax", ["x"], ["y"]).attribute("axis", 3),
        ),
        (
            "LogSoftmax",
            11,
            NewNode::new("LogSoftmax", ["x"], ["y"]).attribute("axis", 2),
        ),
        (
            "Slice",
            9,
            NewNode::new("Slice", ["x"], ["y"])
                .attribute("starts", vec![1, 0])
                .attribute("ends", vec![3, 2])
                .attribute("axes", vec![3, 1]),
        ),
        (
            "Clip",
            7,
            NewNode::new("Clip", ["x"], ["y"])
                .attribute("min", -0.1f32)
                .attribute("max", 0.2f32),
        ),
        (
            "Pad",
            9,
            NewNode::new("Pad", ["x"], ["y"])
                .attribute("pads", vec![0, 0, 1, 2, 0, 0, 3, 0])
                .attribute("value", 0.5f32),
        ),
        (
            "Dropout",
            9,
            NewNode::new("Dropout", ["x"], ["y"]).attribute("ratio", 0.3f32),
        ),
    ];
    for (name, opset, node) in cases {
        let old = with(node, opset).into_model();
        let new = upgraded(&old, RAISED_TO)
            .expect(name)
            .expect("an older opset");
        assert_eq!(opset::version(&new), RAISED_TO);
        assert_eq!(outputs(&old, &SHAPE), outputs(&new, &SHAPE), "{name}");
    }
}

#[test]
fn forms_are_those_of_opset_13() {
    let of = |model: &Model, op_type: &str| -> Node {
        let mut nodes = model.graph.nodes.iter();
        let found = nodes.find(|node| node.op_type == op_type);
        found.unwrap_or_else(|| panic!("no {op_type}")).clone()
    };
    let raised = |node: NewNode<'static>, opset: i64| {
        upgraded(&with(node, opset).into_model(), RAISED_TO)
            .expect("a known change")
            .expect("older")
    };
    let squeeze = NewNode::new("Squeeze", ["x"], ["y"]).attribute("axes", vec![0]);
    let squeeze = of(&raised(squeeze, 11), "Squeeze");
    assert_eq!((squeeze.inputs.len(), squeeze.attributes.len()), (2, 0));
    let split = NewNode::new("Split", ["x"], ["y", "z"])
        .attribute("split", vec![1, 2])
        .attribute("axis", 1);
    let split = of(&raised(split, 11), "Split");
    assert_eq!((split.inputs.len(), split.int("axis")), (2, Some(1)));
    let scales = campana_onnx::NewAttribute::Floats(vec![1.0, 1.0, 2.0, 2.0]);
    let upsample = NewNode::new("Upsample", ["x"], ["y"])
        .attribute("mode", "nearest")
        .attribute("scales", scales);
    let resize = of(&raised(upsample, 7), "Resize");
    assert_eq!(resize.inputs[1], "");
    assert_eq!(resize.inputs.len(), 3);
    assert!(resize.attribute("coordinate_transformation_mode").is_some());
    assert!(resize.attribute("scales").is_none());
    let top = NewNode::new("TopK", ["x"], ["y", "i"]).attribute("k", 2);
    assert_eq!(of(&raised(top, 9), "TopK").inputs.len(), 2);
}

#[test]
fn old_forms_compute_at_opset_21_what_they_did() {
    let ints = |op_type: &str, name: &str, values: &[i64]| {
        NewNode::new(op_type, ["x"], ["y"]).attribute(name, values.to_vec())
    };
    let cases: Vec<(i64, NewNode<'static>)> = vec![
        (17, ints("ReduceMean", "axes", &[2, 3])),
        (
            13,
            ints("ReduceMax", "axes", &[-1]).attribute("keepdims", 0),
        ),
        (11, ints("ReduceL2", "axes", &[1])),
        (13, NewNode::new("ReduceMin", ["x"], ["y"])),
        (
            13,
            NewNode::new("Split", ["x"], ["y", "z"]).attribute("axis", 3),
        ),
        (
            11,
            NewNode::new("Split", ["x"], ["y", "z"])
                .attribute("split", vec![1, 3])
                .attribute("axis", 2),
        ),
        (
            16,
            NewNode::new("GridSample", ["x", "grid"], ["y"]).attribute("mode", "bilinear"),
        ),
        (
            11,
            NewNode::new("Resize", ["x", "none", "none", "sizes"], ["y"])
                .attribute("mode", "linear"),
        ),
    ];
    for (opset, node) in cases {
        let sizes = [2i64, 3, 7, 9].iter().flat_map(|size| size.to_le_bytes());
        let old = with(node, opset)
            .tensor("sizes", &[4], ElementType::I64, sizes.collect())
            .floats("none", &[0], &[])
            .weights("grid", &[2, 2, 2, 2])
            .into_model();
        let new = upgraded(&old, 21).expect("a newer form").expect("older");
        assert_eq!(opset::version(&new), 21);
        let op_type = &old.graph.nodes[0].op_type;
        assert_eq!(outputs(&old, &SHAPE), outputs(&new, &SHAPE), "{op_type}");
    }
}

#[test]
fn forms_of_opset_21_say_what_was_meant_before() {
    let raised = |node: NewNode<'static>| {
        let model = with(node, 17).into_model();
        let raised = upgraded(&model, 21).expect("a newer form").expect("older");
        raised.graph.nodes.last().expect("a node").clone()
    };
    let split = raised(NewNode::new("Split", ["x"], ["y", "z"]));
    assert_eq!(split.int("num_outputs"), Some(2));
    let mean = raised(NewNode::new("ReduceMean", ["x"], ["y"]).attribute("axes", vec![1]));
    assert_eq!((mean.inputs.len(), mean.attributes.len()), (2, 0));
    let dft = raised(NewNode::new("DFT", ["x"], ["y"]));
    assert_eq!((dft.inputs.len(), &*dft.inputs[1]), (3, ""));
    let norm = NewNode::new("GroupNormalization", ["x", "s", "b"], ["y"]).name("norm");
    let model = with(norm.attribute("num_groups", 1), 18).into_model();
    let message = upgraded(&model, 21).expect_err("no newer form").to_string();
    assert!(message.contains("'norm' (GroupNormalization)"), "{message}");
    assert!(message.contains("opset 21"), "{message}");
}

#[test]
fn softmax_over_the_last_axis_stays_one_operator() {
    let flat = SmallGraph::new()
        .opset(9)
        .input("x", &[2, 12])
        .node(NewNode::new("Softmax", ["x"], ["y"]))
        .output("y", &[2, 12])
        .into_model();
    let raised = upgraded(&flat, RAISED_TO)
        .expect("a known change")
        .expect("older");
    assert_eq!(raised.graph.nodes.len(), 1);
    assert_eq!(raised.graph.nodes[0].int("axis"), Some(-1));
}

#[test]
fn what_has_no_newer_form_is_named() {
    let cases = [
        ("Crop", 7, NewNode::new("Crop", ["x"], ["y"]).name("cut")),
        (
            "BatchNormalization",
            7,
            NewNode::new("BatchNormalization", ["x", "s", "s", "s", "s"], ["y"])
                .attribute("spatial", 0)
                .name("cut"),
        ),
    ];
    for (op_type, opset, node) in cases {
        let error =
            upgraded(&with(node, opset).into_model(), RAISED_TO).expect_err("no newer form");
        let message = error.to_string();
        assert!(message.contains(&format!("'cut' ({op_type})")), "{message}");
    }
    let early = with(NewNode::new("Relu", ["x"], ["y"]), 6).into_model();
    assert!(upgraded(&early, RAISED_TO).is_err());
    let current = with(NewNode::new("Relu", ["x"], ["y"]), 13).into_model();
    assert!(
        upgraded(&current, RAISED_TO)
            .expect("nothing to do")
            .is_none()
    );
}

#[test]
fn nodes_inside_of_nodes_are_raised_too() {
    let branch = |name: &str| {
        let squeeze = NewNode::new("Squeeze", ["x"], [name]).attribute("axes", vec![0]);
        campana_onnx::NewAttribute::Graph(
            SmallGraph::new()
                .node(squeeze)
                .output(name, &[])
                .into_fields(),
        )
    };
    let node = NewNode::new("If", ["c"], ["y"])
        .attribute("then_branch", branch("a"))
        .attribute("else_branch", branch("b"));
    let model = SmallGraph::new()
        .opset(11)
        .input("x", &[1, 2])
        .input("c", &[])
        .node(node)
        .output("y", &[]);
    let raised = upgraded(&model.into_model(), RAISED_TO)
        .expect("a known change")
        .expect("older");
    let graphs = raised.graphs();
    assert_eq!(graphs.len(), 3);
    for graph in &graphs[1..] {
        let last = graph.nodes.last().expect("a node");
        assert_eq!((last.op_type.as_str(), last.inputs.len()), ("Squeeze", 2));
    }
}
