use campana_ir::graph::{Attribute, Graph, Node, Value};
use proptest::prelude::*;

use super::*;
use crate::error::{PlanErrorKind, RunErrorKind};
use crate::plan::PlanOptions;

mod codes;
mod control;
mod elementwise;
mod limits;
mod shapes;

/// Sums in another order, of at most a few hundred products of size 1.
const MAX_ERROR: f32 = 1e-4;

/// Builds graphs one node at a time.
#[derive(Default)]
struct Builder {
    graph: Graph,
    seed: u32,
}

impl Builder {
    fn new() -> Self {
        let mut builder = Self::default();
        builder.graph.opsets.insert(String::new(), 17);
        builder
    }

    fn input(&mut self, name: &str) -> String {
        self.graph.inputs.push(value(name));
        name.into()
    }

    fn constant(&mut self, tensor: Tensor) -> String {
        let name = format!("c{}", self.graph.constants.len());
        self.graph.constants.insert(name.clone(), tensor);
        name
    }

    fn noise(&mut self, shape: &[usize]) -> String {
        self.seed += 1;
        let tensor = noise(shape, self.seed);
        self.constant(tensor)
    }

    fn ints(&mut self, values: &[i64]) -> String {
        self.constant(Tensor::new(vec![values.len()], TensorData::I64(values.to_vec())).unwrap())
    }

    fn node(&mut self, op_type: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let output = format!("v{}", self.graph.nodes.len());
        self.graph.nodes.push(Node {
            name: format!("node{}", self.graph.nodes.len()),
            op_type: op_type.into(),
            inputs: inputs.iter().map(|&name| name.into()).collect(),
            outputs: vec![output.clone()],
            attributes: attributes
                .iter()
                .map(|(name, value)| ((*name).into(), value.clone()))
                .collect(),
            ..Node::default()
        });
        output
    }

    fn conv(&mut self, input: &str, weights: &[usize], attributes: &[(&str, Attribute)]) -> String {
        let (w, b) = (self.noise(weights), self.noise(&weights[..1]));
        self.node("Conv", &[input, &w, &b], attributes)
    }

    fn normalize(&mut self, input: &str, channels: usize) -> String {
        let parameters: Vec<String> = (0..3).map(|_| self.noise(&[channels])).collect();
        let variance = TensorData::F32((0..channels).map(|c| 0.5 + c as f32).collect());
        let variance = self.constant(Tensor::new(vec![channels], variance).unwrap());
        let inputs = [
            input,
            &parameters[0],
            &parameters[1],
            &parameters[2],
            &variance,
        ];
        self.node("BatchNormalization", &inputs, &[])
    }

    fn output(&mut self, name: &str) {
        self.graph.outputs.push(value(name));
    }

