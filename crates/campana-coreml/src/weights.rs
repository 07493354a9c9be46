//! Codes and tables as Core ML decodes them.
//!
//! `constexpr_lut_to_dense` has tables of `2^bits` values, one for all weights
//! or one for each block of them, and nothing else: what campana stores beside
//! its tables (scales and shifts of groups) goes one of these ways.
//!
//! - *Folded*: each group has a table of its own, of the values that its
//!   weights decode to. A channel's table of 16 values takes 32 bytes, which in a
//!   layer of 64 weights a channel is as much as the codes.
//! - *Integers*: the tables of the groups are int8, and a
//!   `constexpr_blockwise_shift_scale` multiplies each by its scale before weights
//!   are looked up, the order of both that Apple's converter makes before iOS 26.
//! - *Behind the layer*: the tables are those of the levels, and what the layer
//!   computes is multiplied by the channel's scale. Apple's converter moves scales
//!   of channels there (`reorder_lut_per_channel_scale`): the Neural Engine wants
//!   it so, and packages with a `constexpr_blockwise_shift_scale` behind the lookup
//!   of floats do not load on it (coremltools#2688). Levels are made small by a
//!   power of two, which changes no digit of them, so that sums of 16-bit floats
//!   do not overflow.
//!
//! Vectors of weights are tables of vectors, along the axis that holds whole ones;
//! where none does, as in convolutions over windows, the weights are decoded as a
//! matrix and reshaped.
//!
//! The first two decode to campana's weights, rounded to the program's precision
//! once. In the third, level and scale are rounded each, which is exact in 32-bit
//! floats. The smallest one is taken, or plain floats where these are smaller
//! still.

use campana_codebook::{LevelTables, Packing, QuantizedTensor};
use campana_tensor::Partition;
use half::f16;

use crate::blob::packed;
use crate::error::Converted;
use crate::program::{Given, Precision, Program, Var, int_value};
use crate::proto::DataType;

/// The least exponent of the factor that makes levels small: whole numbers times
/// it are normal 16-bit floats.
const LEAST_EXPONENT: i32 = -12;
const EXPONENT_STEP: i32 = 3;

/// Bytes of an operation with its constants' names and types.
const OPERATION_LEN_BYTES: usize = 250;

/// Weights as a layer reads them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Weights {
    pub(crate) shape: Vec<usize>,
    values: Values,
    /// Rows and columns as which vectors are decoded, where no axis of the weights
    /// holds whole ones.
    matrix: Option<[usize; 2]>,
    /// What the layer's output is multiplied by, for each of its channels.
    pub(crate) factors: Option<Vec<f32>>,
}

#[derive(Clone, Debug, PartialEq)]
enum Values {
    Dense(Vec<f32>),
    Coded(Coded),
}

/// Codes and tables.
#[derive(Clone, Debug, PartialEq)]
struct Coded {
    /// A code for each weight, or the number of a vector for each of `vector`
    /// weights along `axis`.
    codes: Vec<u8>,
    vector: usize,
    axis: usize,
    bits: usize,
    /// Tables along each axis of the weights.
    counts: Vec<usize>,
    tables: Tables,
}

/// Values of tables, shape `[tables, 2^bits, vector]`.
#[derive(Clone, Debug, PartialEq)]
enum Tables {
    Floats(Vec<f32>),
    /// Whole numbers, with a scale for each table or one for all.
    Integers(Vec<i8>, Vec<f32>),
}

impl Tables {
    fn len_bytes(&self, to: Precision) -> usize {
        match self {
            Self::Floats(values) => values.len() * to.len_bytes(),
            Self::Integers(values, scales) => {
                values.len() + scales.len() * to.len_bytes() + OPERATION_LEN_BYTES
            }
        }
    }
}

impl Weights {
    /// Plain floats.
    pub(crate) fn dense(shape: Vec<usize>, values: Vec<f32>) -> Self {
        let values = Values::Dense(values);
        Self {
            shape,
            values,
            matrix: None,
            factors: None,
        }
    }

