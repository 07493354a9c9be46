//! Random small networks: valid ONNX whose operators, shapes and attributes
//! may be anything, and what quantizing and running them must survive.

use campana_ir::format::onnx;
use campana_onnx::{Content, Dim, NewAttribute, NewNode, NewTensor, NewValueInfo, schema};
use campana_pipeline::{QuantizeJob, quantize_file};
use campana_quantize::{Options, Silent, Target};
use campana_runtime::{Input, Plan, PlanOptions, Session};
use campana_tensor::ElementType;

use crate::Random;

/// Attribute values that no operator is made for.
const HOSTILE: [i64; 9] = [0, -1, 2, 3, 17, 1 << 31, -(1 << 31), i64::MAX, i64::MIN];

/// A model around a graph.
pub fn model(graph: Content<'_>) -> Content<'_> {
    Content::default()
        .int(schema::model::IR_VERSION, 8)
        .message(schema::model::GRAPH, graph)
        .message(
            schema::model::OPSET_IMPORT,
            campana_onnx::opset_import("", 13),
        )
}

/// The declaration of a value of floats.
pub fn value(name: &str, shape: &[i64]) -> NewValueInfo {
    let dims: Vec<Dim> = shape.iter().map(|&dim| Dim::Value(dim)).collect();
    NewValueInfo::tensor(name, ElementType::F32, Some(&dims))
}

/// A graph under construction: a chain of operators with side branches.
struct Builder<'r> {
    random: &'r mut Random,
    graph: Content<'static>,
    /// Values so far; the last is the chain's end.
    values: Vec<String>,
    /// Channels of the chain's end, as far as known.
    channels: usize,
    constants: usize,
}

