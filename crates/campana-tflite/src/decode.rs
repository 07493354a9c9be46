//! Weights of few values as codes and tables, which the DECODE operator of
//! TFLite Micro looks up before each layer.
//!
//! # References
//!
//! `tensorflow/lite/micro/compression/{decode,lut}.py` and
//! `tensorflow/lite/micro/kernels/decode_state_lut.cc` of TFLite Micro.

use std::collections::{BTreeSet, HashMap};

use crate::schema::{Code, Model, Operator, Options, Quantization, Tensor, TensorType};

/// Bits of a code at most.
const MAX_BITS: u32 = 7;
/// Elements of a table at most.
const MAX_TABLE: usize = 1 << MAX_BITS;
/// Bytes of the operator and of the tensors around codes and tables, more or less.
const OVERHEAD: usize = 256;
/// Bytes before the tables: what all kinds of decoding have.
const HEADER_BYTES: usize = 16;
/// The kind of decoding that looks codes up.
const LOOK_UP: u8 = 0;
const HEADER_VERSION: u8 = 1;
const LOOK_UP_VERSION: u8 = 1;

/// Puts a DECODE before each layer whose weights take fewer bytes as codes.
///
/// Layers that read the same weights decode them anew: what DECODE makes lives
/// until the next operator.
pub(crate) fn encode_weights(model: &mut Model) {
    let mut encoded: HashMap<usize, Option<Encoded>> = HashMap::new();
    for mut operator in std::mem::take(&mut model.operators) {
        let weights = operator.inputs.get(1).copied();
        if let Some(weights) = weights.filter(|_| is_layer(operator.code)) {
            let found = encoded
                .entry(weights)
                .or_insert_with(|| Encoded::of(model, weights));
            if let Some(found) = found {
                operator.inputs[1] = found.decoded(model);
            }
        }
        model.operators.push(operator);
    }
}

fn is_layer(code: Code) -> bool {
    matches!(
        code,
        Code::Conv2d | Code::DepthwiseConv2d | Code::FullyConnected | Code::TransposeConv
    )
}

/// Weights that are stored as codes.
struct Encoded {
    codes: usize,
    tables: usize,
    /// The tensor as it was, without its data.
    decoded: Tensor,
}

impl Encoded {
    /// Stores the weights as codes, where they are constants of few values.
    fn of(model: &mut Model, weights: usize) -> Option<Self> {
        let tensor = &model.tensors[weights];
        let data = tensor.data.as_ref()?;
        let (tables, quantization) = tables(tensor)?;
        let codes = tables.packed_codes();
        let values = tables.bytes();
        if codes.len() + values.len() + OVERHEAD >= data.len() {
            return None;
        }
        let bytes = |name: String, data: Vec<u8>| Tensor {
            name,
            shape: vec![data.len()],
            element: TensorType::Uint8,
            data: Some(data),
            quantization: None,
        };
        let name = tensor.name.clone();
        let codes = bytes(name.clone(), codes);
        let decoded = std::mem::replace(&mut model.tensors[weights], codes);
        model.tensors.push(bytes(format!("{name}/tables"), values));
        Some(Self {
            codes: weights,
            tables: model.tensors.len() - 1,
            decoded: Tensor {
                name: format!("{name}/decoded"),
                data: None,
                quantization,
                ..decoded
            },
        })
    }

    /// The tensor that a new DECODE makes.
    fn decoded(&self, model: &mut Model) -> usize {
        model.tensors.push(self.decoded.clone());
        let output = model.tensors.len() - 1;
        model.operators.push(Operator {
            code: Code::TflmDecode,
            inputs: vec![self.codes, self.tables],
            outputs: vec![output],
            options: Options::None,
        });
        output
    }
}

/// Codes of elements and the values that they stand for: one table, or one for
/// each channel along the first or the last axis.
struct Tables {
    codes: Vec<u8>,
    bits: u32,
    /// Bytes of each table.
    tables: Vec<Vec<u8>>,
    /// From one channel's table to the next's, in elements: 0 where all
    /// channels have the same.
    stride: usize,
}