    /// Checks that the session gives what every operator by its reference fallback gives.
    fn check(&self, inputs: &[(&str, Tensor)]) {
        let options = PlanOptions {
            fuse: false,
            keep_weights: true,
            ..PlanOptions::default()
        };
        let oracle = Session::new(Plan::new(&self.graph, options).unwrap(), 1);
        let plain_inputs: Vec<Input<'_>> = oracle
            .plan
            .inputs
            .iter()
            .map(|value| {
                (&inputs
                    .iter()
                    .find(|(name, _)| *name == value.name)
                    .unwrap()
                    .1)
                    .into()
            })
            .collect();
        let expected = oracle.run_plain(&plain_inputs).unwrap();
        let named: Vec<(&str, Input<'_>)> = inputs.iter().map(|(n, t)| (*n, t.into())).collect();
        for threads in [1, 2] {
            let options = PlanOptions {
                threads,
                ..PlanOptions::default()
            };
            // The graph is lent once, and given away once.
            let plan = match threads {
                1 => Plan::new(&self.graph, options),
                _ => Plan::new(self.graph.clone(), options),
            };
            let session = Session::new(plan.unwrap(), threads);
            // Twice: memory is used again.
            for _ in 0..2 {
                let outputs = session.run(&named).unwrap();
                assert_eq!(outputs.len(), expected.len());
                for (output, expected) in outputs.iter().zip(&expected) {
                    match output.data() {
                        TensorData::F32(_) => assert_close(output, expected),
                        _ => assert_eq!(output, expected),
                    }
                }
            }
            let (outputs, times) = session.profile(&named).unwrap();
            assert_close(&outputs[0], &expected[0]);
            assert!(times.len() <= self.graph.nodes.len());
        }
    }
}

fn value(name: &str) -> Value {
    Value {
        name: name.into(),
        element_type: None,
        shape: None,
    }
}

fn ints(values: &[i64]) -> Attribute {
    Attribute::Ints(values.to_vec())
}

fn noise(shape: &[usize], seed: u32) -> Tensor {
    let mut state = seed.wrapping_mul(2_654_435_761);
    let values = (0..shape.iter().product::<usize>())
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect();
    Tensor::new(shape.to_vec(), TensorData::F32(values)).unwrap()
}

fn floats(tensor: &Tensor) -> &[f32] {
    match tensor.data() {
        TensorData::F32(values) => values,
        other => panic!("{} in place of floats", other.element_type()),
    }
}

fn assert_close(output: &Tensor, expected: &Tensor) {
    assert_eq!(output.shape(), expected.shape());
    for (a, e) in floats(output).iter().zip(floats(expected)) {
        assert!((a - e).abs() <= MAX_ERROR * e.abs().max(1.0), "{a} for {e}");
    }
}

/// A residual block with a strided shortcut, as CIFAR's ResNets have it.
fn residual_network() -> Builder {
    let mut b = Builder::new();
    let x = b.input("x");
    let pads = [("pads", ints(&[1, 1, 1, 1]))];
    let stem = b.conv(&x, &[8, 3, 3, 3], &pads);
    let stem = b.normalize(&stem, 8);
    let stem = b.node("Relu", &[&stem], &[]);
    let strided = [("pads", ints(&[1, 1, 1, 1])), ("strides", ints(&[2, 2]))];
    let left = b.conv(&stem, &[16, 8, 3, 3], &strided);
    let left = b.node("Relu", &[&left], &[]);
    let left = b.conv(&left, &[16, 16, 3, 3], &pads);
    let left = b.normalize(&left, 16);
    let slice: Vec<String> = [[0, 0], [99, 99], [2, 3], [2, 2]]
        .iter()
        .map(|v| b.ints(v))
        .collect();
    let right = b.node(
        "Slice",
        &[&stem, &slice[0], &slice[1], &slice[2], &slice[3]],
        &[],
    );
    let amounts = b.ints(&[0, 4, 0, 0, 0, 4, 0, 0]);
    let right = b.node("Pad", &[&right, &amounts], &[]);
    let sum = b.node("Add", &[&left, &right], &[]);
    let sum = b.node("Relu", &[&sum], &[]);
    let pooled = b.node("GlobalAveragePool", &[&sum], &[]);
    let flat = b.node("Flatten", &[&pooled], &[]);
    let (w, bias) = (b.noise(&[5, 16]), b.noise(&[5]));
    let logits = b.node(
        "Gemm",
        &[&flat, &w, &bias],
        &[("transB", Attribute::Int(1))],
    );
    b.output(&logits);
    b
}

#[test]
fn a_residual_network_equals_its_plain_form_at_every_batch_size() {
    let b = residual_network();
    for batch in [1, 2, 5] {
        b.check(&[("x", noise(&[batch, 3, 9, 12], 7))]);
    }
}

#[test]
fn what_follows_a_convolution_is_fused_into_it() {
    let plan = Plan::new(&residual_network().graph, PlanOptions::default()).unwrap();
    let ops: Vec<&str> = plan
        .nodes
        .iter()
        .map(|planned| planned.node.op_type.as_str())
        .collect();
    assert_eq!(
        ops,
        [
            "Conv",
            "Conv",
            "Slice",
            "Pad",
            "Conv",
            "GlobalAveragePool",
            "Flatten",
            "Gemm"
        ]
    );
}

#[test]
fn a_depthwise_network_equals_its_plain_form() {
    let mut b = Builder::new();
    let x = b.input("x");
    let (zero, six) = (b.constant(scalar(0.0)), b.constant(scalar(6.0)));
    let stem = b.conv(
        &x,
        &[16, 3, 3, 3],
        &[("pads", ints(&[0, 0, 1, 1])), ("strides", ints(&[2, 2]))],
    );
    let stem = b.node("Clip", &[&stem, &zero, &six], &[]);
    let dw = b.conv(
        &stem,
        &[16, 1, 5, 5],
        &[("pads", ints(&[2, 2, 2, 2])), ("group", Attribute::Int(16))],
    );
    let dw = b.node("Clip", &[&dw, &zero, &six], &[]);
    let pw = b.conv(&dw, &[16, 16, 1, 1], &[]);
    let sum = b.node("Add", &[&stem, &pw], &[]);
    let grouped = b.conv(
        &sum,
        &[24, 4, 3, 3],
        &[("group", Attribute::Int(4)), ("dilations", ints(&[2, 1]))],
    );
    let silu = b.node("Sigmoid", &[&grouped], &[]);
    let silu = b.node("Mul", &[&grouped, &silu], &[]);
    b.output(&silu);
    for batch in [1, 3] {
        b.check(&[("x", noise(&[batch, 3, 20, 17], 3))]);
    }
}

fn scalar(v: f32) -> Tensor {
    Tensor::new(vec![], TensorData::F32(vec![v])).unwrap()
}

#[test]
fn layouts_meet_in_every_kind_of_operator() {
    let mut b = Builder::new();
    let (x, y) = (b.input("x"), b.input("y"));
    let pads = [("pads", ints(&[1, 1, 1, 1]))];
    // Channels-last from here, while y is channels-first.
    let conv = b.conv(&x, &[6, 6, 3, 3], &pads);
    let sum = b.node("Mul", &[&conv, &y], &[]);
    let pool = [
        ("kernel_shape", ints(&[3, 2])),
        ("strides", ints(&[1, 1])),
        ("pads", ints(&[1, 0, 1, 1])),
    ];
    let max = b.node("MaxPool", &[&sum], &pool);
    let mean = b.node("AveragePool", &[&y], &pool);
    let cat = b.node("Concat", &[&max, &mean, &x], &[("axis", Attribute::Int(1))]);
    let turned = b.node("Transpose", &[&cat], &[("perm", ints(&[0, 2, 3, 1]))]);
    let per_channel = b.noise(&[18]);
    let turned = b.node("Sub", &[&turned, &per_channel], &[]);
    let w = b.noise(&[18, 4]);
    let product = b.node("MatMul", &[&turned, &w], &[]);
    let tanh = b.node("Tanh", &[&product], &[]);
    let shape = b.ints(&[0, -1]);
    let flat = b.node("Reshape", &[&cat, &shape], &[]);
    let soft = b.node("Softmax", &[&flat], &[]);
    b.output(&tanh);
    b.output(&soft);
    b.output(&max);
    for batch in [1, 2] {
        b.check(&[
            ("x", noise(&[batch, 6, 5, 4], 1)),
            ("y", noise(&[batch, 6, 5, 4], 2)),
        ]);
    }
}

#[test]
fn one_dimensional_convolutions_run() {
    let mut b = Builder::new();
    let x = b.input("x");
    let conv = b.conv(
        &x,
        &[8, 5, 4],
        &[
            ("auto_pad", Attribute::String(b"SAME_UPPER".to_vec())),
            ("strides", ints(&[2])),
        ],
    );
    let depthwise = b.conv(&conv, &[8, 1, 3], &[("group", Attribute::Int(8))]);
    b.output(&depthwise);
    b.check(&[("x", noise(&[2, 5, 19], 1))]);
}

#[test]
fn what_works_across_the_batch_is_not_taken_apart() {
    let mut b = Builder::new();
    let x = b.input("x");
    let relu = b.node("Relu", &[&x], &[]);
    let soft = b.node("Softmax", &[&relu], &[("axis", Attribute::Int(0))]);
    b.output(&soft);
    b.check(&[("x", noise(&[4, 3], 1))]);

    let mut b = Builder::new();
    let x = b.input("x");
    // A sum over a batch that is as long as the rows.
    let transposed = b.node("Transpose", &[&x], &[("perm", ints(&[1, 0]))]);
    let sum = b.node("Add", &[&x, &transposed], &[]);
    b.output(&sum);
    b.check(&[("x", noise(&[3, 3], 1))]);
}

#[test]
fn shapes_that_are_computed_from_shapes_are_known_beforehand() {
    let mut b = Builder::new();
    let x = b.input("x");
    let shape = b.node("Shape", &[&x], &[]);
    let zero = b.ints(&[0]);
    let batch = b.node("Gather", &[&shape, &zero], &[]);
    let rest = b.ints(&[-1]);
    let target = b.node("Concat", &[&batch, &rest], &[("axis", Attribute::Int(0))]);
    let flat = b.node("Reshape", &[&x, &target], &[]);
    b.output(&flat);
    for batch in [1, 3] {
        b.check(&[("x", noise(&[batch, 2, 2, 2], 1))]);
    }
}

#[test]
fn shapes_that_depend_on_values_are_found_while_running() {
    let mut b = Builder::new();
    let (x, shape) = (b.input("x"), b.input("shape"));
    let relu = b.node("Relu", &[&x], &[]);
    let result = b.node("Reshape", &[&relu, &shape], &[]);
    b.output(&result);
    let session = Session::new(Plan::new(&b.graph, PlanOptions::default()).unwrap(), 1);
    let shape = Tensor::new(vec![2], TensorData::I64(vec![3, 2])).unwrap();
    let x = noise(&[2, 3], 1);
    let outputs = session
        .run(&[("x", (&x).into()), ("shape", (&shape).into())])
        .unwrap();
    assert_eq!(outputs[0].shape(), [3, 2]);
}

#[test]
fn a_codebook_is_decoded_when_the_plan_is_made() {
    let mut b = Builder::new();
    let x = b.input("x");
    let codes = b.constant(Tensor::new(vec![4], TensorData::U8(vec![0, 255, 16, 3])).unwrap());
    let table = b.noise(&[256, 2]);
    let codes = b.node("Cast", &[&codes], &[("to", Attribute::Int(6))]);
    let pairs = b.node("Gather", &[&table, &codes], &[]);
    let shape = b.ints(&[2, 4, 1, 1]);
    let weights = b.node("Reshape", &[&pairs, &shape], &[]);
    let scale = b.noise(&[2, 1, 1, 1]);
    let weights = b.node("Mul", &[&weights, &scale], &[]);
    let result = b.node("Conv", &[&x, &weights], &[]);
    b.output(&result);
    b.check(&[("x", noise(&[1, 4, 3, 3], 1))]);
    let plan = Plan::new(&b.graph, PlanOptions::default()).unwrap();
    assert_eq!(plan.nodes.len(), 1);
    assert!(plan.constants.is_empty(), "packed weights are kept once");
}

#[test]
fn quantized_activations_are_one_pass_over_floats() {
    let mut b = Builder::new();
    let x = b.input("x");
    let scale = b.constant(scalar(0.05));
    let zero = b.constant(Tensor::new(vec![], TensorData::U8(vec![100])).unwrap());
    let codes = b.node("QuantizeLinear", &[&x, &scale, &zero], &[]);
    let levels = b.node("DequantizeLinear", &[&codes, &scale, &zero], &[]);
    let conv = b.conv(&levels, &[4, 3, 1, 1], &[]);
    let tanh = b.node("Tanh", &[&conv], &[]);
    b.output(&tanh);
    b.check(&[("x", noise(&[2, 3, 4, 4], 1))]);
    let plan = Plan::new(&b.graph, PlanOptions::default()).unwrap();
    assert_eq!(plan.nodes.len(), 3);
    // Codes that something else reads are made all the same.
    b.output(&codes);
    b.check(&[("x", noise(&[1, 3, 4, 4], 1))]);
}

#[test]
fn an_operator_that_is_not_made_here_is_named_with_its_node() {
    let mut b = Builder::new();
    let x = b.input("x");
    let y = b.node("ImageDecoder", &[&x], &[]);
    b.output(&y);
    let error = Plan::new(&b.graph, PlanOptions::default()).unwrap_err();
    assert_eq!(error.kind(), PlanErrorKind::Unsupported);
    assert_eq!(
        error.to_string(),
        "node \"node0\" (ImageDecoder): not supported: this operator"
    );
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let mut b = Builder::new();
    let x = b.input("x");
    let y = b.conv(&x, &[4, 3, 3, 3], &[]);
    b.output(&y);
    b.graph.inputs[0].element_type = Some(ElementType::F32);
    b.graph.inputs[0].shape = Some(
        [("N", 0), ("", 3), ("", 8), ("", 8)]
            .map(|(name, dim)| match name {
                "" => Dim::Fixed(dim),
                name => Dim::Symbol(name.into()),
            })
            .to_vec(),
    );
    let session = Session::new(Plan::new(&b.graph, PlanOptions::default()).unwrap(), 1);
    let good = noise(&[2, 3, 8, 8], 1);
    let refused = |inputs: &[(&str, &Tensor)]| {
        let inputs: Vec<(&str, Input<'_>)> =
            inputs.iter().map(|(n, t)| (*n, (*t).into())).collect();
        let error = session.run(&inputs).unwrap_err();
        assert_eq!(error.kind(), RunErrorKind::Input);
        error.to_string()
    };
    assert!(session.run(&[("x", (&good).into())]).is_ok());
    assert_eq!(refused(&[]), "input \"x\" is missing");
    assert!(refused(&[("y", &good)]).contains("no input is named \"y\""));
    assert!(refused(&[("x", &good), ("x", &good)]).contains("given twice"));
    let message = refused(&[("x", &noise(&[1, 4, 8, 8], 1))]);
    assert_eq!(
        message,
        "input \"x\" has shape [N, 3, 8, 8] in the model, [1, 4, 8, 8] was given"
    );
    let bytes = Tensor::new(vec![1, 3, 8, 8], TensorData::U8(vec![0; 192])).unwrap();
    assert_eq!(
        refused(&[("x", &bytes)]),
        "input \"x\" is float32 in the model, uint8 was given"
    );
    let short = Input::F32 {
        shape: &[1, 3, 8, 8],
        data: &[0.0],
    };
    assert!(session.run(&[("x", short)]).is_err());
}

#[test]
fn shapes_that_a_node_cannot_take_are_an_error_that_names_it() {
    let mut b = Builder::new();
    let x = b.input("x");
    let y = b.conv(&x, &[4, 3, 3, 3], &[]);
    b.output(&y);
    let session = Session::new(Plan::new(&b.graph, PlanOptions::default()).unwrap(), 1);
    for shape in [&[1, 2, 8, 8][..], &[1, 3, 2, 8], &[1, 3], &[1, 3, 2, 2, 2]] {
        let error = session
            .run(&[("x", (&noise(shape, 1)).into())])
            .unwrap_err();
        assert_eq!(error.kind(), RunErrorKind::Shape);
        assert!(
            error.to_string().contains("node \"node0\" (Conv)"),
            "{error}"
        );
    }
}

#[test]
fn a_session_is_used_from_several_threads_at_once() {
    let b = residual_network();
    let session = Session::new(Plan::new(&b.graph, PlanOptions::default()).unwrap(), 2);
    let x = noise(&[3, 3, 9, 12], 7);
    let expected = session.run(&[("x", (&x).into())]).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..20 {
                    assert_eq!(session.run(&[("x", (&x).into())]).unwrap(), expected);
                }
            });
        }
    });
}

