//! Models of a few layers. Each layer has an input and an output of its own.

use campana_onnx::{
    Content, Dim, ExternalData, NewNode, NewTensor, NewValueInfo, opset_import, schema,
};
use campana_tensor::ElementType;

/// A model under construction.
pub struct NewModel {
    ir_version: i64,
    opset: i64,
    nodes: Content<'static>,
    initializers: Content<'static>,
    inputs: Content<'static>,
    outputs: Content<'static>,
    graph_extra: Content<'static>,
    model_extra: Content<'static>,
}

impl NewModel {
    pub fn new() -> Self {
        Self {
            ir_version: 8,
            opset: 17,
            nodes: Content::default(),
            initializers: Content::default(),
            inputs: Content::default(),
            outputs: Content::default(),
            graph_extra: Content::default(),
            model_extra: Content::default(),
        }
    }

    pub fn versions(mut self, ir_version: i64, opset: i64) -> Self {
        (self.ir_version, self.opset) = (ir_version, opset);
        self
    }

    /// A float input of the graph.
    pub fn input(self, name: &str, dims: &[usize]) -> Self {
        self.input_of(name, dims, ElementType::F32)
    }

    pub fn input_of(mut self, name: &str, dims: &[usize], element_type: ElementType) -> Self {
        self.inputs = self
            .inputs
            .message(schema::graph::INPUT, value(name, dims, element_type));
        self
    }

    /// A float output of the graph.
    pub fn output(self, name: &str, dims: &[usize]) -> Self {
        self.output_of(name, dims, ElementType::F32)
    }

    pub fn output_of(mut self, name: &str, dims: &[usize], element_type: ElementType) -> Self {
        self.outputs = self
            .outputs
            .message(schema::graph::OUTPUT, value(name, dims, element_type));
        self
    }

    pub fn node(mut self, node: NewNode<'static>) -> Self {
        self.nodes = self.nodes.message(schema::graph::NODE, node);
        self
    }

    pub fn initializer(mut self, tensor: NewTensor<'static>) -> Self {
        self.initializers = self
            .initializers
            .message(schema::graph::INITIALIZER, tensor);
        self
    }

    /// A float initializer.
    pub fn floats(self, name: &str, dims: &[usize], values: &[f32]) -> Self {
        self.initializer(floats(name, dims, values))
    }

    /// A float initializer of random weights.
    pub fn weights(self, name: &str, dims: &[usize]) -> Self {
        let count = dims.iter().product();
        self.floats(name, dims, &random_weights(name, count))
    }

    /// More fields of the graph.
    pub fn graph_fields(mut self, fields: Content<'static>) -> Self {
        self.graph_extra = self.graph_extra.then(fields);
        self
    }

    /// More fields of the model.
    pub fn model_fields(mut self, fields: Content<'static>) -> Self {
        self.model_extra = self.model_extra.then(fields);
        self
    }

    pub fn into_bytes(self) -> Vec<u8> {
        let graph = Content::default()
            .then(self.nodes)
            .string(schema::graph::NAME, "net")
            .then(self.initializers)
            .then(self.inputs)
            .then(self.outputs)
            .then(self.graph_extra);
        Content::default()
            .int(schema::model::IR_VERSION, self.ir_version)
            .string(schema::model::PRODUCER_NAME, "by hand")
            .message(schema::model::GRAPH, graph)
            .message(schema::model::OPSET_IMPORT, opset_import("", self.opset))
            .then(self.model_extra)
            .into_bytes()
            .expect("no part is copied")
    }
}

/// Deterministic weights of mean 0 and deviation 0.1 with tails between those
/// of a Gaussian and of a Laplace density; other ones for every name.
pub fn random_weights(name: &str, count: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(0x9e37_79b9_7f4a_7c15_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut uniform = move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u32 << 24) as f32 - 0.5
    };
    let weight = |_| {
        let sum: f32 = (0..4).map(|_| uniform()).sum();
        0.12 * sum * (1.0 + sum * sum)
    };
    (0..count).map(weight).collect()
}

/// A float tensor.
pub fn floats(name: &str, dims: &[usize], values: &[f32]) -> NewTensor<'static> {
    assert_eq!(dims.iter().product::<usize>(), values.len());
    NewTensor::raw(name, dims, ElementType::F32, little_endian(values))
}

/// A float tensor in another file.
pub fn external(name: &str, dims: &[usize], location: &str, offset: u64) -> NewTensor<'static> {
    let place = ExternalData {
        location: location.to_owned(),
        offset,
        length: Some(4 * dims.iter().product::<usize>() as u64),
        checksum: None,
    };
    NewTensor::external(name, dims, ElementType::F32, &place)
}