/// The fewest bytes of codes and tables for a tensor, and the quantization by
/// which the operator tells how many channels there are.
fn tables(tensor: &Tensor) -> Option<(Tables, Option<Quantization>)> {
    let data = tensor.data.as_ref()?;
    let width = match tensor.element {
        TensorType::Int8 => 1,
        TensorType::Float32 => 4,
        _ => return None,
    };
    let elements: Vec<&[u8]> = data.chunks_exact(width).collect();
    let last = tensor.shape.len().checked_sub(1)?;
    let shared = || Tables::new(&elements, 1, false);
    let by_channel = |axis: usize| Tables::new(&elements, tensor.shape[axis], axis == last);
    let candidates = match &tensor.quantization {
        Some(own) => {
            let is_list = own.scales.len() > 1;
            if own.axis != 0 && (own.axis != last || !is_list) {
                return None;
            }
            let by_channel = is_list.then(|| by_channel(own.axis)).flatten();
            let own = Some(own.clone());
            vec![(shared(), own.clone()), (by_channel, own)]
        }
        // Of floats the operator counts the scales of a quantization that means nothing.
        None => {
            let counted = |axis: usize| Quantization {
                scales: vec![1.0; tensor.shape[axis]],
                zero_point: 0,
                axis,
            };
            let by_channel = [0, last].map(|axis| (by_channel(axis), Some(counted(axis))));
            [(shared(), None)].into_iter().chain(by_channel).collect()
        }
    };
    let candidates = candidates.into_iter();
    let found = candidates.filter_map(|(tables, quantization)| Some((tables?, quantization)));
    found.min_by_key(|(tables, _)| tables.len_bytes())
}

impl Tables {
    /// Of elements in as many channels, which alternate where `is_last` and
    /// otherwise lie one after another; `None` where one has too many values.
    fn new(elements: &[&[u8]], channels: usize, is_last: bool) -> Option<Self> {
        let per_channel = (elements.len() / channels.max(1)).max(1);
        let channel = |at: usize| match is_last {
            true => at % channels,
            false => at / per_channel,
        };
        let mut values = vec![BTreeSet::new(); channels];
        for (at, element) in elements.iter().enumerate() {
            let own = &mut values[channel(at)];
            own.insert(*element);
            if own.len() > MAX_TABLE {
                return None;
            }
        }
        let longest = values.iter().map(BTreeSet::len).max().unwrap_or(0);
        let width = elements.first()?.len();
        let place = |at: usize| values[channel(at)].range(..elements[at]).count() as u8;
        let tables = values.iter().map(|own| {
            let mut bytes = own.iter().copied().collect::<Vec<_>>().concat();
            bytes.resize(longest * width, 0);
            bytes
        });
        Some(Self {
            codes: (0..elements.len()).map(place).collect(),
            bits: longest.next_power_of_two().ilog2().max(1),
            stride: if channels > 1 { longest } else { 0 },
            tables: tables.collect(),
        })
    }

    fn len_bytes(&self) -> usize {
        let codes = (self.codes.len() * self.bits as usize).div_ceil(8);
        codes + self.tables.iter().map(Vec::len).sum::<usize>()
    }

    /// The codes one after another, the first bit of each the most significant.
    fn packed_codes(&self) -> Vec<u8> {
        let mut packed = Vec::with_capacity(self.len_bytes());
        let (mut waiting, mut count) = (0u32, 0);
        for &code in &self.codes {
            waiting = waiting << self.bits | u32::from(code);
            count += self.bits;
            while count >= 8 {
                count -= 8;
                packed.push((waiting >> count) as u8);
            }
        }
        if count > 0 {
            packed.push((waiting << (8 - count)) as u8);
        }
        packed
    }

    /// The header and the tables.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes[0] = LOOK_UP;
        bytes[1] = HEADER_VERSION;
        bytes[4] = LOOK_UP_VERSION;
        bytes[5] = self.bits as u8;
        bytes[6] = self.stride as u8;
        bytes.extend(self.tables.concat());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The elements that DECODE makes, as TFLite Micro's reference kernel finds
    /// them: code by code, bit by bit.
    fn looked_up(codes: &[u8], tables: &[u8], decoded: &Tensor) -> Vec<u8> {
        let width = match decoded.element {
            TensorType::Int8 => 1,
            _ => 4,
        };
        let channels = decoded.quantization.as_ref().map_or(1, |q| q.scales.len());
        let axis = decoded.quantization.as_ref().map_or(0, |q| q.axis);
        let count: usize = decoded.shape.iter().product();
        let is_last = axis + 1 == decoded.shape.len() && channels > 1;
        let [bits, stride] = [5, 6].map(|at| usize::from(tables[at]));
        let mut elements = Vec::new();
        for at in 0..count {
            let bit = |i: usize| usize::from(codes[i / 8] >> (7 - i % 8) & 1);
            let code = (at * bits..(at + 1) * bits).fold(0, |code, i| 2 * code + bit(i));
            let channel = if is_last {
                at % channels
            } else {
                at / (count / channels)
            };
            let from = HEADER_BYTES + (channel * stride + code) * width;
            elements.extend(&tables[from..from + width]);
        }
        elements
    }

