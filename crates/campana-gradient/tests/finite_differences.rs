//! Every rule against central differences of what the engine computes.

use std::collections::HashMap;

use campana_gradient::{Backward, ErrorKind};
use campana_ir::graph::{Attribute, Graph, Node, Value};
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::{SplitMix64, Tensor, TensorData};

/// A difference's step, and how far it may be from the gradient, relative to
/// the largest one: the float32 of the loss and the third derivative.
const STEP: f32 = 2e-2;
const TOLERANCE: f64 = 5e-3;

fn tensor(shape: &[usize], values: Vec<f32>) -> Tensor {
    Tensor::new(shape.to_vec(), TensorData::F32(values)).unwrap()
}

/// Random values away from 0 by at least a tenth, so that no difference crosses
/// the corner of a ReLU.
fn random(shape: &[usize], seed: u64) -> Tensor {
    let mut random = SplitMix64::new(seed);
    let count = shape.iter().product();
    let value = |_| {
        let value = random.uniform() as f32 * 2.0 - 1.0;
        value + 0.1f32.copysign(value)
    };
    tensor(shape, (0..count).map(value).collect())
}

/// Values of which any two are far apart, so that no difference changes an order.
fn distinct(shape: &[usize]) -> Tensor {
    let count: usize = shape.iter().product();
    let value = |i: usize| ((i * 37) % count) as f32 / 4.0 - 1.0;
    tensor(shape, (0..count).map(value).collect())
}

fn positive(shape: &[usize], seed: u64) -> Tensor {
    let (shape, TensorData::F32(values)) = random(shape, seed).into_parts() else {
        unreachable!()
    };
    tensor(&shape, values.iter().map(|v| v.abs() + 0.3).collect())
}

fn ints(values: &[i64]) -> Tensor {
    Tensor::new(vec![values.len()], TensorData::I64(values.to_vec())).unwrap()
}

struct Case {
    graph: Graph,
    x: Tensor,
}

/// One node of `x` and constants, at an opset.
fn case(op: &str, x: Tensor, constants: &[(&str, Tensor)]) -> Case {
    let names: Vec<&str> = std::iter::once("x")
        .chain(constants.iter().map(|(name, _)| *name))
        .collect();
    let constants = constants.iter();
    let graph = Graph {
        nodes: vec![Node::new(op, &names, &["y"])],
        inputs: vec![Value::named("x")],
        outputs: vec![Value::named("y")],
        constants: constants
            .map(|(name, t)| ((*name).to_owned(), t.clone()))
            .filter(|(name, _)| !name.is_empty())
            .collect(),
        opsets: [(String::new(), 18)].into(),
        ..Graph::default()
    };
    Case { graph, x }
}

impl Case {
    fn with(mut self, name: &str, value: Attribute) -> Self {
        self.graph.nodes[0]
            .attributes
            .insert(name.to_owned(), value);
        self
    }

    fn ints(self, name: &str, values: &[i64]) -> Self {
        self.with(name, Attribute::Ints(values.to_vec()))
    }

    fn int(self, name: &str, value: i64) -> Self {
        self.with(name, Attribute::Int(value))
    }

    fn opset(mut self, opset: i64) -> Self {
        self.graph.opsets.insert(String::new(), opset);
        self
    }

    fn outputs(mut self, names: &[&str]) -> Self {
        self.graph.nodes[0].outputs = names.iter().map(|&name| name.to_owned()).collect();
        self.graph.outputs = names.iter().map(|name| Value::named(name)).collect();
        self
    }

    fn run(&self) -> Vec<Tensor> {
        let session = Session::new(Plan::new(&self.graph, PlanOptions::default()).unwrap(), 1);
        session.run(&[("x", Input::from(&self.x))]).unwrap()
    }

    /// A sum of all outputs with fixed random weights.
    fn loss(&self, weights: &[Vec<f32>]) -> f64 {
        let outputs = self.run();
        let pairs = outputs.iter().zip(weights);
        pairs
            .map(|(output, weights)| {
                let TensorData::F32(values) = output.data() else {
                    panic!("no floats")
                };
                let products = values.iter().zip(weights);
                products
                    .map(|(v, w)| f64::from(*v) * f64::from(*w))
                    .sum::<f64>()
            })
            .sum()
    }