    /// The smallest form of weights whose output channels lie along an axis, if
    /// they do.
    pub(crate) fn coded(
        tensor: &QuantizedTensor,
        channel_axis: Option<usize>,
        to: Precision,
    ) -> Self {
        let forms = [
            folded(tensor),
            integers(tensor, to),
            channel_axis.and_then(|axis| scaled(tensor, axis, to)),
            Some(Self::dense(tensor.shape.clone(), tensor.dequantize())),
        ];
        let smallest = forms
            .into_iter()
            .flatten()
            .min_by_key(|form| form.len_bytes(to));
        smallest.expect("floats are always a form")
    }

    /// The same as one constant: what is reshaped is none.
    pub(crate) fn into_constant(self, tensor: Option<&QuantizedTensor>) -> Self {
        match (tensor, self.matrix) {
            (Some(tensor), Some(_)) => Self::dense(tensor.shape.clone(), tensor.dequantize()),
            _ => self,
        }
    }

    /// Bytes that the form takes in a package, about.
    fn len_bytes(&self, to: Precision) -> usize {
        let values = match &self.values {
            Values::Dense(values) => values.len() * to.len_bytes(),
            Values::Coded(coded) => {
                let codes = (coded.codes.len() * coded.bits).div_ceil(8);
                codes + coded.tables.len_bytes(to) + OPERATION_LEN_BYTES
            }
        };
        let factors = self.factors.as_ref();
        values + factors.map_or(0, |all| all.len() * to.len_bytes() + OPERATION_LEN_BYTES)
    }

    /// The same weights with the two axes of a matrix exchanged.
    pub(crate) fn transposed(mut self) -> Self {
        let &[rows, columns] = self.shape.as_slice() else {
            unreachable!("only matrices are transposed");
        };
        self.shape = vec![columns, rows];
        match &mut self.values {
            Values::Dense(values) => *values = transposed(values, [rows, columns]),
            Values::Coded(coded) => {
                let mut indices = [rows, columns];
                indices[coded.axis] /= coded.vector;
                coded.codes = transposed(&coded.codes, indices);
                coded.axis = 1 - coded.axis;
                let groups = [coded.counts[0], coded.counts[1]];
                coded.tables =
                    match std::mem::replace(&mut coded.tables, Tables::Floats(Vec::new())) {
                        Tables::Floats(values) => {
                            Tables::Floats(blocks_transposed(&values, groups))
                        }
                        Tables::Integers(values, scales) => {
                            let is_one = scales.len() == 1;
                            let scales = match is_one {
                                true => scales,
                                false => blocks_transposed(&scales, groups),
                            };
                            Tables::Integers(blocks_transposed(&values, groups), scales)
                        }
                    };
                coded.counts = vec![groups[1], groups[0]];
            }
        }
        self
    }

