//! Small models for tests.

use campana_onnx::{
    Content, Dim, Model, NewNode, NewTensor, NewValueInfo, Source, opset_import, schema,
};
use campana_tensor::ElementType;

/// A graph that is being built.
pub(crate) struct SmallGraph {
    fields: Content<'static>,
    ir_version: i64,
    opset: i64,
}

impl SmallGraph {
    pub(crate) fn new() -> Self {
        Self {
            fields: Content::default().string(schema::graph::NAME, "net"),
            ir_version: 8,
            opset: 13,
        }
    }

    pub(crate) fn opset(mut self, opset: i64) -> Self {
        self.opset = opset;
        self
    }

    pub(crate) fn ir_version(mut self, ir_version: i64) -> Self {
        self.ir_version = ir_version;
        self
    }

    pub(crate) fn node(mut self, node: NewNode<'static>) -> Self {
        self.fields = self.fields.message(schema::graph::NODE, node);
        self
    }

    pub(crate) fn input(self, name: &str, dims: &[i64]) -> Self {
        self.input_of(name, dims, ElementType::F32)
    }

    pub(crate) fn input_of(mut self, name: &str, dims: &[i64], kind: ElementType) -> Self {
        let value = value(name, dims, kind);
        self.fields = self.fields.message(schema::graph::INPUT, value);
        self
    }

    pub(crate) fn output(self, name: &str, dims: &[i64]) -> Self {
        self.output_of(name, dims, ElementType::F32)
    }

    pub(crate) fn output_of(mut self, name: &str, dims: &[i64], kind: ElementType) -> Self {
        let value = value(name, dims, kind);
        self.fields = self.fields.message(schema::graph::OUTPUT, value);
        self
    }

    pub(crate) fn tensor(
        mut self,
        name: &str,
        dims: &[usize],
        kind: ElementType,
        bytes: Vec<u8>,
    ) -> Self {
        let tensor = NewTensor::raw(name, dims, kind, bytes);
        self.fields = self.fields.message(schema::graph::INITIALIZER, tensor);
        if self.ir_version < 4 {
            let dims: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
            return self.input(name, &dims);
        }
        self
    }

    pub(crate) fn floats(self, name: &str, dims: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, dims, ElementType::F32, bytes)
    }

    /// Weights between -0.5 and 0.5.
    pub(crate) fn weights(self, name: &str, dims: &[usize]) -> Self {
        let values = numbers(name.len() as u32 + 1, dims.iter().product());
        self.floats(name, dims, &values)
    }

    /// The graph's fields, to stand inside of a node.
    pub(crate) fn into_fields(self) -> Content<'static> {
        self.fields
    }

    pub(crate) fn into_model(self) -> Model {
        let bytes = Content::default()
            .int(schema::model::IR_VERSION, self.ir_version)
            .message(schema::model::GRAPH, self.fields)
            .message(schema::model::OPSET_IMPORT, opset_import("", self.opset))
            .into_bytes()
            .expect("a model in memory");
        Model::parse(Source::from_bytes(bytes)).expect("a valid model")
    }
}

fn value(name: &str, dims: &[i64], kind: ElementType) -> NewValueInfo {
    let dims: Vec<_> = dims.iter().map(|&dim| Dim::Value(dim)).collect();
    NewValueInfo::tensor(name, kind, Some(&dims))
}

/// Numbers between -0.5 and 0.5.
pub(crate) fn numbers(seed: u32, count: usize) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1u32 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}
