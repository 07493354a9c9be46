//! The parts of TFLite's schema that networks are written with: tensors,
//! operators, their options, and the model around them.
//!
//! # References
//!
//! `tensorflow/lite/schema/schema.fbs`, version 3; the versions of operators in
//! `tools/versioning/op_version.cc` beside it.

mod options;

pub(crate) use options::{Activation, Options, Padding, Resize};

use std::collections::HashMap;

use crate::flatbuffer::{Field, Table, file};

/// Version of the schema.
const VERSION: u32 = 3;
const IDENTIFIER: [u8; 4] = *b"TFL3";

/// Codes from here on are in a field of their own.
const LARGEST_OLD_CODE: i32 = 127;

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorType {
    Float32 = 0,
    Int32 = 2,
    Uint8 = 3,
    Bool = 6,
    Int8 = 9,
    /// Two in a byte, the first in its low half.
    Int4 = 17,
}

/// An operator, by the schema's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Add = 0,
    AveragePool2d = 1,
    Concatenation = 2,
    Conv2d = 3,
    DepthwiseConv2d = 4,
    DepthToSpace = 5,
    Dequantize = 6,
    Floor = 8,
    FullyConnected = 9,
    LocalResponseNormalization = 13,
    Logistic = 14,
    MaxPool2d = 17,
    Mul = 18,
    Relu = 19,
    ReluN1To1 = 20,
    Relu6 = 21,
    Reshape = 22,
    ResizeBilinear = 23,
    Softmax = 25,
    SpaceToDepth = 26,
    Tanh = 28,
    /// Of TFLite Micro alone: a custom operator of this name.
    TflmDecode = 32,
    Pad = 34,
    Gather = 36,
    Transpose = 39,
    Mean = 40,
    Sub = 41,
    Div = 42,
    StridedSlice = 45,
    Exp = 47,
    LogSoftmax = 50,
    Cast = 53,
    Prelu = 54,
    Maximum = 55,
    Minimum = 57,
    Less = 58,
    Neg = 59,
    PadV2 = 60,
    Greater = 61,
    GreaterEqual = 62,
    LessEqual = 63,
    Sin = 66,
    TransposeConv = 67,
    Equal = 71,
    NotEqual = 72,
    Log = 73,
    Sum = 74,
    Sqrt = 75,
    Pow = 78,
    ReduceProd = 81,
    ReduceMax = 82,
    LogicalOr = 84,
    LogicalAnd = 86,
    LogicalNot = 87,
    ReduceMin = 89,
    ResizeNearestNeighbor = 97,
    LeakyRelu = 98,
    MirrorPad = 100,
    Abs = 101,
    SplitV = 102,
    Ceil = 104,
    Cos = 108,
    Elu = 111,
    Quantize = 114,
    Round = 116,
    HardSwish = 117,
    SelectV2 = 123,
    BatchMatmul = 126,
    BroadcastTo = 130,
    Gelu = 150,
}

impl Code {
    /// Whether TFLite Micro has the operator too.
    pub(crate) fn is_in_micro(self) -> bool {
        !matches!(
            self,
            Self::LocalResponseNormalization
                | Self::ReluN1To1
                | Self::Pow
                | Self::ReduceProd
                | Self::Gelu
        )
    }
}

/// How the elements of a tensor stand for numbers: `scale * (q - zero point)`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quantization {
    /// One, or one for each index along `axis`.
    pub(crate) scales: Vec<f32>,
    pub(crate) zero_point: i64,
    pub(crate) axis: usize,
}

/// A tensor; with data where it is a constant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) element: TensorType,
    pub(crate) data: Option<Vec<u8>>,
    pub(crate) quantization: Option<Quantization>,
}

/// An operator on tensors, which are named by their place in the model.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Operator {
    pub(crate) code: Code,
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
    pub(crate) options: Options,
}

/// A model of one graph.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) operators: Vec<Operator>,
    pub(crate) inputs: Vec<usize>,
    pub(crate) outputs: Vec<usize>,
}

impl Model {
    /// The bytes of the file.
    pub(crate) fn into_bytes(mut self) -> Vec<u8> {
        let mut codes: Vec<(Code, i32)> = Vec::new();
        let mut operators = Vec::with_capacity(self.operators.len());
        for operator in &self.operators {
            let key = (operator.code, self.version(operator));
            let known = codes.iter().position(|known| *known == key);
            let index = known.unwrap_or(codes.len());
            if known.is_none() {
                codes.push(key);
            }
            operators.push(operator_table(operator, index));
        }
        let (places, mut buffers) = buffers(&mut self.tensors);
        // The first buffer is empty: that of all tensors without data.
        buffers.insert(0, Table::default());
        let tables = self.tensors.into_iter().zip(places);
        let tensors = tables.map(|(tensor, place)| tensor_table(tensor, place));
        let tensors = tensors.collect();
        let graph = Table(vec![
            (0, Field::Tables(tensors)),
            (1, indices(&self.inputs)),
            (2, indices(&self.outputs)),
            (3, Field::Tables(operators)),
            (4, Field::Text(self.name)),
        ]);
        let root = Table(vec![
            (0, Field::U32(VERSION)),
            (
                1,
                Field::Tables(codes.into_iter().map(code_table).collect()),
            ),
            (2, Field::Tables(vec![graph])),
            (3, Field::Text("campana".to_owned())),
            (4, Field::Tables(buffers)),
        ]);
        file(root, IDENTIFIER)
    }