    fn floats_mut(&mut self, name: &str) -> (Vec<usize>, Vec<f32>) {
        let tensor = if name == "x" {
            &self.x
        } else {
            &self.graph.constants[name]
        };
        let (shape, TensorData::F32(values)) = tensor.clone().into_parts() else {
            panic!("no floats")
        };
        (shape, values)
    }

    fn set(&mut self, name: &str, shape: &[usize], values: Vec<f32>) {
        let tensor = tensor(shape, values);
        if name == "x" {
            self.x = tensor;
        } else {
            self.graph.constants.insert(name.to_owned(), tensor);
        }
    }

    /// Compares the gradients of these with differences.
    fn check(mut self, wanted: &[&str]) {
        let outputs: Vec<String> = self.graph.outputs.iter().map(|o| o.name.clone()).collect();
        let weights: Vec<Vec<f32>> = self
            .run()
            .iter()
            .enumerate()
            .map(|(i, output)| {
                let (_, TensorData::F32(values)) =
                    random(output.shape(), 99 + i as u64).into_parts()
                else {
                    unreachable!()
                };
                values
            })
            .collect();
        let names: Vec<&str> = outputs.iter().map(String::as_str).collect();
        let x = self.x.clone();
        let backward = Backward::new(&self.graph, wanted, &names, &[("x", &x)]).unwrap();
        let session = backward.session(&self.graph, 1).unwrap();
        let values = backward.values(&session, &[("x", &x)]).unwrap();
        let losses: HashMap<String, Vec<f32>> =
            outputs.iter().cloned().zip(weights.clone()).collect();
        let gradients = backward.run(&self.graph, &values, losses).unwrap();
        let what = self.graph.nodes[0].op_type.clone();
        for name in wanted {
            let (shape, values) = self.floats_mut(name);
            let found = &gradients[*name];
            assert_eq!(found.len(), values.len(), "{what} {name}");
            let largest = found.iter().fold(1e-2f32, |max, g| max.max(g.abs()));
            for at in 0..values.len() {
                let mut loss_at = |step: f32| {
                    let mut moved = values.clone();
                    moved[at] += step;
                    self.set(name, &shape, moved);
                    self.loss(&weights)
                };
                let difference = (loss_at(STEP) - loss_at(-STEP)) / (2.0 * f64::from(STEP));
                let error = (difference - f64::from(found[at])).abs();
                assert!(
                    error <= TOLERANCE * f64::from(largest),
                    "{what} {name}[{at}]: {}, not {difference}",
                    found[at]
                );
            }
            self.set(name, &shape, values);
        }
    }
}

#[test]
fn convolutions() {
    let x = || random(&[3, 4, 6, 5], 1);
    let weights = |shape: &[usize]| ("w", random(shape, 2));
    let bias = |n: usize| ("b", random(&[n], 3));
    let all = ["x", "w", "b"];
    case("Conv", x(), &[weights(&[5, 4, 3, 3]), bias(5)])
        .ints("pads", &[1, 1, 1, 1])
        .check(&all);
    case("Conv", x(), &[weights(&[6, 4, 1, 1]), bias(6)]).check(&all);
    case("Conv", x(), &[weights(&[2, 4, 3, 2]), bias(2)])
        .ints("pads", &[0, 1, 2, 0])
        .ints("strides", &[2, 3])
        .check(&all);
    case("Conv", x(), &[weights(&[6, 2, 3, 3]), bias(6)])
        .int("group", 2)
        .ints("dilations", &[2, 1])
        .with("auto_pad", Attribute::String(b"SAME_LOWER".to_vec()))
        .ints("strides", &[1, 2])
        .check(&all);
    // Depthwise, with a multiplier.
    case("Conv", x(), &[weights(&[8, 1, 3, 3]), bias(8)])
        .int("group", 4)
        .ints("pads", &[1, 1, 1, 1])
        .ints("strides", &[2, 2])
        .check(&all);
    case("Conv", x(), &[weights(&[4, 1, 3, 3]), bias(4)])
        .int("group", 4)
        .ints("pads", &[1, 1, 1, 1])
        .check(&all);
    // Signals and volumes.
    case(
        "Conv",
        random(&[2, 3, 9], 1),
        &[weights(&[4, 3, 3]), bias(4)],
    )
    .ints("pads", &[2, 0])
    .check(&all);
    case(
        "Conv",
        random(&[2, 2, 3, 4, 3], 1),
        &[weights(&[3, 2, 2, 3, 2]), bias(3)],
    )
    .ints("pads", &[1, 0, 1, 0, 1, 0])
    .check(&all);
}