    /// The weights in a program.
    pub(crate) fn add_to(&self, program: &mut Program, like: &str) -> Converted<Var> {
        let coded = match &self.values {
            Values::Dense(values) => return program.floats(&self.shape, values),
            Values::Coded(coded) => coded,
        };
        let decoded = self.matrix.map_or_else(|| self.shape.clone(), Vec::from);
        let mut indices = decoded.clone();
        indices[coded.axis] /= coded.vector;
        let bytes = packed(&coded.codes, coded.bits);
        let codes = program.tensor_value(&indices, index_type(coded.bits), bytes);
        let shape = [&coded.counts[..], &[1 << coded.bits, coded.vector]].concat();
        let precision = program.precision;
        let float = precision.data_type();
        let lut: Given = match &coded.tables {
            Tables::Floats(values) => program
                .tensor_value(&shape, float, precision.encode(values))
                .into(),
            Tables::Integers(values, scales) => {
                let bytes = values.iter().map(|&value| value.cast_unsigned()).collect();
                // Tensors may share a table of vectors.
                let data = match coded.vector {
                    1 => program.tensor_value(&shape, DataType::Int8, bytes),
                    _ => program.stored_value(&shape, DataType::Int8, bytes),
                };
                let mut of_scales = vec![1; shape.len()];
                if scales.len() > 1 {
                    of_scales[..coded.counts.len()].copy_from_slice(&coded.counts);
                }
                let scale = program.tensor_value(&of_scales, float, precision.encode(scales));
                let inputs = vec![("data", data.into()), ("scale", scale.into())];
                let name = "constexpr_blockwise_shift_scale";
                program
                    .decoding(name, inputs, &format!("{like}_lut"), &shape)
                    .into()
            }
        };
        let mut inputs = vec![("indices", codes.into()), ("lut", lut)];
        if coded.vector > 1 {
            inputs.push(("vector_axis", int_value(coded.axis as i32).into()));
        }
        let var = program.decoding("constexpr_lut_to_dense", inputs, like, &decoded);
        if decoded == self.shape {
            return Ok(var);
        }
        let extents = program.ints(&self.shape);
        let inputs = vec![("x", var.into()), ("shape", extents.into())];
        program.operation("reshape", inputs, &self.shape)
    }
}

/// Elements of a matrix with its axes exchanged.
fn transposed<T: Clone>(values: &[T], [rows, columns]: [usize; 2]) -> Vec<T> {
    let places = (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column));
    places.map(|place| values[place].clone()).collect()
}

/// Equally long parts of values, one for each place of a matrix, with its axes
/// exchanged.
fn blocks_transposed<T: Clone>(values: &[T], extents: [usize; 2]) -> Vec<T> {
    let len = values.len() / (extents[0] * extents[1]);
    let blocks: Vec<&[T]> = values.chunks(len).collect();
    transposed(&blocks, extents).concat()
}

/// A table for each group, of what the group's weights decode to.
fn folded(tensor: &QuantizedTensor) -> Option<Weights> {
    let counts = tables_along(&tensor.partition, &tensor.shape)?;
    let groups = tensor.partition.group_count();
    let levels = (0..groups).map(|group| tensor.group_levels(group));
    let levels: Vec<Vec<f32>> = levels.collect();
    Some(Weights {
        shape: tensor.shape.clone(),
        values: Values::Coded(coded(tensor, counts, &levels)?),
        matrix: matrix_of(tensor),
        factors: None,
    })
}

/// A table of whole numbers and a scale for each group, where both are exact.
fn integers(tensor: &QuantizedTensor, to: Precision) -> Option<Weights> {
    let counts = tables_along(&tensor.partition, &tensor.shape)?;
    let groups = 0..tensor.partition.group_count();
    let levels: Vec<Vec<f32>> = groups
        .clone()
        .map(|group| own_levels(tensor, group))
        .collect();
    let scales = groups.map(|group| tensor.group_scale(group).unwrap_or(1.0));
    let scales: Vec<f32> = scales.collect();
    let is_exact = scales.iter().all(|&scale| to.round(scale) == scale);
    let coded = coded(tensor, counts, &levels)?.with_integers(scales)?;
    is_exact.then(|| Weights {
        shape: tensor.shape.clone(),
        values: Values::Coded(coded),
        matrix: matrix_of(tensor),
        factors: None,
    })
}

/// The levels of a group before they are scaled.
fn own_levels(tensor: &QuantizedTensor, group: usize) -> Vec<f32> {
    let table = tensor.tables.table(tensor.group_table(group));
    let shift = tensor.group_shift(group);
    table.iter().map(|level| level + shift).collect()
}

