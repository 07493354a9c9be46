//! Calibrated models on integers against the same models in floats.

use std::collections::BTreeMap;

use campana_ir::graph::{Attribute, Graph, Node, Value};
use campana_runtime::{Plan, PlanOptions, Session};
use campana_tensor::{Tensor, TensorData};

/// Codes are rounded from sums that floats round too. The scales below leave no
/// sum of codes halfway between two codes, so that both round alike but for a
/// value here and there; what such a value moves behind it adds up to a few
/// codes of the last layer, each worth up to 0.0203 times a weight of
/// 1.5 / sqrt(24).
const MAX_DIFFERENCE: f32 = 0.02;

struct Network {
    graph: Graph,
    state: u32,
}

impl Network {
    fn new() -> Self {
        let value = |name: &str| Value {
            name: name.into(),
            element_type: None,
            shape: None,
        };
        Self {
            graph: Graph {
                inputs: vec![value("image")],
                outputs: vec![value("logits")],
                opsets: BTreeMap::from([(String::new(), 13)]),
                ..Graph::default()
            },
            state: 1,
        }
    }

    fn next(&mut self) -> u32 {
        self.state = self
            .state
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        self.state >> 8
    }

    fn constant(&mut self, shape: &[usize], data: TensorData) -> String {
        let name = format!("c{}", self.graph.constants.len());
        let tensor = Tensor::new(shape.to_vec(), data).unwrap();
        self.graph.constants.insert(name.clone(), tensor);
        name
    }

    fn node(&mut self, op_type: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> String {
        let output = format!("v{}", self.graph.nodes.len());
        self.graph.nodes.push(Node {
            op_type: op_type.into(),
            inputs: inputs.iter().map(|&name| name.into()).collect(),
            outputs: vec![output.clone()],
            attributes: attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone()))
                .collect(),
            ..Node::default()
        });
        output
    }

    fn rounded(&mut self, x: &str, scale: f32, zero_point: u8) -> String {
        let scale = self.constant(&[], TensorData::F32(vec![scale]));
        let zero = self.constant(&[], TensorData::U8(vec![zero_point]));
        let codes = self.node("QuantizeLinear", &[x, &scale, &zero], &[]);
        self.node("DequantizeLinear", &[&codes, &scale, &zero], &[])
    }

    /// Whole numbers up to `largest` and a scale for each filter.
    fn weights(&mut self, shape: &[usize], largest: u32) -> String {
        let count = shape.iter().product::<usize>();
        let numbers = (0..count)
            .map(|_| (self.next() % (2 * largest + 1)) as i32 - largest as i32)
            .map(|number| number as i8)
            .collect();
        let inputs: usize = shape[1..].iter().product();
        let unit = 1.5 / (inputs as f32).sqrt() / largest as f32;
        let scales: Vec<f32> = (0..shape[0])
            .map(|f| unit * (1.0 + f as f32 * 0.01))
            .collect();
        let numbers = self.constant(shape, TensorData::I8(numbers));
        let scales = self.constant(&[shape[0]], TensorData::F32(scales));
        let zeros = self.constant(&[shape[0]], TensorData::I8(vec![0; shape[0]]));
        self.node(
            "DequantizeLinear",
            &[&numbers, &scales, &zeros],
            &[("axis", Attribute::Int(0))],
        )
    }

    fn conv(
        &mut self,
        x: &str,
        shape: &[usize; 4],
        stride: i64,
        groups: i64,
        largest: u32,
    ) -> String {
        let weights = self.weights(shape, largest);
        let bias = (0..shape[0]).map(|f| f as f32 * 0.01 - 0.05).collect();
        let bias = self.constant(&[shape[0]], TensorData::F32(bias));
        let pad = shape[2] as i64 / 2;
        self.node(
            "Conv",
            &[x, &weights, &bias],
            &[
                ("strides", Attribute::Ints(vec![stride; 2])),
                ("pads", Attribute::Ints(vec![pad; 4])),
                ("group", Attribute::Int(groups)),
            ],
        )
    }
}

