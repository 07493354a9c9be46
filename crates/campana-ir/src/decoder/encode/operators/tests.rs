//! The decoder, run by a plain interpreter of its operators, gives the same
//! bits as the quantized tensor itself.

use std::collections::HashMap;

use campana_codebook::LevelTables;
use campana_tensor::{Granularity, Partition, Tensor, TensorData};
use half::f16;

use super::*;
use crate::graph;

/// A value of the interpreter: whole numbers and floats both as `f32`, which
/// holds all of a decoder's integers exactly.
#[derive(Clone, Debug)]
struct Value {
    dims: Vec<usize>,
    data: Vec<f32>,
}

/// Runs a decoder as ONNX defines its operators; returns all values.
fn interpret(decoder: &Decoder) -> HashMap<String, Value> {
    let mut values: HashMap<String, Value> = HashMap::new();
    for tensor in &decoder.tensors {
        let count = tensor.dims.iter().product();
        let data = match tensor.element_type {
            ElementType::U8 => tensor.data.iter().map(|&v| f32::from(v)).collect(),
            ElementType::I8 => tensor
                .data
                .iter()
                .map(|&v| f32::from(v.cast_signed()))
                .collect(),
            ElementType::U16 => chunks(&tensor.data)
                .map(|v| f32::from(u16::from_le_bytes(v)))
                .collect(),
            ElementType::F16 => chunks(&tensor.data)
                .map(|v| f16::from_le_bytes(v).to_f32())
                .collect(),
            ElementType::I32 => chunks(&tensor.data)
                .map(|v| i32::from_le_bytes(v) as f32)
                .collect(),
            ElementType::I64 => chunks(&tensor.data)
                .map(|v| i64::from_le_bytes(v) as f32)
                .collect(),
            ElementType::F32 => chunks(&tensor.data).map(f32::from_le_bytes).collect(),
            ElementType::U4 => {
                let nibbles = tensor.data.iter().flat_map(|byte| [byte & 15, byte >> 4]);
                nibbles.take(count).map(f32::from).collect()
            }
            other => panic!("no decoder stores {other}"),
        };
        let value = Value {
            dims: tensor.dims.clone(),
            data,
        };
        assert_eq!(value.data.len(), count, "{}", tensor.name);
        assert!(
            values.insert(tensor.name.clone(), value).is_none(),
            "{} twice",
            tensor.name
        );
    }
    for operator in &decoder.operators {
        let inputs: Vec<&Value> = operator.inputs.iter().map(|name| &values[name]).collect();
        let results = if operator.op_type == "Split" {
            split(operator, &inputs)
        } else {
            vec![run(operator, &inputs)]
        };
        assert_eq!(results.len(), operator.outputs.len());
        for (name, result) in operator.outputs.iter().zip(results) {
            let known = values.insert(name.clone(), result);
            assert!(known.is_none(), "{name} twice");
        }
    }
    values
}

/// The parts of a list.
fn split(operator: &Operator, inputs: &[&Value]) -> Vec<Value> {
    let attribute = operator
        .attributes
        .iter()
        .find(|(name, _)| *name == "split");
    let lengths: Vec<usize> = match attribute {
        Some((_, Attribute::Ints(lengths))) => lengths.iter().map(|&n| n as usize).collect(),
        _ => inputs[1].data.iter().map(|&n| n as usize).collect(),
    };
    let mut rest = &inputs[0].data[..];
    let parts = lengths.into_iter().map(|length| {
        let (data, after) = rest.split_at(length);
        rest = after;
        Value {
            dims: vec![length],
            data: data.to_vec(),
        }
    });
    let parts = parts.collect();
    assert!(rest.is_empty(), "the parts are shorter than the list");
    parts
}