/// Tables of levels, with the scales of channels left to be applied behind the
/// layer.
fn scaled(tensor: &QuantizedTensor, channel_axis: usize, to: Precision) -> Option<Weights> {
    let groups = tensor.partition.group_count();
    let of_channels = tables_along(&tensor.partition, &tensor.shape)?;
    let is_by_channel = |(axis, &count): (usize, &usize)| count == 1 || axis == channel_axis;
    let channels = tensor.shape[channel_axis];
    // A shift of each group needs a table of each.
    let has_own_tables = tensor.table_of_group.is_some();
    let fits = tensor.scale.is_some()
        && (tensor.shift.is_none() || has_own_tables)
        && of_channels.iter().enumerate().all(is_by_channel)
        && (groups == 1 || groups == channels);
    if !fits {
        return None;
    }
    let scale = |group| tensor.group_scale(group).unwrap_or(1.0);
    let scales: Vec<f32> = (0..groups).map(scale).collect();
    let largest = scales.iter().copied().fold(0.0, f32::max);
    let factor = small_factor(largest);
    let (counts, levels) = match &tensor.table_of_group {
        None => (vec![1; tensor.shape.len()], vec![own_levels(tensor, 0)]),
        Some(_) => {
            let levels = (0..groups).map(|group| own_levels(tensor, group));
            (of_channels, levels.collect::<Vec<_>>())
        }
    };
    let coded = coded(tensor, counts, &levels)?;
    let coded = match coded.clone().with_integers(vec![factor]) {
        Some(integers) if levels.len() > 1 || coded.vector > 1 => integers,
        _ => coded.times(factor),
    };
    let factors = (0..channels).map(|channel| scales[channel.min(groups - 1)] / factor);
    let factors: Vec<f32> = factors.collect();
    let is_held = coded.is_held(to) && factors.iter().all(|&factor| is_held(factor, to));
    is_held.then(|| Weights {
        shape: tensor.shape.clone(),
        values: Values::Coded(coded),
        matrix: matrix_of(tensor),
        factors: Some(factors),
    })
}

/// Whether a float of a precision is as near to a value as its digits allow.
pub(crate) fn is_held(value: f32, to: Precision) -> bool {
    let largest = match to {
        Precision::Float16 => f16::MAX.to_f32(),
        Precision::Float32 => f32::MAX,
    };
    value.abs() <= largest
}

impl Coded {
    /// The same with tables of whole numbers and scales, where they are such.
    fn with_integers(mut self, scales: Vec<f32>) -> Option<Self> {
        let Tables::Floats(values) = self.tables else {
            return Some(self);
        };
        let integer = |&value: &f32| {
            let integer = value as i8;
            (f32::from(integer) == value).then_some(integer)
        };
        let integers: Option<Vec<i8>> = values.iter().map(integer).collect();
        self.tables = Tables::Integers(integers?, scales);
        Some(self)
    }

    /// The same with values of tables multiplied.
    fn times(mut self, factor: f32) -> Self {
        if let Tables::Floats(values) = &mut self.tables {
            values.iter_mut().for_each(|value| *value *= factor);
        }
        self
    }

    fn is_held(&self, to: Precision) -> bool {
        match &self.tables {
            Tables::Floats(values) => values.iter().all(|&value| is_held(value, to)),
            Tables::Integers(..) => true,
        }
    }
}

/// A power of two not far above the largest scale, at most 1: what levels are
/// multiplied by before the scales are. Tensors that share a table mostly share
/// it too, as there are few.
fn small_factor(largest: f32) -> f32 {
    let mut exponent = 0;
    while exponent > LEAST_EXPONENT && 2f32.powi(exponent - EXPONENT_STEP) >= largest {
        exponent -= EXPONENT_STEP;
    }
    2f32.powi(exponent)
}