/// Every operator that computes on codes.
fn network() -> Graph {
    let mut n = Network::new();
    let x = n.rounded("image", 1.0 / 64.0, 120);
    let x = n.conv(&x, &[16, 3, 3, 3], 2, 1, 127);
    let x = n.node("Relu", &[&x], &[]);
    let x = n.rounded(&x, 0.02, 0);
    // A residual block whose shortcut is sliced and padded.
    let y = n.conv(&x, &[24, 16, 3, 3], 2, 1, 64);
    let y = n.node("Relu", &[&y], &[]);
    let y = n.rounded(&y, 0.02, 0);
    let y = n.conv(&y, &[24, 24, 3, 3], 1, 1, 7);
    let [starts, ends, axes, steps] = [[0, 0], [99, 99], [2, 3], [2, 2]]
        .map(|values| n.constant(&[2], TensorData::I64(values.to_vec())));
    let short = n.node("Slice", &[&x, &starts, &ends, &axes, &steps], &[]);
    let pads = n.constant(&[8], TensorData::I64(vec![0, 4, 0, 0, 0, 4, 0, 0]));
    let short = n.node("Pad", &[&short, &pads], &[]);
    let x = n.node("Add", &[&y, &short], &[]);
    let x = n.node("Relu", &[&x], &[]);
    let x = n.rounded(&x, 0.03, 0);
    // Inverted bottleneck, and a sum of codes.
    let y = n.conv(&x, &[24, 1, 3, 3], 1, 24, 64);
    let six = n.constant(&[], TensorData::F32(vec![1.5]));
    let zero = n.constant(&[], TensorData::F32(vec![0.0]));
    let y = n.node("Clip", &[&y, &zero, &six], &[]);
    let y = n.rounded(&y, 0.01, 0);
    let y = n.conv(&y, &[24, 24, 1, 1], 1, 1, 64);
    let y = n.rounded(&y, 0.0291, 128);
    let x = n.node("Add", &[&y, &x], &[]);
    let x = n.node("Relu", &[&x], &[]);
    let x = n.rounded(&x, 0.0413, 0);
    let x = n.conv(&x, &[24, 12, 3, 3], 1, 2, 64);
    let x = n.rounded(&x, 0.03, 128);
    let x = n.node(
        "MaxPool",
        &[&x],
        &[
            ("kernel_shape", Attribute::Ints(vec![2, 2])),
            ("strides", Attribute::Ints(vec![2, 2])),
        ],
    );
    let x = n.node("GlobalAveragePool", &[&x], &[]);
    let x = n.rounded(&x, 0.0203, 128);
    let x = n.node("Flatten", &[&x], &[]);
    let weights = n.weights(&[10, 24], 64);
    let bias = n.constant(&[10], TensorData::F32(vec![0.1; 10]));
    n.node(
        "Gemm",
        &[&x, &weights, &bias],
        &[("transB", Attribute::Int(1))],
    );
    let last = n.graph.nodes.last_mut().unwrap();
    last.outputs[0] = "logits".into();
    n.graph
}

fn images(count: usize) -> Tensor {
    let values = (0..count * 3 * 32 * 32)
        .map(|i| ((i as f32 * 0.37).sin() + (i as f32 * 0.011).cos()) * 0.8);
    Tensor::new(vec![count, 3, 32, 32], TensorData::F32(values.collect())).unwrap()
}