fn run(operator: &Operator, inputs: &[&Value]) -> Value {
    match operator.op_type {
        "Cast" => match operator.attributes[0].1 {
            Attribute::Int(10) => Value {
                dims: inputs[0].dims.clone(),
                data: inputs[0]
                    .data
                    .iter()
                    .map(|&v| f16::from_f32(v).to_f32())
                    .collect(),
            },
            _ => inputs[0].clone(),
        },
        "Gather" => {
            let (table, positions) = (inputs[0], inputs[1]);
            let row: usize = table.dims[1..].iter().product();
            Value {
                dims: [&positions.dims, &table.dims[1..]].concat(),
                data: positions
                    .data
                    .iter()
                    .flat_map(|&at| table.data[at as usize * row..][..row].to_vec())
                    .collect(),
            }
        }
        "Reshape" => {
            let count = inputs[0].data.len();
            let dims = inputs[1]
                .data
                .iter()
                .map(|&dim| if dim < 0.0 { count } else { dim as usize });
            Value {
                dims: dims.collect(),
                data: inputs[0].data.clone(),
            }
        }
        "Slice" => {
            let end = match operator.attributes.iter().find(|(name, _)| *name == "ends") {
                Some((_, Attribute::Ints(ends))) => ends[0] as usize,
                _ => inputs[2].data[0] as usize,
            };
            Value {
                dims: vec![end],
                data: inputs[0].data[..end].to_vec(),
            }
        }
        "Tile" => Value {
            dims: vec![inputs[1].data[0] as usize],
            data: vec![inputs[0].data[0]; inputs[1].data[0] as usize],
        },
        "ReduceSum" => {
            let len = inputs[0].data.len() / inputs[0].dims[0];
            let sum = |at| inputs[0].data.iter().skip(at).step_by(len).sum();
            Value {
                dims: inputs[0].dims[1..].to_vec(),
                data: (0..len).map(sum).collect(),
            }
        }
        "DequantizeLinear" => {
            let axis = match operator.attributes.first() {
                Some((_, Attribute::Int(axis))) => *axis as usize,
                _ => 0,
            };
            let mut scales = inputs[1].clone();
            if let [count] = scales.dims[..] {
                scales.dims = vec![1; inputs[0].dims.len() - axis];
                scales.dims[0] = count;
            }
            assert!(inputs[2].data.iter().all(|&zero| zero == 0.0));
            broadcast(inputs[0], &scales, |a, b| a * b)
        }
        "Mul" => broadcast(inputs[0], inputs[1], |a, b| a * b),
        "Add" => broadcast(inputs[0], inputs[1], |a, b| a + b),
        other => panic!("no decoder uses {other}"),
    }
}

/// `b` is broadcast to `a`, whose rank is not below.
fn broadcast(a: &Value, b: &Value, operation: fn(f32, f32) -> f32) -> Value {
    let missing = a.dims.len() - b.dims.len();
    let data = (0..a.data.len()).map(|position| {
        let (mut rest, mut other, mut stride) = (position, 0, 1);
        for axis in (missing..a.dims.len()).rev() {
            let extent = b.dims[axis - missing];
            assert!(
                extent == 1 || extent == a.dims[axis],
                "{:?} to {:?}",
                b.dims,
                a.dims
            );
            other += if extent == 1 {
                0
            } else {
                rest % a.dims[axis] * stride
            };
            stride *= extent;
            rest /= a.dims[axis];
        }
        operation(a.data[position], b.data[other])
    });
    Value {
        dims: a.dims.clone(),
        data: data.collect(),
    }
}

fn chunks<const N: usize>(bytes: &[u8]) -> impl Iterator<Item = [u8; N]> {
    bytes.as_chunks().0.iter().copied()
}

/// A tensor with pseudo-random codes and parameters in every part.
fn sample(
    shape: &[usize],
    granularity: Granularity,
    levels: usize,
    tables: usize,
    storage: Storage,
    affine: bool,
) -> QuantizedTensor {
    let partition = Partition::new(shape, Some(shape.len() / 2), granularity);
    let groups = partition.group_count();
    let mut state = 12345u32;
    let mut random = move || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state >> 8
    };
    let codes: Vec<u8> = (0..partition.len())
        .map(|_| (random() as usize % levels) as u8)
        .collect();
    let packing = Packing::densest(levels);
    let mut packed = vec![0; packing.len_bytes(codes.len())];
    packing.pack(&codes, &mut packed);
    let mut values: Vec<f32> = (0..tables * levels)
        .map(|_| random() as f32 / 1e5 - 80.0)
        .collect();
    for table in values.chunks_mut(levels) {
        table.sort_by(f32::total_cmp);
    }
    let mut parameters = |storage: Storage| -> Option<(Vec<f32>, Storage)> {
        let values = (0..groups)
            .map(|_| storage.round(random() as f32 / 1e7 + 0.01))
            .collect();
        affine.then_some((values, storage))
    };
    let (scale, shift) = (parameters(Storage::F16), parameters(Storage::F32));
    let tensor = QuantizedTensor {
        shape: shape.to_vec(),
        packing,
        packed,
        tables: LevelTables::new(values, levels, storage),
        table_of_group: (tables > 1)
            .then(|| (0..groups).map(|group| (group % tables) as u16).collect()),
        scale_unit: affine.then_some(0.37),
        scale,
        shift,
        partition,
    };
    tensor.check().unwrap();
    tensor
}