impl Builder<'_> {
    /// A usual value, or one time in eight a hostile one.
    fn number(&mut self, usual: i64) -> i64 {
        if self.random.one_in(8) {
            *self.random.pick(&HOSTILE)
        } else {
            usual
        }
    }

    fn numbers(&mut self, count: usize, usual: i64) -> Vec<i64> {
        // One time in sixteen there are too few or too many.
        let count = match self.random.below(32) {
            0 => count + 1,
            1 => count.saturating_sub(1),
            _ => count,
        };
        (0..count).map(|_| self.number(usual)).collect()
    }

    fn float(&mut self) -> f32 {
        match self.random.below(64) {
            0 => f32::NAN,
            1 => f32::INFINITY,
            2 => 1e38,
            3 => 0.0,
            _ => (self.random.below(2001) as f32 - 1000.0) / 1000.0,
        }
    }

    fn constant(&mut self, shape: &[usize]) -> String {
        let name = format!("w{}", self.constants);
        self.constants += 1;
        let count: usize = shape.iter().product();
        // Most tensors are sound throughout, or nothing would come further.
        let sound = !self.random.one_in(12);
        let values: Vec<f32> = (0..count)
            .map(|_| {
                let value = self.float();
                if sound && (value.is_nan() || value.abs() > 1.0) {
                    0.5
                } else {
                    value
                }
            })
            .collect();
        let tensor = NewTensor::raw(
            &name,
            shape,
            ElementType::F32,
            crate::little_endian::floats(&values),
        );
        self.initializer(tensor);
        name
    }

    fn integers(&mut self, values: &[i64]) -> String {
        let name = format!("n{}", self.constants);
        self.constants += 1;
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.initializer(NewTensor::raw(
            &name,
            &[values.len()],
            ElementType::I64,
            bytes,
        ));
        name
    }

    fn initializer(&mut self, tensor: NewTensor<'static>) {
        let graph = std::mem::take(&mut self.graph);
        self.graph = graph.message(schema::graph::INITIALIZER, tensor);
    }

    fn end(&self) -> String {
        self.values.last().cloned().unwrap_or_default()
    }

    /// Any value so far, the chain's end more often than not.
    fn any(&mut self) -> String {
        if self.random.one_in(3) {
            let at = self.random.below(self.values.len());
            self.values[at].clone()
        } else {
            self.end()
        }
    }

    /// Adds an operator whose result becomes the chain's end.
    fn add(
        &mut self,
        op_type: &str,
        inputs: Vec<String>,
        attributes: Vec<(&str, NewAttribute<'static>)>,
    ) {
        let output = format!("v{}", self.values.len());
        let mut node = NewNode::new(
            op_type,
            inputs.iter().map(String::as_str),
            [output.as_str()],
        );
        for (name, value) in attributes {
            node = node.attribute(name, value);
        }
        let graph = std::mem::take(&mut self.graph);
        self.graph = graph.message(schema::graph::NODE, node);
        self.values.push(output);
    }

    fn convolution(&mut self) {
        let out = *self.random.pick(&[1, 8, 16]);
        let kernel = *self.random.pick(&[1, 3]);
        let depthwise = self.random.one_in(4);
        let (out, per_group, group) = if depthwise {
            (self.channels, 1, self.channels as i64)
        } else {
            (out, self.channels, 1)
        };
        let weight = self.constant(&[out, per_group, kernel, kernel]);
        let mut inputs = vec![self.end(), weight];
        if self.random.one_in(2) {
            inputs.push(self.constant(&[out]));
        }
        let mut attributes: Vec<(&str, NewAttribute<'static>)> = Vec::new();
        let group = self.number(group);
        if group != 1 {
            attributes.push(("group", group.into()));
        }
        let pads = self.numbers(4, kernel as i64 / 2);
        attributes.push(("pads", pads.into()));
        if self.random.one_in(2) {
            let strides = self.numbers(2, 1);
            attributes.push(("strides", strides.into()));
        }
        if self.random.one_in(4) {
            let dilations = self.numbers(2, 1);
            attributes.push(("dilations", dilations.into()));
        }
        if self.random.one_in(8) {
            let shape = self.numbers(2, kernel as i64);
            attributes.push(("kernel_shape", shape.into()));
        }
        self.channels = out;
        self.add("Conv", inputs, attributes);
    }

    fn normalization(&mut self) {
        let channels = self.channels;
        let mut inputs = vec![self.end()];
        for _ in 0..4 {
            inputs.push(self.constant(&[channels]));
        }
        let epsilon = self.float();
        self.add(
            "BatchNormalization",
            inputs,
            vec![("epsilon", epsilon.into())],
        );
    }

    /// An operator that moves or joins what is there.
    fn movement(&mut self) {
        let end = self.end();
        match self.random.below(9) {
            0 => {
                let perm = *self
                    .random
                    .pick(&[[0, 1, 3, 2], [0, 1, 2, 3], [3, 2, 1, 0]]);
                let mut perm = perm.to_vec();
                let at = self.random.below(4);
                perm[at] = self.number(perm[at]);
                self.add("Transpose", vec![end], vec![("perm", perm.into())]);
            }
            1 => {
                let shape = self.numbers(4, -1);
                let shape = self.integers(&shape);
                self.add("Reshape", vec![end, shape], vec![]);
            }
            2 => {
                let other = self.any();
                let axis = self.number(1);
                self.add("Concat", vec![end, other], vec![("axis", axis.into())]);
            }
            3 => {
                let axis = self.number(1);
                self.add("Flatten", vec![end], vec![("axis", axis.into())]);
            }
            4 => {
                let [starts, ends, axes, steps] = [0, 2, 2, 1].map(|usual| {
                    let numbers = self.numbers(1, usual);
                    self.integers(&numbers)
                });
                self.add("Slice", vec![end, starts, ends, axes, steps], vec![]);
            }
            5 => {
                let indices = self.numbers(2, 0);
                let indices = self.integers(&indices);
                let axis = self.number(1);
                self.add("Gather", vec![end, indices], vec![("axis", axis.into())]);
            }
            6 => {
                let axes = self.numbers(1, 0);
                let axes = self.integers(&axes);
                let op_type = *self.random.pick(&["Unsqueeze", "Squeeze"]);
                self.add(op_type, vec![end, axes], vec![]);
            }
            7 => {
                let to = self.number(1);
                self.add("Cast", vec![end], vec![("to", to.into())]);
            }
            _ => self.add("Shape", vec![end], vec![]),
        }
    }

    fn pooling(&mut self) {
        let end = self.end();
        match self.random.below(3) {
            0 => self.add("GlobalAveragePool", vec![end], vec![]),
            kind => {
                let op_type = ["AveragePool", "MaxPool"][kind - 1];
                // Kernels of 2^62 rows are the engine's own test.
                let kernel = vec![1 + self.random.below(3) as i64; 2];
                let strides = self.numbers(2, 1);
                let pads = self.numbers(4, 0);
                self.add(
                    op_type,
                    vec![end],
                    vec![
                        ("kernel_shape", kernel.into()),
                        ("strides", strides.into()),
                        ("pads", pads.into()),
                    ],
                );
            }
        }
    }

    fn arithmetic(&mut self) {
        let end = self.end();
        match self.random.below(6) {
            0 => {
                let op_type = *self
                    .random
                    .pick(&["Relu", "Sigmoid", "Tanh", "HardSwish", "Elu"]);
                self.add(op_type, vec![end], vec![]);
            }
            1 => {
                let bounds = [self.constant(&[]), self.constant(&[])];
                let [low, high] = bounds;
                self.add("Clip", vec![end, low, high], vec![]);
            }
            2 => {
                let op_type = *self.random.pick(&["Add", "Mul", "Sub", "Div"]);
                let other = self.any();
                self.add(op_type, vec![end, other], vec![]);
            }
            3 => {
                let channels = self.channels;
                let shapes = [
                    vec![],
                    vec![channels, 1, 1],
                    vec![1, channels, 1, 1],
                    vec![0],
                ];
                let shape = &shapes[self.random.below(4)];
                let other = self.constant(shape);
                let op_type = *self.random.pick(&["Add", "Mul"]);
                self.add(op_type, vec![end, other], vec![]);
            }
            4 => {
                let axis = self.number(1);
                self.add("Softmax", vec![end], vec![("axis", axis.into())]);
            }
            _ => {
                let axes = self.numbers(2, 2);
                let keep = self.number(1);
                self.add(
                    "ReduceMean",
                    vec![end],
                    vec![("axes", axes.into()), ("keepdims", keep.into())],
                );
            }
        }
    }

    fn linear(&mut self) {
        let (end, rows) = (self.end(), self.channels);
        let weight = self.constant(&[rows, 16]);
        self.channels = 16;
        if self.random.one_in(2) {
            self.add("MatMul", vec![end, weight], vec![]);
        } else {
            let (a, b) = (self.number(0), self.number(0));
            self.add(
                "Gemm",
                vec![end, weight],
                vec![("transA", a.into()), ("transB", b.into())],
            );
        }
    }
}

/// A random network of one input `[1, 3, 8, 8]`, as the bytes of a file.
pub fn network(random: &mut Random) -> Vec<u8> {
    let mut builder = Builder {
        random,
        graph: Content::default(),
        values: vec!["x".to_owned()],
        channels: 3,
        constants: 0,
    };
    for _ in 0..1 + builder.random.below(8) {
        match builder.random.below(10) {
            0..4 => builder.convolution(),
            4 => builder.normalization(),
            5 => builder.movement(),
            6 => builder.pooling(),
            7 => builder.linear(),
            _ => builder.arithmetic(),
        }
    }
    let end = builder.end();
    let graph = builder
        .graph
        .message(schema::graph::INPUT, value("x", &[1, 3, 8, 8]))
        .message(
            schema::graph::OUTPUT,
            NewValueInfo::tensor(&end, ElementType::F32, None),
        );
    model(graph).into_bytes().unwrap_or_default()
}

/// The file that quantizing a model gives, of a folder that with the program;
/// `None` where it is refused.
pub fn quantized(model: &[u8], target: Target, options: &Options) -> Option<Vec<u8>> {
    let folder = tempfile::tempdir().ok()?;
    let output = format!("out.{}", target.ending());
    let [input, output] = ["in.onnx", &output].map(|name| folder.path().join(name));
    std::fs::write(&input, model).ok()?;
    let options = Options {
        target,
        means_are_corrected: true,
        ..options.clone()
    };
    quantize_file(&QuantizeJob::new(&input, &output, &options), &Silent).ok()?;
    let file = match target.is_folder() {
        true => output.join("Data/com.apple.CoreML/model.mlmodel"),
        false => output,
    };
    let bytes = std::fs::read(file).ok();
    assert!(bytes.is_some(), "a success leaves its file");
    bytes
}

/// Runs a model on an input of its declared shape; refusals are fine.
fn run_model(bytes: Vec<u8>) {
    let source = campana_onnx::Source::from_bytes(bytes);
    let graph = campana_onnx::Model::parse(source)
        .ok()
        .and_then(|model| onnx::graph(&model).ok());
    let Some(plan) = graph.and_then(|graph| Plan::new(graph, PlanOptions::default()).ok()) else {
        return;
    };
    let image: Vec<f32> = (0..192_u8).map(|i| f32::from(i % 17) / 8.0 - 1.0).collect();
    let input = Input::F32 {
        shape: &[1, 3, 8, 8],
        data: &image,
    };
    let _ = Session::new(plan, 1).run(&[("x", input)]);
}

/// Makes the network of a seed, quantizes it to every target and runs what
/// comes out.
pub fn run(seed: &[u8]) {
    let mut bytes = [0; 8];
    for (to, from) in bytes.iter_mut().zip(seed) {
        *to = *from;
    }
    let mut random = Random::new(u64::from_le_bytes(bytes));
    let model = network(&mut random);
    let options = Options::default();
    run_model(model.clone());
    for target in Target::ALL {
        let Some(output) = quantized(&model, target, &options) else {
            continue;
        };
        if target == Target::Campana {
            let unpacked = campana_ir::format::container::unpack(&output);
            let unpacked = unpacked.unwrap_or_else(|error| panic!("{target:?}: {error}"));
            run_model(unpacked);
        } else {
            run_model(output);
        }
    }
}