#[test]
fn transposed_convolutions() {
    let x = || random(&[2, 4, 3, 4], 1);
    case(
        "ConvTranspose",
        x(),
        &[("w", random(&[4, 3, 3, 3], 2)), ("b", random(&[3], 3))],
    )
    .ints("strides", &[2, 2])
    .ints("pads", &[1, 1, 1, 1])
    .ints("output_padding", &[1, 1])
    .check(&["x", "w", "b"]);
    case(
        "ConvTranspose",
        x(),
        &[("w", random(&[4, 2, 2, 2], 2)), ("b", random(&[4], 3))],
    )
    .ints("strides", &[2, 2])
    .int("group", 2)
    .check(&["x", "w", "b"]);
}

#[test]
fn dense_layers() {
    let all = ["x", "w", "b"];
    for (x, w, transposed) in [
        ([3, 4], [4, 5], [0, 0]),
        ([3, 4], [5, 4], [0, 1]),
        ([4, 3], [4, 5], [1, 0]),
        ([4, 3], [5, 4], [1, 1]),
    ] {
        case(
            "Gemm",
            random(&x, 1),
            &[("w", random(&w, 2)), ("b", random(&[5], 3))],
        )
        .int("transA", transposed[0])
        .int("transB", transposed[1])
        .with("alpha", Attribute::Float(0.5))
        .with("beta", Attribute::Float(2.0))
        .check(&all);
    }
    for (x, w) in [
        (vec![3, 4], vec![4, 5]),
        (vec![2, 3, 4], vec![4, 5]),
        (vec![2, 3, 4], vec![2, 4, 5]),
        (vec![2, 1, 3, 4], vec![3, 4, 2]),
        (vec![4], vec![4, 5]),
        (vec![2, 3, 4], vec![4]),
    ] {
        case("MatMul", random(&x, 1), &[("w", random(&w, 2))]).check(&["x", "w"]);
    }
}

#[test]
fn functions_of_one_element() {
    for op in [
        "Relu",
        "LeakyRelu",
        "Elu",
        "Selu",
        "Celu",
        "Sigmoid",
        "HardSigmoid",
        "HardSwish",
        "Tanh",
        "Softplus",
        "Softsign",
        "Mish",
        "Erf",
        "Exp",
        "Neg",
        "Identity",
        "Sin",
        "Cos",
        "Abs",
    ] {
        case(op, random(&[2, 9], 1), &[]).check(&["x"]);
    }
    for op in ["Sqrt", "Log", "Reciprocal"] {
        case(op, positive(&[2, 9], 1), &[]).check(&["x"]);
    }
    case("Gelu", random(&[2, 9], 1), &[])
        .opset(20)
        .check(&["x"]);
    case("Gelu", random(&[2, 9], 1), &[])
        .opset(20)
        .with("approximate", Attribute::String(b"tanh".to_vec()))
        .check(&["x"]);
    let bound = |value: f32| tensor(&[], vec![value]);
    case(
        "Clip",
        distinct(&[3, 5]),
        &[("low", bound(0.1)), ("high", bound(1.9))],
    )
    .check(&["x"]);
    let bounds = [("low", bound(0.13)), ("high", bound(1.87))];
    case("Clip", distinct(&[3, 5]), &bounds).check(&["x", "low", "high"]);
    case("Clip", distinct(&[3, 5]), &[])
        .opset(6)
        .with("max", Attribute::Float(0.6))
        .check(&["x"]);
}