/// Tensors of every packing, granularity and storage.
fn samples() -> Vec<QuantizedTensor> {
    let mut samples = Vec::new();
    for levels in [2, 3, 4, 6, 7, 8, 16, 32, 64, 128, 256] {
        for shape in [&[3, 5, 7][..], &[4, 6, 2, 2]] {
            samples.push(sample(
                shape,
                Granularity::PerTensor,
                levels,
                1,
                Storage::F32,
                false,
            ));
            samples.push(sample(
                shape,
                Granularity::PerChannel,
                levels,
                2,
                Storage::F32,
                true,
            ));
            samples.push(sample(
                shape,
                Granularity::PerChannel,
                levels,
                shape[shape.len() / 2],
                Storage::I8,
                true,
            ));
            samples.push(sample(
                shape,
                Granularity::PerGroup(3),
                levels,
                1,
                Storage::F16,
                true,
            ));
        }
    }
    samples
}

fn assert_decodes(decoder: &Decoder, tensors: &[QuantizedTensor]) {
    let values = interpret(decoder);
    for (number, tensor) in tensors.iter().enumerate() {
        let value = &values[&format!("w{number}")];
        assert_eq!(value.dims, tensor.shape, "tensor {number}");
        let expected = tensor.dequantize();
        let same = value
            .data
            .iter()
            .zip(&expected)
            .all(|(a, b)| a.to_bits() == b.to_bits());
        assert!(same, "tensor {number}: {:?}", tensor.packing);
    }
}

#[test]
fn every_form_decodes_bit_for_bit_at_every_opset() {
    let tensors = samples();
    for (opset, uint4) in [(7, false), (11, false), (13, false), (21, true)] {
        let mut decoder = Decoder::new("q".to_owned(), opset, uint4);
        for (number, tensor) in tensors.iter().enumerate() {
            decoder.add(tensor, &format!("w{number}"), ElementType::F32);
        }
        assert_decodes(&decoder, &tensors);
    }
}

#[test]
fn half_floats_are_rounded_once_at_the_end() {
    let tensor = sample(&[4, 6], Granularity::PerChannel, 16, 1, Storage::F32, true);
    let mut decoder = Decoder::new("q".to_owned(), 13, false);
    decoder.add(&tensor, "w", ElementType::F16);
    let value = &interpret(&decoder)["w"];
    let expected = tensor
        .dequantize()
        .into_iter()
        .map(|w| f16::from_f32(w).to_f32());
    assert!(value.data.iter().copied().eq(expected));
}

#[test]
fn what_several_tensors_need_is_stored_once() {
    let tensor = sample(&[4, 6], Granularity::PerTensor, 16, 1, Storage::F32, false);
    let size = |count: usize| {
        let mut decoder = Decoder::new("q".to_owned(), 13, false);
        for number in 0..count {
            decoder.add(&tensor, &format!("w{number}"), ElementType::F32);
        }
        decoder
            .tensors
            .iter()
            .map(|tensor| tensor.data.len())
            .sum::<usize>()
    };
    assert_eq!(size(3) - size(2), tensor.packed.len());
}

#[test]
fn layers_of_as_many_codebooks_share_their_positions() {
    let layer = sample(&[6, 4], Granularity::PerChannel, 16, 4, Storage::I8, true);
    let mut decoder = Decoder::new("q".to_owned(), 13, false);
    decoder.add(&layer, "w0", ElementType::F32);
    let first = decoder.operators.len();
    decoder.add(&layer, "w1", ElementType::F32);
    let offsets = decoder.tensors.iter().filter(|t| t.name.contains(".o"));
    assert_eq!(offsets.count(), 1);
    let casts = decoder.operators[first..].iter();
    let casts = casts.filter(|operator| operator.inputs[0].contains(".o"));
    assert_eq!(casts.count(), 0);
}