#[test]
fn hostile_attributes_are_errors_and_never_panic() {
    const NUMBERS: &[i64] = &[
        i64::MIN,
        -(1 << 40),
        -3,
        -1,
        0,
        1,
        7,
        1 << 20,
        1 << 40,
        i64::MAX,
    ];
    // Operators with the shapes of their constant inputs and their attributes.
    type Case = (
        &'static str,
        &'static [&'static [usize]],
        &'static [(&'static str, usize)],
    );
    const CASES: &[Case] = &[
        (
            "Conv",
            &[&[4, 2, 3, 3]],
            &[
                ("group", 0),
                ("strides", 2),
                ("dilations", 2),
                ("pads", 4),
                ("kernel_shape", 2),
            ],
        ),
        (
            "ConvTranspose",
            &[&[2, 2, 3, 3]],
            &[
                ("group", 0),
                ("strides", 2),
                ("dilations", 2),
                ("pads", 4),
                ("output_padding", 2),
                ("output_shape", 2),
            ],
        ),
        (
            "MaxPool",
            &[],
            &[
                ("kernel_shape", 2),
                ("strides", 2),
                ("pads", 4),
                ("dilations", 2),
                ("ceil_mode", 0),
            ],
        ),
        (
            "AveragePool",
            &[],
            &[("kernel_shape", 2), ("kernel_shape", 1), ("pads", 3)],
        ),
        ("Concat", &[&[1, 2, 5, 5]], &[("axis", 0)]),
        ("Transpose", &[], &[("perm", 4)]),
        ("Flatten", &[], &[("axis", 0)]),
        ("Softmax", &[], &[("axis", 0)]),
        ("ReduceMean", &[], &[("axes", 2)]),
        ("ArgMax", &[], &[("axis", 0)]),
        ("LayerNormalization", &[&[5]], &[("axis", 0)]),
        ("LRN", &[], &[("size", 0)]),
        ("DepthToSpace", &[], &[("blocksize", 0)]),
        ("SpaceToDepth", &[], &[("blocksize", 0)]),
        ("BatchNormalization", &[&[2], &[2], &[2]], &[]),
        ("Gemm", &[&[5, 5]], &[("transB", 0)]),
        ("MatMul", &[&[5, 3]], &[]),
        ("Relu", &[], &[]),
        (
            "Split",
            &[],
            &[("axis", 0), ("split", 2), ("num_outputs", 0)],
        ),
        ("Shape", &[], &[("start", 0), ("end", 0)]),
    ];
    let x = noise(&[1, 2, 5, 5], 1);
    let run = |b: &Builder| {
        let Ok(plan) = Plan::new(&b.graph, PlanOptions::default()) else {
            return;
        };
        // Errors are as good as results here.
        let _ = Session::new(plan, 1).run(&[("x", (&x).into())]);
    };
    for (op, shapes, attributes) in CASES {
        for (name, count) in attributes.iter().chain(&[("unknown", 0)]) {
            for number in NUMBERS {
                let mut b = Builder::new();
                let input = b.input("x");
                let constants: Vec<String> = shapes.iter().map(|shape| b.noise(shape)).collect();
                let mut inputs: Vec<&str> = vec![&input];
                inputs.extend(constants.iter().map(String::as_str));
                let attribute = match count {
                    0 => Attribute::Int(*number),
                    count => ints(&vec![*number; *count]),
                };
                let y = b.node(op, &inputs, &[(name, attribute)]);
                b.output(&y);
                run(&b);
                // Without any input.
                b.graph.nodes[0].inputs.clear();
                run(&b);
            }
        }
    }
    // Operators whose numbers are tensors.
    for op in [
        "Slice",
        "Pad",
        "Reshape",
        "Expand",
        "Tile",
        "Squeeze",
        "Unsqueeze",
        "Split",
        "Gather",
        "ReduceSum",
        "Resize",
    ] {
        for number in NUMBERS {
            for count in [1, 2, 4, 8] {
                let mut b = Builder::new();
                let input = b.input("x");
                let numbers = b.ints(&vec![*number; count]);
                let y = match op {
                    "Slice" => b.node(op, &[&input, &numbers, &numbers], &[]),
                    "Resize" => b.node(op, &[&input, "", "", &numbers], &[]),
                    _ => b.node(op, &[&input, &numbers], &[]),
                };
                b.output(&y);
                run(&b);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn convolutions_of_every_geometry_equal_their_plain_form(
        channels in 1usize..6, filters in 1usize..20, groups in 1usize..5,
        size in prop::array::uniform2(1usize..12), window in prop::array::uniform2(1usize..4),
        strides in prop::array::uniform2(1i64..4), dilations in prop::array::uniform2(1i64..3),
        pads in prop::array::uniform4(0i64..3), planar: bool, batch in 1usize..3,
    ) {
        let reach: [usize; 2] = std::array::from_fn(|a| (window[a] - 1) * dilations[a] as usize + 1);
        let fits = (0..2).all(|a| size[a] + (pads[a] + pads[a + 2]) as usize >= reach[a]);
        prop_assume!(fits);
        let mut b = Builder::new();
        let x = b.input("x");
        // Behind another node the input is channels-last.
        let x = if planar { x } else { b.node("Relu", &[&x], &[]) };
        let attributes = [
            ("group", Attribute::Int(groups as i64)), ("strides", ints(&strides)),
            ("dilations", ints(&dilations)), ("pads", ints(&pads)),
        ];
        let y = b.conv(&x, &[filters * groups, channels, window[0], window[1]], &attributes);
        let y = b.node("Relu", &[&y], &[]);
        b.output(&y);
        b.check(&[("x", noise(&[batch, channels * groups, size[0], size[1]], 5))]);
    }
}