#[test]
fn broadcast_operands() {
    for shape in [
        vec![2, 3, 2, 2],
        vec![3, 1, 1],
        vec![1],
        vec![],
        vec![2, 1, 1, 2],
    ] {
        for op in ["Add", "Sub", "Mul", "Sum"] {
            case(op, random(&[2, 3, 2, 2], 1), &[("w", random(&shape, 2))]).check(&["x", "w"]);
        }
        let positives = || (positive(&[2, 3, 2, 2], 1), positive(&shape, 2));
        for op in ["Div", "Pow"] {
            let (x, w) = positives();
            case(op, x, &[("w", w)]).check(&["x", "w"]);
        }
    }
    case(
        "PRelu",
        random(&[2, 3, 2, 2], 1),
        &[("w", random(&[3, 1, 1], 2))],
    )
    .check(&["x", "w"]);
    case("Mean", random(&[2, 3], 1), &[("w", random(&[3], 2))]).check(&["x", "w"]);
    for op in ["Max", "Min"] {
        case(op, distinct(&[3, 4]), &[("w", tensor(&[1], vec![0.13]))]).check(&["x", "w"]);
    }
    // A value of which both operands are.
    let mut square = case("Mul", random(&[5], 1), &[]);
    square.graph.nodes[0].inputs.push("x".to_owned());
    square.check(&["x"]);
}

#[test]
fn pools_and_reductions() {
    let x = || distinct(&[2, 2, 6, 5]);
    for (ceil, pads) in [(0, [0, 0, 0, 0]), (1, [0, 0, 0, 0]), (0, [1, 1, 0, 1])] {
        let pool = |op: &str| {
            case(op, x(), &[])
                .ints("kernel_shape", &[3, 2])
                .ints("strides", &[2, 2])
                .ints("pads", &pads)
                .int("ceil_mode", ceil)
        };
        pool("MaxPool").check(&["x"]);
        pool("AveragePool").check(&["x"]);
    }
    case("AveragePool", x(), &[])
        .ints("kernel_shape", &[3, 3])
        .ints("pads", &[1, 1, 1, 1])
        .int("count_include_pad", 1)
        .check(&["x"]);
    case("GlobalAveragePool", x(), &[]).check(&["x"]);
    case("GlobalMaxPool", x(), &[]).check(&["x"]);
    for op in [
        "ReduceMean",
        "ReduceSum",
        "ReduceMax",
        "ReduceMin",
        "ReduceL2",
        "ReduceSumSquare",
    ] {
        case(op, distinct(&[2, 3, 4]), &[])
            .opset(12)
            .ints("axes", &[-1, 0])
            .int("keepdims", 0)
            .check(&["x"]);
    }
    case("ReduceMean", x(), &[("axes", ints(&[2, 3]))]).check(&["x"]);
    case("ReduceSum", x(), &[]).check(&["x"]);
}

#[test]
fn normalizations() {
    let parameters = |n: usize| {
        [
            ("scale", random(&[n], 2)),
            ("bias", random(&[n], 3)),
            ("mean", random(&[n], 4)),
            ("variance", positive(&[n], 5)),
        ]
    };
    case(
        "BatchNormalization",
        random(&[2, 3, 4, 2], 1),
        &parameters(3),
    )
    .check(&["x", "scale", "bias"]);
    case("BatchNormalization", random(&[4, 3], 1), &parameters(3)).check(&["x", "scale", "bias"]);
    let two = |n: usize| [("scale", random(&[n], 2)), ("bias", random(&[n], 3))];
    case("InstanceNormalization", random(&[2, 3, 4, 2], 1), &two(3)).check(&["x", "scale", "bias"]);
    case("LayerNormalization", random(&[2, 3, 6], 1), &two(6)).check(&["x", "scale", "bias"]);
    for op in ["Softmax", "LogSoftmax"] {
        case(op, random(&[2, 3, 4], 1), &[]).check(&["x"]);
        case(op, random(&[2, 3, 4], 1), &[])
            .int("axis", 1)
            .check(&["x"]);
        case(op, random(&[2, 3, 4], 1), &[]).opset(11).check(&["x"]);
    }
}