#[test]
fn letters_count_on_after_z() {
    let names = [0, 25, 26, 701, 702].map(letters);
    assert_eq!(names, ["a", "z", "aa", "zz", "aaa"]);
    let distinct: std::collections::BTreeSet<_> = (0..2000).map(letters).collect();
    assert_eq!(distinct.len(), 2000);
}

/// The decoder as the graph that a reader makes of it, each tensor read by a
/// convolution.
fn to_graph(decoder: &Decoder, count: usize) -> graph::Graph {
    let constants = decoder.tensors.iter().map(|stored| {
        let data = &stored.data;
        let values = match stored.element_type {
            ElementType::U8 => TensorData::U8(data.clone()),
            ElementType::I8 => TensorData::I8(data.iter().map(|v| v.cast_signed()).collect()),
            ElementType::U16 => TensorData::U16(chunks(data).map(u16::from_le_bytes).collect()),
            ElementType::F16 => TensorData::F16(chunks(data).map(f16::from_le_bytes).collect()),
            ElementType::I32 => TensorData::I32(chunks(data).map(i32::from_le_bytes).collect()),
            ElementType::I64 => TensorData::I64(chunks(data).map(i64::from_le_bytes).collect()),
            ElementType::F32 => TensorData::F32(chunks(data).map(f32::from_le_bytes).collect()),
            // Read as bytes.
            ElementType::U4 => {
                let nibbles = data.iter().flat_map(|byte| [byte & 15, byte >> 4]);
                TensorData::U8(nibbles.take(stored.dims.iter().product()).collect())
            }
            other => panic!("no decoder stores {other}"),
        };
        let tensor = Tensor::new(stored.dims.clone(), values).expect("elements of the shape");
        (stored.name.clone(), tensor)
    });
    let decoding = decoder.operators.iter().map(|operator| graph::Node {
        op_type: operator.op_type.to_owned(),
        inputs: operator.inputs.clone(),
        outputs: operator.outputs.clone(),
        attributes: operator
            .attributes
            .iter()
            .map(|(name, value)| {
                let value = match value {
                    Attribute::Int(value) => graph::Attribute::Int(*value),
                    Attribute::Ints(values) => graph::Attribute::Ints(values.clone()),
                };
                ((*name).to_owned(), value)
            })
            .collect(),
        ..graph::Node::default()
    });
    let readers = (0..count).map(|number| graph::Node {
        op_type: "Conv".to_owned(),
        inputs: vec!["x".to_owned(), format!("w{number}")],
        outputs: vec![format!("y{number}")],
        ..graph::Node::default()
    });
    graph::Graph {
        constants: constants.collect(),
        nodes: decoding.chain(readers).collect(),
        ..graph::Graph::default()
    }
}

fn assert_found(decoder: &Decoder, tensors: &[QuantizedTensor]) {
    let mut graph = to_graph(decoder, tensors.len());
    crate::decoder::take(&mut graph);
    assert_eq!(
        graph.nodes.len(),
        tensors.len(),
        "only the readers are left"
    );
    assert!(graph.constants.is_empty(), "{:?}", graph.constants.keys());
    for (number, tensor) in tensors.iter().enumerate() {
        let found = &graph.quantized[&format!("w{number}")];
        let about = format!("tensor {number}: {:?}", tensor.packing);
        assert_eq!(found.shape, tensor.shape, "{about}");
        assert_eq!(found.codes(), tensor.codes(), "{about}");
        let (found, expected) = (found.dequantize(), tensor.dequantize());
        let mut pairs = found.iter().zip(&expected);
        assert!(pairs.all(|(a, b)| a.to_bits() == b.to_bits()), "{about}");
    }
}

#[test]
fn a_reader_finds_the_tensors_of_every_form() {
    let tensors = samples();
    for (opset, uint4) in [(7, false), (11, false), (13, false), (21, true)] {
        let mut decoder = Decoder::new("q".to_owned(), opset, uint4);
        for (number, tensor) in tensors.iter().enumerate() {
            decoder.add(tensor, &format!("w{number}"), ElementType::F32);
        }
        assert_found(&decoder, &tensors);
    }
    for tensor in tensors {
        let mut decoder = Decoder::new("q".to_owned(), 13, false);
        decoder.add(&tensor, "w0", ElementType::F32);
        assert_found(&decoder, &[tensor]);
    }
}