/// The codes of a tensor under tables of levels, one a group.
fn coded(tensor: &QuantizedTensor, counts: Vec<usize>, levels: &[Vec<f32>]) -> Option<Coded> {
    if let Packing::Vectors(vectors) = &tensor.packing {
        let (axis, counts) = match matrix_of(tensor) {
            None => (axis_of_vectors(&tensor.shape, vectors.dimension())?, counts),
            // One table has no axes.
            Some(_) if levels.len() == 1 => (1, vec![1; 2]),
            Some(_) => return None,
        };
        let components = |levels: &Vec<f32>| -> Vec<f32> {
            vectors
                .table()
                .iter()
                .map(|&code| levels[usize::from(code)])
                .collect()
        };
        return Some(Coded {
            codes: tensor.packed.clone(),
            vector: vectors.dimension(),
            axis,
            bits: 8,
            counts,
            tables: Tables::Floats(levels.iter().flat_map(components).collect()),
        });
    }
    let bits = bits_of(&tensor.tables)?;
    let filled = |levels: &Vec<f32>| {
        let mut table = levels.clone();
        table.resize(1 << bits, 0.0);
        table
    };
    Some(Coded {
        codes: tensor.codes(),
        vector: 1,
        axis: 0,
        bits,
        counts,
        tables: Tables::Floats(levels.iter().flat_map(filled).collect()),
    })
}

/// Rows and columns as which a tensor of vectors is decoded, where these lie along
/// no axis of its own: vectors are parts of channels, and so of all behind the
/// first axis.
fn matrix_of(tensor: &QuantizedTensor) -> Option<[usize; 2]> {
    let Packing::Vectors(vectors) = &tensor.packing else {
        return None;
    };
    let rows = tensor.shape.first().copied().filter(|&rows| rows > 0)?;
    let is_aligned = axis_of_vectors(&tensor.shape, vectors.dimension()).is_some();
    (!is_aligned).then(|| [rows, tensor.partition.len() / rows])
}

/// The axis along which vectors of neighbouring weights lie: the last one that
/// has more than one index, where it holds whole vectors.
fn axis_of_vectors(shape: &[usize], dimension: usize) -> Option<usize> {
    let axis = shape.iter().rposition(|&extent| extent > 1)?;
    shape[axis].is_multiple_of(dimension).then_some(axis)
}

/// Bits of a code, of which Core ML has 1, 2, 3, 4, 6 and 8.
fn bits_of(tables: &LevelTables) -> Option<usize> {
    let widths = [1, 2, 3, 4, 6, 8];
    widths
        .into_iter()
        .find(|&bits| tables.levels() <= 1 << bits)
}

fn index_type(bits: usize) -> DataType {
    match bits {
        1 => DataType::Uint1,
        2 => DataType::Uint2,
        3 => DataType::Uint3,
        4 => DataType::Uint4,
        6 => DataType::Uint6,
        _ => DataType::Uint8,
    }
}

/// The number of tables along each axis with which each group has its own;
/// `None` where groups are no blocks of the tensor.
fn tables_along(partition: &Partition, shape: &[usize]) -> Option<Vec<usize>> {
    if partition.group_count() == 1 {
        return Some(vec![1; shape.len()]);
    }
    let [
        outer_blocks,
        outer_block,
        channels,
        inner_blocks,
        inner_block,
    ] = partition.extents();
    (0..shape.len()).find_map(|axis| {
        let (outer, inner) = (&shape[..axis], &shape[axis + 1..]);
        let fits = shape[axis] == channels
            && outer.iter().product::<usize>() == outer_blocks * outer_block
            && inner.iter().product::<usize>() == inner_blocks * inner_block;
        if !fits {
            return None;
        }
        let (outer, inner) = (
            blocks_along(outer, outer_block)?,
            blocks_along(inner, inner_block)?,
        );
        Some([&outer[..], &[channels], &inner].concat())
    })
}

/// The number of blocks along each axis, of so many neighbouring elements each.
fn blocks_along(extents: &[usize], block: usize) -> Option<Vec<usize>> {
    let mut left = block;
    let mut counts = vec![1; extents.len()];
    for (count, &extent) in counts.iter_mut().zip(extents).rev() {
        if left.is_multiple_of(extent) {
            left /= extent;
        } else if extent.is_multiple_of(left) {
            *count = extent / left;
            left = 1;
        } else {
            return None;
        }
    }
    (left == 1).then_some(counts)
}

#[cfg(test)]
mod tests;