    /// The first version of an operator that takes these tensors and options:
    /// older runtimes refuse later versions than they know.
    fn version(&self, operator: &Operator) -> i32 {
        let tensor = |place: usize| operator.inputs.get(place).map(|&at| &self.tensors[at]);
        let is_int8 = |place| tensor(place).is_some_and(|t| t.element == TensorType::Int8);
        let has_int4_weights = tensor(1).is_some_and(|t| t.element == TensorType::Int4);
        let rank = |place| tensor(place).map_or(0, |t| t.shape.len());
        let for_int8 = |version| if is_int8(0) { version } else { 1 };
        match (operator.code, &operator.options) {
            (Code::Conv2d, _) => {
                let channels = |place: usize| tensor(place).and_then(|t| t.shape.last());
                match channels(0) == channels(1) {
                    true if has_int4_weights => 7,
                    true => for_int8(3),
                    false => 6,
                }
            }
            (Code::DepthwiseConv2d, Options::Depthwise { dilations, .. }) => {
                match *dilations == [1, 1] {
                    true => for_int8(3),
                    false => for_int8(3).max(2),
                }
            }
            (Code::FullyConnected, _) if has_int4_weights => 10,
            (Code::FullyConnected, Options::FullyConnected { keeps_axes, .. }) => match *keeps_axes
            {
                true => 5,
                false => for_int8(4),
            },
            (Code::TransposeConv, _) => 3,
            (Code::Mul, _) if is_int8(0) => {
                let scale = |at: usize| {
                    let quantization = self.tensors[at].quantization.as_ref();
                    quantization.map_or(1.0, |quantization| quantization.scales[0])
                };
                let factor = scale(operator.inputs[0]) * scale(operator.inputs[1]);
                2 + i32::from(factor / scale(operator.outputs[0]) >= 1.0)
            }
            (Code::Dequantize, _) => {
                let quantization = tensor(0).and_then(|tensor| tensor.quantization.as_ref());
                match quantization.is_some_and(|own| own.scales.len() > 1) {
                    true => 5,
                    false => 2,
                }
            }
            (Code::Transpose | Code::StridedSlice | Code::Pad | Code::PadV2, _) if rank(0) > 4 => {
                4 + 2 * i32::from(operator.code == Code::Transpose && rank(0) > 5)
            }
            (Code::Maximum | Code::Minimum | Code::Sub, _) if rank(0) > 4 => 3,
            (Code::Div, _) if rank(0) > 4 => 2,
            (Code::BroadcastTo, _) => 2 + i32::from(is_int8(0)),
            (Code::ResizeBilinear, Options::Bilinear(options)) if options.half_pixel_centers => 3,
            (Code::ResizeNearestNeighbor, Options::Nearest(options))
                if options.half_pixel_centers || options.align_corners =>
            {
                3
            }
            (
                Code::Quantize
                | Code::Div
                | Code::HardSwish
                | Code::LeakyRelu
                | Code::Prelu
                | Code::Reshape
                | Code::DepthToSpace
                | Code::SpaceToDepth
                | Code::TflmDecode,
                _,
            ) => 1,
            _ => for_int8(2),
        }
    }
}

/// The buffer of each tensor, and those behind the empty one: equal data is
/// stored once.
fn buffers(tensors: &mut [Tensor]) -> (Vec<usize>, Vec<Table>) {
    let mut places = Vec::with_capacity(tensors.len());
    let mut known: HashMap<&[u8], usize> = HashMap::new();
    for tensor in &*tensors {
        let next = known.len() + 1;
        places.push(match &tensor.data {
            Some(data) => *known.entry(data.as_slice()).or_insert(next),
            None => 0,
        });
    }
    let mut buffers = Vec::with_capacity(known.len());
    for (tensor, &place) in tensors.iter_mut().zip(&places) {
        if place > buffers.len()
            && let Some(data) = tensor.data.take()
        {
            buffers.push(Table(vec![(0, Field::Bytes(data))]));
        }
    }
    (places, buffers)
}

fn indices(places: &[usize]) -> Field {
    Field::I32s(places.iter().map(|&at| at as i32).collect())
}

fn code_table((code, version): (Code, i32)) -> Table {
    let number = code as i32;
    let mut fields = vec![
        (0, Field::I8(number.min(LARGEST_OLD_CODE) as i8)),
        (2, Field::I32(version)),
        (3, Field::I32(number)),
    ];
    if code == Code::TflmDecode {
        fields.push((1, Field::Text("TFLM_DECODE".to_owned())));
    }
    Table(fields)
}

fn operator_table(operator: &Operator, code: usize) -> Table {
    let mut fields = vec![
        (0, Field::U32(code as u32)),
        (1, indices(&operator.inputs)),
        (2, indices(&operator.outputs)),
    ];
    if let Some((kind, options)) = operator.options.table() {
        fields.push((3, Field::I8(kind)));
        fields.push((4, Field::Table(options)));
    }
    Table(fields)
}

fn tensor_table(tensor: Tensor, buffer: usize) -> Table {
    let shape = tensor.shape.iter().map(|&extent| extent as i32);
    let mut fields = vec![
        (0, Field::I32s(shape.collect())),
        (1, Field::I8(tensor.element as i8)),
        (2, Field::U32(buffer as u32)),
        (3, Field::Text(tensor.name)),
        (8, Field::Bool(true)),
    ];
    if let Some(quantization) = tensor.quantization {
        let zero_points = vec![quantization.zero_point; quantization.scales.len()];
        let table = Table(vec![
            (2, Field::F32s(quantization.scales)),
            (3, Field::I64s(zero_points)),
            (6, Field::I32(quantization.axis as i32)),
        ]);
        fields.push((4, Field::Table(table)));
    }
    Table(fields)
}
