use campana_onnx::NewNode;

use super::*;
use crate::small_models::SmallGraph;

fn options(target: Target) -> Options {
    Options {
        target,
        ..Options::default()
    }
}

fn refusal(model: Model, target: Target) -> String {
    admit(model, &options(target))
        .expect_err("refused")
        .to_string()
}

fn conv() -> SmallGraph {
    SmallGraph::new()
        .input("x", &[1, 4, 8, 8])
        .output("y", &[1, 8, 8, 8])
        .weights("w", &[8, 4, 1, 1])
}

#[test]
fn a_network_without_weights_is_refused() {
    let relu = SmallGraph::new()
        .input("x", &[1, 4])
        .output("y", &[1, 4])
        .node(NewNode::new("Relu", ["x"], ["y"]));
    assert!(refusal(relu.into_model(), Target::Lut).contains("no weights"));
}

#[test]
fn batch_normalization_in_training_form_is_refused_at_each_opset() {
    let statistics = |graph: SmallGraph| {
        ["s", "b", "m", "v"]
            .into_iter()
            .fold(graph, |graph, name| graph.floats(name, &[8], &[1.0; 8]))
    };
    for opset in [6, 7, 9, 13, 14, 20] {
        let norm = NewNode::new(
            "BatchNormalization",
            ["c", "s", "b", "m", "v"],
            ["y", "m2", "v2"],
        );
        let norm = if opset >= 14 {
            norm.attribute("training_mode", 1)
        } else {
            norm
        };
        let graph = statistics(conv().opset(opset))
            .node(NewNode::new("Conv", ["x", "w"], ["c"]))
            .node(norm);
        let message = refusal(graph.into_model(), Target::Lut);
        assert!(
            message.contains("'y' (BatchNormalization)"),
            "{opset}: {message}"
        );
    }
    let plain = NewNode::new("BatchNormalization", ["c", "s", "b", "m", "v"], ["y"]);
    let graph = statistics(conv().opset(9))
        .node(NewNode::new("Conv", ["x", "w"], ["c"]))
        .node(plain);
    admit(graph.into_model(), &options(Target::Lut)).expect("in the form for inference");
}

#[test]
fn quantized_models_are_said_to_be_so() {
    let integers =
        |graph: SmallGraph| graph.tensor("q", &[8, 4, 1, 1], ElementType::I8, vec![1; 32]);
    let cases = [
        (
            "DequantizeLinear",
            integers(conv())
                .floats("s", &[], &[0.1])
                .node(NewNode::new("DequantizeLinear", ["q", "s"], ["d"]))
                .node(NewNode::new("Conv", ["x", "d"], ["y"])),
        ),
        (
            "integer operators",
            integers(conv()).node(NewNode::new("ConvInteger", ["x", "q"], ["y"])),
        ),
        (
            "codebook",
            conv()
                .tensor("q", &[16], ElementType::U8, vec![1; 16])
                .node(NewNode::new("Cast", ["q"], ["p"]).attribute("to", 6))
                .node(NewNode::new("Gather", ["table", "p"], ["d"]))
                .node(NewNode::new("Conv", ["x", "d"], ["y"])),
        ),
    ];
    for (form, graph) in cases {
        let message = refusal(graph.into_model(), Target::Lut);
        assert!(
            message.contains("quantized already") && message.contains(form),
            "{message}"
        );
    }
}

#[test]
fn float_weights_beside_few_integers_are_quantized() {
    let graph = conv()
        .tensor("q", &[8], ElementType::I8, vec![1; 8])
        .floats("s", &[], &[0.1])
        .node(NewNode::new("DequantizeLinear", ["q", "s"], ["b"]))
        .node(NewNode::new("Conv", ["x", "w", "b"], ["y"]));
    admit(graph.into_model(), &options(Target::Lut)).expect("weights to quantize");
}

#[test]
fn weights_inside_of_nodes_need_others_where_activations_are_rounded() {
    let branch = |name: &str| {
        let own = format!("w{name}");
        SmallGraph::new()
            .weights(&own, &[8, 4, 1, 1])
            .output(name, &[1, 8, 8, 8])
            .node(NewNode::new("Conv", ["x", &own], [name]))
            .into_fields()
    };
    let graph = |has_layer: bool| {
        let node = NewNode::new("If", ["c"], ["y"])
            .attribute(
                "then_branch",
                campana_onnx::NewAttribute::Graph(branch("a")),
            )
            .attribute(
                "else_branch",
                campana_onnx::NewAttribute::Graph(branch("b")),
            );
        let graph = SmallGraph::new()
            .input("x", &[1, 4, 8, 8])
            .input("c", &[])
            .output("y", &[1, 8, 8, 8])
            .node(node);
        let graph = match has_layer {
            true => graph
                .weights("wz", &[4, 8, 1, 1])
                .node(NewNode::new("Conv", ["y", "wz"], ["z"]))
                .output("z", &[1, 4, 8, 8]),
            false => graph,
        };
        graph.into_model()
    };
    for target in [Target::W4a8, Target::Int8] {
        assert!(refusal(graph(false), target).contains("'wa'"));
        admit(graph(true), &options(target)).expect("a layer beside the branches");
    }
    admit(graph(false), &options(Target::Lut)).expect("weights of branches");
}

#[test]
fn models_are_raised_where_the_target_asks_for_it() {
    let graph = || {
        let conv = NewNode::new("Conv", ["x", "w"], ["y"]);
        SmallGraph::new()
            .opset(9)
            .input("x", &[1, 4, 8, 8])
            .output("y", &[1, 8, 8, 8])
            .weights("w", &[8, 4, 1, 1])
            .node(conv)
            .into_model()
    };
    for (target, opset) in [(Target::Lut, 9), (Target::W4a8, 13), (Target::Int8, 13)] {
        let model = admit(graph(), &options(target)).expect("a plain convolution");
        assert_eq!(opset::version(&model), opset, "{target}");
    }
}

#[test]
fn networks_that_campana_cannot_run_are_refused_where_activations_are_rounded() {
    let graph = || {
        conv()
            .node(NewNode::new("Conv", ["x", "w"], ["c"]))
            .node(NewNode::new("Unheard", ["c"], ["y"]))
            .into_model()
    };
    assert!(refusal(graph(), Target::W4a8).contains("cannot run"));
    admit(graph(), &options(Target::Lut)).expect("weights to quantize");
}