    fn layer(weights: Tensor) -> Model {
        let input = Tensor {
            name: "x".to_owned(),
            data: None,
            ..weights.clone()
        };
        Model {
            tensors: vec![input.clone(), weights, input],
            operators: vec![Operator {
                code: Code::FullyConnected,
                inputs: vec![0, 1],
                outputs: vec![2],
                options: Options::None,
            }],
            ..Model::default()
        }
    }

    /// Weights of `levels` values a channel, other ones in each where not `is_shared`.
    fn weights(shape: [usize; 2], axis: usize, levels: usize, is_shared: bool) -> Tensor {
        let count = shape[0] * shape[1];
        let number = |at: usize| {
            let channel = if axis == 0 {
                at / shape[1]
            } else {
                at % shape[1]
            };
            let shift = if is_shared { 0 } else { 3 * channel };
            (at * 7 % 31 % levels * 5 + shift) as u8
        };
        Tensor {
            name: "w".to_owned(),
            shape: shape.to_vec(),
            element: TensorType::Int8,
            data: Some((0..count).map(number).collect()),
            quantization: Some(Quantization {
                scales: vec![0.5; shape[axis]],
                zero_point: 0,
                axis,
            }),
        }
    }

    #[test]
    fn codes_and_tables_stand_for_the_weights() {
        for levels in [1, 2, 3, 5, 16, 30] {
            for (shape, axis) in [([40, 500], 0), ([500, 40], 1), ([1, 2000], 0)] {
                for is_shared in [true, false] {
                    let weights = weights(shape, axis, levels, is_shared);
                    let mut model = layer(weights.clone());
                    encode_weights(&mut model);
                    let [decode, layer] = &model.operators[..] else {
                        panic!("no DECODE before the layer");
                    };
                    assert_eq!(decode.code, Code::TflmDecode);
                    assert_eq!(layer.inputs[1], decode.outputs[0]);
                    let data = |at: usize| model.tensors[at].data.as_deref().unwrap();
                    let [codes, tables] = [0, 1].map(|at| data(decode.inputs[at]));
                    let decoded = &model.tensors[decode.outputs[0]];
                    assert_eq!(looked_up(codes, tables, decoded), weights.data.unwrap());
                    assert_eq!(decoded.quantization, weights.quantization);
                    assert_eq!(tables[6] == 0, is_shared || shape[axis] == 1);
                }
            }
        }
    }

    #[test]
    fn floats_have_a_table_for_each_channel() {
        let numbers = weights([40, 50], 0, 16, true);
        let scaled = |(at, number): (usize, &u8)| f32::from(*number) * (1.0 + (at / 50) as f32);
        let floats: Vec<f32> = numbers
            .data
            .iter()
            .flatten()
            .enumerate()
            .map(scaled)
            .collect();
        let data: Vec<u8> = floats
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let mut model = layer(Tensor {
            element: TensorType::Float32,
            data: Some(data.clone()),
            quantization: None,
            ..numbers
        });
        encode_weights(&mut model);
        let decode = &model.operators[0];
        let [codes, tables] =
            [0, 1].map(|at| model.tensors[decode.inputs[at]].data.clone().unwrap());
        let decoded = &model.tensors[decode.outputs[0]];
        assert_eq!(looked_up(&codes, &tables, decoded), data);
        assert_eq!(decoded.quantization.as_ref().unwrap().scales.len(), 40);
    }

    #[test]
    fn weights_that_codes_do_not_shrink_stay() {
        let many = Tensor {
            data: Some((0..2000u32).map(|at| (at * 37 % 251) as u8).collect()),
            ..weights([1, 2000], 0, 2, true)
        };
        let small = weights([4, 5], 0, 2, true);
        // The operator reads channels along the first or the last axis.
        let between = Tensor {
            shape: vec![10, 20, 10],
            quantization: Some(Quantization {
                scales: vec![1.0; 20],
                zero_point: 0,
                axis: 1,
            }),
            ..weights([40, 50], 0, 2, true)
        };
        for weights in [many, small, between] {
            let before = layer(weights);
            let mut model = before.clone();
            encode_weights(&mut model);
            assert_eq!(model, before);
        }
    }

    #[test]
    fn layers_that_share_weights_decode_them_anew() {
        let mut model = layer(weights([40, 50], 0, 4, true));
        model.operators.push(model.operators[0].clone());
        encode_weights(&mut model);
        let codes: Vec<Code> = model
            .operators
            .iter()
            .map(|operator| operator.code)
            .collect();
        let one = [Code::TflmDecode, Code::FullyConnected];
        assert_eq!(codes, [one, one].concat());
        let [first, second] = [0, 2].map(|at| &model.operators[at]);
        assert_eq!(first.inputs, second.inputs);
        assert_ne!(first.outputs, second.outputs);
    }
}