fn logits(session: &Session, images: &Tensor) -> Vec<f32> {
    let outputs = session.run(&[("image", images.into())]).unwrap();
    match outputs[0].data() {
        TensorData::F32(values) => values.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn integers_give_what_floats_give() {
    let graph = network();
    let mut options = PlanOptions::default();
    options.fuse = false;
    let float = Session::new(Plan::new(&graph, options).unwrap(), 1);
    let images = images(3);
    let expected = logits(&float, &images);
    let spread = expected.iter().fold(0f32, |max, v| max.max(v.abs()));
    assert!(spread > 0.2, "logits that say something: {expected:?}");
    for threads in [1, 2] {
        let integer = Session::new(Plan::new(&graph, PlanOptions::default()).unwrap(), threads);
        assert!(
            integer.weight_bytes() * 2 < float.weight_bytes(),
            "weights are whole numbers: {} of {}",
            integer.weight_bytes(),
            float.weight_bytes()
        );
        for (found, expected) in logits(&integer, &images).iter().zip(&expected) {
            assert!(
                (found - expected).abs() < MAX_DIFFERENCE,
                "{found} for {expected}"
            );
        }
    }
}

#[test]
fn weights_off_the_grid_stay_floats() {
    let mut graph = network();
    // The last layer's weights as plain floats.
    let values = (0..240).map(|i| (i as f32 * 0.7).sin()).collect();
    let weights = Tensor::new(vec![10, 24], TensorData::F32(values)).unwrap();
    graph.constants.insert("free".into(), weights);
    graph.nodes.last_mut().unwrap().inputs[1] = "free".into();
    let mut options = PlanOptions::default();
    options.fuse = false;
    let float = Session::new(Plan::new(&graph, options).unwrap(), 1);
    let integer = Session::new(Plan::new(&graph, PlanOptions::default()).unwrap(), 1);
    let images = images(2);
    for (found, expected) in logits(&integer, &images)
        .iter()
        .zip(logits(&float, &images))
    {
        assert!(
            (found - expected).abs() < MAX_DIFFERENCE,
            "{found} for {expected}"
        );
    }
}

/// An image that is rounded, an operator, and rounding again.
fn between_codes(
    op_type: &str,
    attributes: &[(&str, Attribute)],
    operands: impl Fn(&mut Network) -> Vec<String>,
) -> Graph {
    let mut n = Network::new();
    let x = n.rounded("image", 1.0 / 32.0, 120);
    let mut inputs = vec![x];
    inputs.extend(operands(&mut n));
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let y = n.node(op_type, &inputs, attributes);
    n.rounded(&y, 1.0 / 16.0, 128);
    n.graph.nodes.last_mut().unwrap().outputs[0] = "logits".into();
    n.graph
}

/// Checks that a network gives on integers what it gives in floats, but for codes that
/// round another way: one of 1/16 at most.
fn check_between_codes(graph: &Graph, shape: &[usize]) {
    let count: usize = shape.iter().product();
    let values = (0..count).map(|i| (i as f32 * 0.37).sin() * 2.0);
    let image = Tensor::new(shape.to_vec(), TensorData::F32(values.collect())).unwrap();
    let mut options = PlanOptions::default();
    options.fuse = false;
    let float = Session::new(Plan::new(graph, options).unwrap(), 1);
    let integer = Session::new(Plan::new(graph, PlanOptions::default()).unwrap(), 1);
    let expected = logits(&float, &image);
    let found = logits(&integer, &image);
    assert_eq!(found.len(), expected.len());
    let op_type = &graph.nodes[2].op_type;
    for (found, expected) in found.iter().zip(&expected) {
        let difference = (found - expected).abs();
        assert!(difference < 0.063, "{op_type}: {found} for {expected}");
    }
    let same = found.iter().zip(&expected).filter(|(f, e)| f == e).count();
    assert!(
        same * 10 >= found.len() * 9,
        "{op_type}: {same} are the same"
    );
}

#[test]
fn pools_over_every_number_of_axes_take_codes() {
    for axes in 1..=3 {
        let mut shape = vec![2, 3];
        shape.extend(&[7, 6, 5][..axes]);
        let ints = |value| Attribute::Ints(vec![value; axes]);
        let pads = Attribute::Ints([0, 1].map(|pad| vec![pad; axes]).concat());
        let forms: [Vec<(&str, Attribute)>; 4] = [
            vec![("kernel_shape", ints(2)), ("strides", ints(2))],
            vec![("kernel_shape", ints(3)), ("pads", pads.clone())],
            vec![
                ("kernel_shape", ints(2)),
                ("strides", ints(2)),
                ("ceil_mode", Attribute::Int(1)),
            ],
            vec![
                ("kernel_shape", ints(2)),
                ("auto_pad", Attribute::String(b"SAME_UPPER".to_vec())),
            ],
        ];
        for op_type in ["MaxPool", "AveragePool", "LpPool"] {
            for attributes in &forms {
                check_between_codes(&between_codes(op_type, attributes, |_| vec![]), &shape);
            }
        }
        for op_type in ["GlobalAveragePool", "GlobalMaxPool"] {
            check_between_codes(&between_codes(op_type, &[], |_| vec![]), &shape);
        }
    }
}

#[test]
fn convolutions_over_every_number_of_axes_take_codes() {
    for axes in 1..=3 {
        for groups in [1, 4] {
            let mut shape = vec![2, 4];
            shape.extend(&[6, 5, 7][..axes]);
            let attributes = [
                ("group", Attribute::Int(groups)),
                ("pads", Attribute::Ints(vec![1; 2 * axes])),
            ];
            let mut weights = vec![4, 4 / groups as usize];
            weights.extend(&[3; 3][..axes]);
            let graph = between_codes("Conv", &attributes, |n| {
                let weights = n.weights(&weights, 64);
                vec![weights, n.constant(&[4], TensorData::F32(vec![0.125; 4]))]
            });
            check_between_codes(&graph, &shape);
        }
    }
}

#[test]
fn operators_that_move_or_combine_elements_take_codes_of_every_rank() {
    for rank in 1..=5 {
        let shape = &[2, 3, 4, 6, 5][..rank];
        let last = Attribute::Int(rank as i64 - 1);
        let ones = |n: &mut Network, data: TensorData| {
            let shape = vec![1; rank];
            n.constant(&shape, data)
        };
        let pads = |n: &mut Network, value: i64| {
            let values = [vec![value; rank], vec![0; rank]].concat();
            n.constant(&[2 * rank], TensorData::I64(values))
        };
        let mode = |mode: &str| [("mode", Attribute::String(mode.into()))];
        let mut graphs = vec![
            between_codes("Transpose", &[], |_| vec![]),
            between_codes("Softmax", &[("axis", last.clone())], |_| vec![]),
            between_codes("Tanh", &[], |_| vec![]),
            between_codes("Pad", &[], |n| vec![pads(n, 1)]),
            between_codes("Pad", &[], |n| vec![pads(n, -1)]),
            between_codes("Pad", &mode("edge"), |n| vec![pads(n, 1)]),
            between_codes("Flatten", &[], |_| vec![]),
            between_codes("ReduceMean", &[], |_| vec![]),
            between_codes("Squeeze", &[], |_| vec![]),
            between_codes("Unsqueeze", &[], |n| {
                vec![n.constant(&[1], TensorData::I64(vec![0]))]
            }),
            between_codes("Reshape", &[], |n| {
                vec![n.constant(&[1], TensorData::I64(vec![-1]))]
            }),
            between_codes("Slice", &[], |n| {
                [vec![-1], vec![-99], vec![rank as i64 - 1], vec![-1]]
                    .map(|values| n.constant(&[1], TensorData::I64(values)))
                    .to_vec()
            }),
        ];
        for op_type in ["Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Pow"] {
            graphs.push(between_codes(op_type, &[], |n| {
                vec![ones(n, TensorData::F32(vec![2.0]))]
            }));
        }
        for op_type in ["Add", "Max", "Concat"] {
            let axis = [("axis", last.clone())];
            let attributes = if op_type == "Concat" { &axis[..] } else { &[] };
            graphs.push(between_codes(op_type, attributes, |n| {
                vec![n.rounded("image", 1.0 / 64.0, 100)]
            }));
        }
        for graph in graphs {
            check_between_codes(&graph, shape);
        }
    }
}

/// Two convolutions whose results are joined and rounded, then split; one part is
/// turned and multiplied.
fn joined_and_split(axes: usize) -> (Graph, Vec<usize>) {
    let mut n = Network::new();
    let x = n.rounded("image", 1.0 / 32.0, 120);
    let branch = |n: &mut Network, filters: usize| {
        let mut shape = vec![filters, 4];
        shape.extend(&[1; 3][..axes]);
        let weights = n.weights(&shape, 64);
        let conv = n.node("Conv", &[&x, &weights], &[]);
        n.node("Relu", &[&conv], &[])
    };
    let parts = [branch(&mut n, 4), branch(&mut n, 2)];
    let inner = [("axis", Attribute::Int(1))];
    let first = n.node("Concat", &[&parts[0], &parts[1]], &inner);
    let both = n.node("Concat", &[&first, &x], &inner);
    let rounded = n.rounded(&both, 1.0 / 32.0, 100);
    let lengths = n.constant(&[2], TensorData::I64(vec![7, 3]));
    let left = n.node("Split", &[&rounded, &lengths], &inner);
    let right = "right".to_owned();
    n.graph
        .nodes
        .last_mut()
        .unwrap()
        .outputs
        .push(right.clone());
    let mut order: Vec<i64> = (0..2 + axes as i64).collect();
    order.swap(2, 1 + axes);
    let turned = n.node("Transpose", &[&right], &[("perm", Attribute::Ints(order))]);
    let mut shape = vec![7, 3];
    shape.extend(&[1; 3][..axes]);
    let weights = n.weights(&shape, 64);
    let y = n.node("Conv", &[&turned, &weights], &[]);
    let y = n.rounded(&y, 1.0 / 16.0, 128);
    let mut back: Vec<i64> = (0..2 + axes as i64).collect();
    back.swap(2, 1 + axes);
    let y = n.node("Transpose", &[&y], &[("perm", Attribute::Ints(back))]);
    let sum = n.node("Add", &[&y, &left], &[]);
    n.rounded(&sum, 1.0 / 16.0, 128);
    n.graph.nodes.last_mut().unwrap().outputs[0] = "logits".into();
    let mut image = vec![2, 4];
    image.extend(&[5, 6, 3][..axes]);
    (n.graph, image)
}

#[test]
fn codes_are_joined_split_and_turned() {
    for axes in 1..=3 {
        let (graph, shape) = joined_and_split(axes);
        check_between_codes(&graph, &shape);
    }
}