#[test]
fn moved_elements() {
    let x = || random(&[2, 4, 3], 1);
    case("Transpose", x(), &[])
        .ints("perm", &[2, 0, 1])
        .check(&["x"]);
    case("Reshape", x(), &[("shape", ints(&[2, -1]))]).check(&["x"]);
    case("Flatten", x(), &[]).check(&["x"]);
    case("Unsqueeze", x(), &[("axes", ints(&[0]))]).check(&["x"]);
    case(
        "Slice",
        x(),
        &[
            ("starts", ints(&[3])),
            ("ends", ints(&[0])),
            ("axes", ints(&[1])),
            ("steps", ints(&[-2])),
        ],
    )
    .check(&["x"]);
    case("Concat", x(), &[("w", random(&[2, 1, 3], 2))])
        .int("axis", 1)
        .check(&["x", "w"]);
    case("Split", x(), &[("lens", ints(&[1, 3]))])
        .int("axis", 1)
        .outputs(&["y", "z"])
        .check(&["x"]);
    case(
        "Pad",
        x(),
        &[
            ("pads", ints(&[0, 1, 0, 0, 0, 2])),
            ("value", tensor(&[], vec![3.0])),
        ],
    )
    .check(&["x"]);
    case("Pad", x(), &[("pads", ints(&[0, 1, 1, 0, 2, 0]))])
        .with("mode", Attribute::String(b"reflect".to_vec()))
        .check(&["x"]);
    case("Gather", x(), &[("indices", ints(&[3, 0, 3]))])
        .int("axis", 1)
        .check(&["x"]);
    case(
        "Expand",
        random(&[2, 1, 3], 1),
        &[("shape", ints(&[2, 4, 3]))],
    )
    .check(&["x"]);
    case("Tile", x(), &[("repeats", ints(&[1, 2, 1]))]).check(&["x"]);
    case("DepthToSpace", random(&[1, 8, 2, 2], 1), &[])
        .int("blocksize", 2)
        .check(&["x"]);
}

#[test]
fn an_operator_without_a_gradient_is_named() {
    let case = case("Ceil", random(&[3], 1), &[]);
    let error = Backward::new(&case.graph, &["x"], &["y"], &[("x", &case.x)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("Ceil \"y\""), "{error}");
    // But not where no gradient goes through it.
    let x = case.x.clone();
    let nothing = Backward::new(&case.graph, &[], &["y"], &[("x", &x)]);
    assert!(nothing.is_ok());
}

#[test]
fn gradients_go_through_shape_arithmetic_untouched() {
    // y = reshape(tanh(x w), [shape(x)[0], -1])
    let graph = Graph {
        nodes: vec![
            Node::new("MatMul", &["x", "w"], &["p"]),
            Node::new("Tanh", &["p"], &["r"]),
            Node::new("Shape", &["x"], &["s"]),
            Node::new("Gather", &["s", "zero"], &["n"]),
            Node::new("Concat", &["n", "rest"], &["shape"]),
            Node::new("Reshape", &["r", "shape"], &["y"]),
        ],
        inputs: vec![Value::named("x")],
        outputs: vec![Value::named("y")],
        constants: [
            ("w".to_owned(), random(&[3, 4], 2)),
            ("zero".to_owned(), ints(&[0])),
            ("rest".to_owned(), ints(&[-1])),
        ]
        .into(),
        opsets: [(String::new(), 18)].into(),
        ..Graph::default()
    };
    let mut case = Case {
        graph,
        x: random(&[2, 5, 3], 1),
    };
    case.graph.nodes[4]
        .attributes
        .insert("axis".to_owned(), Attribute::Int(0));
    case.check(&["w", "x"]);
}