pub fn little_endian(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// Weights as their upper 16 bits, which is bfloat16 without rounding.
pub fn bfloat16(values: &[f32]) -> Vec<u8> {
    let upper = |value: &f32| ((value.to_bits() >> 16) as u16).to_le_bytes();
    values.iter().flat_map(upper).collect()
}

/// Weights as float16, rounded towards zero; all must be 0 or normal numbers.
pub fn float16(values: &[f32]) -> Vec<u8> {
    let convert = |value: &f32| {
        let bits = value.to_bits();
        let exponent = (bits >> 23 & 0xff) as i32 - 127 + 15;
        let sign = (bits >> 31) << 15;
        let half = if exponent <= 0 {
            sign
        } else {
            assert!(exponent < 31, "{value} is too large");
            sign | (exponent as u32) << 10 | (bits >> 13 & 0x3ff)
        };
        (half as u16).to_le_bytes()
    };
    values.iter().flat_map(convert).collect()
}

pub fn value(name: &str, dims: &[usize], element_type: ElementType) -> NewValueInfo {
    let dims: Vec<Dim> = dims.iter().map(|&dim| Dim::Value(dim as i64)).collect();
    NewValueInfo::tensor(name, element_type, Some(&dims))
}

/// One convolution whose weights `w`, `[16, 8, 3, 3]`, have these values.
pub fn conv_with(values: &[f32]) -> NewModel {
    conv("", |model| model.floats("w", &[16, 8, 3, 3], values))
}

/// One convolution with random weights `w`, `[16, 8, 3, 3]`.
pub fn conv_model() -> NewModel {
    conv("", |model| model.weights("w", &[16, 8, 3, 3]))
}

/// Number of weights of [`conv_model`].
pub const CONV_LEN: usize = 16 * 8 * 3 * 3;

/// A convolution whose weights, `{prefix}w` of shape `[16, 8, 3, 3]`, come
/// from `add_weights`.
pub fn conv(prefix: &str, add_weights: impl FnOnce(NewModel) -> NewModel) -> NewModel {
    add_conv(add_weights(NewModel::new()), prefix)
}

/// Adds the convolution that reads `{prefix}w`.
pub fn add_conv(model: NewModel, prefix: &str) -> NewModel {
    let [x, w, y] = ["x", "w", "y"].map(|name| format!("{prefix}{name}"));
    model
        .input(&x, &[1, 8, 6, 6])
        .node(NewNode::new("Conv", [&x, &w], [&y]))
        .output(&y, &[1, 16, 4, 4])
}

/// Many convolutions of 73,728 weights, `layer0` and so on: work for seconds.
pub fn long_model(layers: usize) -> Vec<u8> {
    let mut model = NewModel::new();
    for layer in 0..layers {
        let [x, w, y] = ["x", "w", "y"].map(|name| format!("layer{layer}.{name}"));
        model = model
            .weights(&w, &[64, 128, 3, 3])
            .input(&x, &[1, 128, 3, 3])
            .node(NewNode::new("Conv", [&x, &w], [&y]))
            .output(&y, &[1, 64, 1, 1]);
    }
    model.into_bytes()
}

/// Every way in which weights occur, each in tensors large enough to be
/// quantized at 8 bits.
pub fn every_layer() -> NewModel {
    let mut model = add_conv(NewModel::new().weights("conv.w", &[16, 8, 3, 3]), "conv.");
    model = model
        // Grouped and depthwise.
        .weights("grouped.w", &[12, 6, 5, 5])
        .input("grouped.x", &[1, 12, 8, 8])
        .node(
            NewNode::new("Conv", ["grouped.x", "grouped.w"], ["grouped.y"])
                .attribute("group", 2_i64),
        )
        .output("grouped.y", &[1, 12, 4, 4])
        .weights("depthwise.w", &[96, 1, 5, 5])
        .input("depthwise.x", &[1, 96, 5, 5])
        .node(
            NewNode::new("Conv", ["depthwise.x", "depthwise.w"], ["depthwise.y"])
                .attribute("group", 96_i64),
        )
        .output("depthwise.y", &[1, 96, 1, 1])
        // Weights are [in, out, ..]; an odd number of them.
        .weights("transposed.w", &[9, 21, 3, 3])
        .input("transposed.x", &[1, 9, 2, 2])
        .node(NewNode::new(
            "ConvTranspose",
            ["transposed.x", "transposed.w"],
            ["transposed.y"],
        ))
        .output("transposed.y", &[1, 21, 4, 4])
        // 1-D.
        .weights("conv1d.w", &[24, 16, 5])
        .input("conv1d.x", &[1, 16, 9])
        .node(NewNode::new("Conv", ["conv1d.x", "conv1d.w"], ["conv1d.y"]))
        .output("conv1d.y", &[1, 24, 5])
        // Gemm, both ways round, with odd extents.
        .weights("gemm.w", &[37, 53])
        .weights("gemm.b", &[53])
        .input("gemm.x", &[2, 37])
        .node(NewNode::new(
            "Gemm",
            ["gemm.x", "gemm.w", "gemm.b"],
            ["gemm.y"],
        ))
        .output("gemm.y", &[2, 53])
        .weights("gemm_t.w", &[53, 37])
        .input("gemm_t.x", &[2, 37])
        .node(
            NewNode::new("Gemm", ["gemm_t.x", "gemm_t.w"], ["gemm_t.y"]).attribute("transB", 1_i64),
        )
        .output("gemm_t.y", &[2, 53])
        // MatMul on either side, and in a batch.
        .weights("right.w", &[41, 29])
        .input("right.x", &[3, 41])
        .node(NewNode::new("MatMul", ["right.x", "right.w"], ["right.y"]))
        .output("right.y", &[3, 29])
        .weights("left.w", &[29, 41])
        .input("left.x", &[41, 3])
        .node(NewNode::new("MatMul", ["left.w", "left.x"], ["left.y"]))
        .output("left.y", &[29, 3])
        .weights("batch.w", &[3, 20, 30])
        .input("batch.x", &[3, 4, 20])
        .node(NewNode::new("MatMul", ["batch.x", "batch.w"], ["batch.y"]))
        .output("batch.y", &[3, 4, 30]);
    model = shared_weights(model);
    model = constant_nodes(model);
    outer_weights(other_types(model))
}

/// One tensor read by two convolutions, and one by a convolution and, made
/// flat, by Gemm.
fn shared_weights(model: NewModel) -> NewModel {
    model
        .weights("twice.w", &[16, 8, 3, 3])
        .input("twice.x", &[1, 8, 3, 3])
        .node(NewNode::new("Conv", ["twice.x", "twice.w"], ["twice.y"]))
        .node(NewNode::new("Conv", ["twice.x", "twice.w"], ["twice.z"]))
        .output("twice.y", &[1, 16, 1, 1])
        .output("twice.z", &[1, 16, 1, 1])
        .weights("both.w", &[16, 8, 3, 3])
        .input("both.x", &[1, 8, 3, 3])
        .input("both.v", &[2, 72])
        .node(NewNode::new("Flatten", ["both.w"], ["both.flat"]))
        .node(NewNode::new("Conv", ["both.x", "both.w"], ["both.y"]))
        .node(NewNode::new("Gemm", ["both.v", "both.flat"], ["both.z"]).attribute("transB", 1_i64))
        .output("both.y", &[1, 16, 1, 1])
        .output("both.z", &[2, 16])
}

/// Weights from a node instead of an initializer.
fn constant_nodes(model: NewModel) -> NewModel {
    let values = random_weights("constant.w", 16 * 8 * 9);
    let tensor = floats("", &[16, 8, 3, 3], &values);
    let constant =
        NewNode::new("Constant", [] as [&str; 0], ["constant.w"]).attribute("value", tensor);
    model
        .node(constant)
        .input("constant.x", &[1, 8, 3, 3])
        .node(NewNode::new(
            "Conv",
            ["constant.x", "constant.w"],
            ["constant.y"],
        ))
        .output("constant.y", &[1, 16, 1, 1])
}

/// 16-bit weights.
fn other_types(model: NewModel) -> NewModel {
    let half = float16(&random_weights("half.w", 40 * 40));
    let brain = bfloat16(&random_weights("brain.w", 40 * 40));
    let cast = |from: &str, to: &str| {
        let to_float = i64::from(ElementType::F32.to_onnx());
        NewNode::new("Cast", [from], [to]).attribute("to", to_float)
    };
    model
        .initializer(NewTensor::raw("half.w", &[40, 40], ElementType::F16, half))
        .input_of("half.x", &[2, 40], ElementType::F16)
        .node(NewNode::new("MatMul", ["half.x", "half.w"], ["half.y"]))
        .output_of("half.y", &[2, 40], ElementType::F16)
        .initializer(NewTensor::raw(
            "brain.w",
            &[40, 40],
            ElementType::Bf16,
            brain,
        ))
        .input("brain.x", &[2, 40])
        .node(cast("brain.w", "brain.float"))
        .node(NewNode::new(
            "MatMul",
            ["brain.x", "brain.float"],
            ["brain.y"],
        ))
        .output("brain.y", &[2, 40])
}

/// A graph inside a node reads two weights of the graph around it; one of
/// them is read there alone.
fn outer_weights(model: NewModel) -> NewModel {
    let branch = |weights: &str| {
        let node = NewNode::new("MatMul", ["outer.x", weights], ["outer.branch"]);
        Content::default()
            .message(schema::graph::NODE, node)
            .string(schema::graph::NAME, "branch")
            .message(
                schema::graph::OUTPUT,
                value("outer.branch", &[2, 40], ElementType::F32),
            )
    };
    let choice = NewNode::new("If", ["outer.condition"], ["outer.y"])
        .attribute(
            "then_branch",
            campana_onnx::NewAttribute::Graph(branch("outer.w")),
        )
        .attribute(
            "else_branch",
            campana_onnx::NewAttribute::Graph(branch("outer.inner")),
        );
    model
        .weights("outer.w", &[40, 40])
        .weights("outer.inner", &[40, 40])
        .input("outer.x", &[2, 40])
        .input_of("outer.condition", &[], ElementType::Bool)
        .node(NewNode::new("MatMul", ["outer.x", "outer.w"], ["outer.z"]))
        .node(choice)
        .output("outer.z", &[2, 40])
        .output("outer.y", &[2, 40])
}