#[test]
fn lists_of_parameters_come_out_as_they_went_in() {
    let mut wide: Vec<f32> = (0..40).map(|i| i as f32 / 8.0).collect();
    let ones = vec![1.0; 40];
    for opset in [7, 13] {
        let mut decoder = Decoder::new("q".to_owned(), opset, false);
        wide[3] = -0.0;
        let lists: [(&str, &[f32]); 4] = [
            ("a", &wide),
            ("b", &ones),
            ("c", &wide[..9]),
            ("d", &ones[..7]),
        ];
        decoder.add_parameters(&lists);
        let values = interpret(&decoder);
        for (name, expected) in lists {
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(values[name].dims, [expected.len()], "opset {opset}");
            assert_eq!(
                bits(&values[name].data),
                bits(expected),
                "{name}, opset {opset}"
            );
        }
    }
}

/// Tensors of integer levels with a scale for each channel, as targets that
/// round activations have them.
fn integer_samples() -> Vec<QuantizedTensor> {
    let mut tensors = Vec::new();
    for levels in [2, 3, 6, 8, 16, 32] {
        for (tables, shifted) in [(1, false), (2, false), (1, true), (6, true)] {
            let shape = [4, 6, 3, 3];
            let mut tensor = sample(
                &shape,
                Granularity::PerChannel,
                levels,
                tables,
                Storage::I8,
                true,
            );
            let whole = |value: &f32| (value / 4.0).round();
            let values = tensor.tables.values().iter().map(whole).collect();
            tensor.tables = LevelTables::new(values, levels, Storage::I8);
            tensor.scale_unit = None;
            let groups = tensor.partition.group_count();
            let shifts = (0..groups).map(|group| group as f32 - 2.0).collect();
            tensor.shift = shifted.then_some((shifts, Storage::F32));
            tensors.push(tensor);
        }
    }
    tensors
}

fn add_integers(decoder: &mut Decoder, tensors: &[QuantizedTensor]) {
    for (number, tensor) in tensors.iter().enumerate() {
        let (scales, _) = tensor.scale.clone().expect("a scale");
        let scales = decoder.scales(&scales, Some(2));
        decoder.add_integers(tensor, &format!("w{number}"), &scales);
    }
}

#[test]
fn integer_levels_decode_bit_for_bit_and_are_found() {
    let tensors = integer_samples();
    for tensor in &tensors {
        // The middle axis is the one that the samples' channels lie along.
        assert_eq!(tensor.partition.group_count(), tensor.shape[2]);
    }
    let mut decoder = Decoder::new("q".to_owned(), 13, false);
    add_integers(&mut decoder, &tensors);
    assert_decodes(&decoder, &tensors);
    assert_found(&decoder, &tensors);
}

#[test]
fn integer_levels_alone_are_no_weights() {
    let tensors = &integer_samples()[..1];
    let mut decoder = Decoder::new("q".to_owned(), 13, false);
    add_integers(&mut decoder, tensors);
    let mut graph = to_graph(&decoder, 1);
    let integers = graph.nodes[graph.nodes.len() - 2].inputs[0].clone();
    let last = graph.nodes.len() - 1;
    graph.nodes[last].inputs[1] = integers;
    let before = graph.clone();
    crate::decoder::take(&mut graph);
    assert_eq!(graph, before);
}

#[test]
fn shared_operators_stay_when_those_of_one_tensor_are_taken_out() {
    let tensor = sample(&[4, 6], Granularity::PerChannel, 16, 2, Storage::F16, true);
    let mut decoder = Decoder::new("q".to_owned(), 13, false);
    decoder.add(&tensor, "w0", ElementType::F32);
    let own = decoder.take_unshared(0);
    assert!(own.iter().any(|operator| operator.outputs == ["w0"]));
    assert!(!decoder.operators.is_empty());
    decoder.add(&tensor, "w1", ElementType::F32);
    decoder.operators.extend(own);
    // All names differ, and each operator finds its inputs.
    let values = interpret(&decoder);
    assert_eq!(values["w0"].data, values["w1"].data);
}
