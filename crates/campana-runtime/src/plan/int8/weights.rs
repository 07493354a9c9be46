//! Weights of layers whose inputs are codes, as whole numbers with a scale for
//! each output channel.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use campana_codebook::{QuantizedTensor, Unpacker};
use campana_kernels::Isa;
use campana_kernels::int8::{Encoding, PackedWeights, QuantParams};
use campana_kernels::layout::transpose;
use campana_tensor::{Tensor, TensorData};

use super::{Int8Layer, Int8Weights};
use crate::ops::Call;
use crate::plan::pack::Packed;
use crate::plan::{Constants, PlanOptions, PlannedNode, constant_call};

/// Whole numbers that weights become, on either side of zero.
const LARGEST: i32 = 127;

/// How far from a whole number a weight may be, in units of its scale, to be one.
const WHOLE: f32 = 2e-3;

/// The weights of a Conv, Gemm or MatMul over codes, and which inputs they replace.
pub(in crate::plan) fn pack(
    planned: &PlannedNode,
    constants: &Constants<'_>,
    coded: Option<&QuantizedTensor>,
    codes: &std::collections::HashMap<String, QuantParams>,
    options: &PlanOptions,
    opset: i64,
) -> Option<(Packed, Vec<usize>)> {
    let node = &planned.node;
    let input = *codes.get(node.inputs.first()?)?;
    let constant = |index: usize| -> Option<&Tensor> {
        constants.get(node.inputs.get(index)?).map(Cow::as_ref)
    };
    let (stored, shape) = match coded {
        Some(tensor) => (Stored::Codes(tensor), tensor.shape.clone()),
        None => {
            let tensor = constant(1)?;
            (Stored::Floats(floats(tensor)?), tensor.shape().to_vec())
        }
    };
    let bias = match node.inputs.get(2).filter(|name| !name.is_empty()) {
        Some(_) => Some(floats(constant(2)?)?),
        None => None,
    };
    let call = constant_call(node, opset, |name| constants.get(name).map(Cow::as_ref));
    let (rows, bias) = match node.op_type.as_str() {
        "Conv" => {
            let rows = conv_rows(&call, stored, &shape)?;
            let bias = bias_of(bias, rows.scales.len(), 1.0)?;
            (rows, bias)
        }
        "Gemm" | "MatMul" => dense_rows(&call, stored, &shape, bias)?,
        _ => return None,
    };
    let numbers = match options.keep_numbers {
        true => rows.numbers.to_numbers(),
        false => Vec::new(),
    };
    let weights = rows.packed();
    let mut scales = rows.scales;
    for (scale, factor) in scales.iter_mut().zip(&planned.factors) {
        *scale *= factor;
    }
    let layer = Int8Layer {
        input,
        weights,
        shape,
        scales,
        bias,
        numbers,
    };
    let replaced = match node.op_type.as_str() {
        "MatMul" => vec![1],
        _ => vec![1, 2],
    };
    Some((Packed::Int8(Arc::new(layer)), replaced))
}

/// Weights as the graph has them.
#[derive(Clone, Copy)]
enum Stored<'a> {
    Codes(&'a QuantizedTensor),
    Floats(&'a [f32]),
}

impl<'a> Stored<'a> {
    fn to_floats(self) -> Vec<f32> {
        match self {
            Self::Codes(tensor) => tensor.dequantize(),
            Self::Floats(values) => values.to_vec(),
        }
    }

    /// Rows of this length as whole numbers times a scale each; `None` where they are none.
    fn whole_rows(self, len: usize) -> Option<(WholeRows<'a>, Vec<f32>)> {
        match self {
            Self::Codes(tensor) => {
                whole_levels(tensor, len).or_else(|| whole_rows(&tensor.dequantize(), len))
            }
            Self::Floats(values) => whole_rows(values, len),
        }
    }
}

fn floats(tensor: &Tensor) -> Option<&[f32]> {
    match tensor.data() {
        TensorData::F32(values) => Some(values),
        _ => None,
    }
}

/// The bias of each channel times a factor; `None` where there are not as many.
fn bias_of(bias: Option<&[f32]>, channels: usize, factor: f32) -> Option<Vec<f32>> {
    let Some(bias) = bias else {
        return Some(vec![0.0; channels]);
    };
    (bias.len() == channels).then(|| bias.iter().map(|value| value * factor).collect())
}

/// The weights of a layer: rows of numbers, one an output channel, of as many
/// channels for each of `taps`.
struct LayerRows<'a> {
    numbers: WholeRows<'a>,
    scales: Vec<f32>,
    taps: usize,
    /// Groups of output channels; 0 where each has one input channel of its own.
    groups: usize,
    /// Numbers of a row that meet inputs that follow each other.
    run_len: usize,
    joined: bool,
}

impl LayerRows<'_> {
    /// As the kernels read them.
    fn packed(&self) -> Int8Weights {
        if self.groups == 0 {
            return Int8Weights::Depthwise(self.numbers.to_numbers());
        }
        let per_group = self.scales.len() / self.groups;
        let runs = self.numbers.len / self.run_len;
        let groups = (0..self.groups).map(|group| {
            let filters = group * per_group..(group + 1) * per_group;
            pack_matrix(runs, self.run_len, &self.numbers, filters, self.taps)
        });
        Int8Weights::Groups {
            groups: groups.collect(),
            joined: self.joined,
        }
    }
}

/// Weights and scales of a convolution.
fn conv_rows<'a>(call: &Call<'_>, stored: Stored<'a>, shape: &[usize]) -> Option<LayerRows<'a>> {
    let &[filters, channels, kh, kw] = shape else {
        return None;
    };
    let groups = usize::try_from(call.int("group", 1).ok()?).ok()?;
    let taps = kh * kw;
    if groups == 0 || filters == 0 || !filters.is_multiple_of(groups) || channels * taps == 0 {
        return None;
    }
    let (numbers, scales) = stored.whole_rows(channels * taps)?;
    let is_depthwise = groups > 1 && channels == 1 && filters == groups;
    let dilations = call.ints("dilations").ok()?;
    let joined = groups == 1 && dilations.is_none_or(|dilations| dilations.last() == Some(&1));
    Some(LayerRows {
        numbers,
        scales,
        taps,
        groups: if is_depthwise { 0 } else { groups },
        run_len: if joined { kw * channels } else { channels },
        joined,
    })
}

/// Weights, scales and bias of a dense layer.
fn dense_rows<'a>(
    call: &Call<'_>,
    stored: Stored<'a>,
    shape: &[usize],
    bias: Option<&[f32]>,
) -> Option<(LayerRows<'a>, Vec<f32>)> {
    let &[rows, columns] = shape else {
        return None;
    };
    let is_gemm = call.node.op_type == "Gemm";
    let flag = |name: &str| Some(is_gemm && call.int(name, 0).ok()? != 0);
    if flag("transA")? || rows * columns == 0 {
        return None;
    }
    let (alpha, beta) = match is_gemm {
        true => (
            call.float("alpha", 1.0).ok()?,
            call.float("beta", 1.0).ok()?,
        ),
        false => (1.0, 1.0),
    };
    let (depth, columns, found) = if flag("transB")? {
        (columns, rows, stored.whole_rows(columns)?)
    } else {
        let values = stored.to_floats();
        let mut columns_first = vec![0.0; values.len()];
        transpose(&values, rows, columns, &mut columns_first);
        (rows, columns, whole_rows(&columns_first, rows)?)
    };
    let (numbers, mut scales) = found;
    scales.iter_mut().for_each(|scale| *scale *= alpha);
    let bias = bias_of(bias.filter(|_| is_gemm), columns, beta)?;
    let rows = LayerRows {
        numbers,
        scales,
        taps: 1,
        groups: 1,
        run_len: depth,
        joined: true,
    };
    Some((rows, bias))
}

/// These rows, of as many channels for each of `taps`, as the columns
/// `[taps, channels]` of a matrix, in as few bits as their numbers need.
fn pack_matrix(
    runs: usize,
    run_len: usize,
    numbers: &WholeRows<'_>,
    rows: Range<usize>,
    taps: usize,
) -> PackedWeights {
    let occurs = numbers.occurring(rows.clone());
    let levels = occurs.iter().filter(|&&occurs| occurs).count();
    let mut table = [0i8; 16];
    let mut byte_of = PLAIN;
    let mut encoding = Encoding::Int8;
    if levels <= table.len() {
        let found = PLAIN.into_iter().filter(|&byte| occurs[usize::from(byte)]);
        for (code, byte) in found.enumerate() {
            table[code] = byte.cast_signed();
            byte_of[usize::from(byte)] = code as u8;
        }
        let bits = if levels <= 4 { 2 } else { 4 };
        encoding = Encoding::Codes { bits, table };
    }
    let (first, columns) = (rows.start, rows.len());
    let isa = Isa::detect();
    let mut stored = vec![0; runs * run_len];
    PackedWeights::pack(isa, runs, run_len, columns, encoding, |column, to| {
        let byte_of = numbers.read(first + column, &byte_of, &mut stored);
        // Channels last, as the inputs lie.
        match taps {
            1 => translate_taps::<1>(&stored, &byte_of, to),
            9 => translate_taps::<9>(&stored, &byte_of, to),
            _ => {
                let turned = to.chunks_exact_mut(stored.len() / taps).enumerate();
                for (to, from) in
                    turned.flat_map(|(tap, to)| to.iter_mut().zip((tap..).step_by(taps)))
                {
                    *to = byte_of[usize::from(stored[from])];
                }
            }
        }
    })
}

/// What becomes of bytes `[channels, TAPS]`, as `[TAPS, channels]`.
fn translate_taps<const TAPS: usize>(bytes: &[u8], byte_of: &ByteOf, to: &mut [u8]) {
    let (channels, _) = bytes.as_chunks::<TAPS>();
    for (tap, to) in to.chunks_exact_mut(channels.len()).enumerate().take(TAPS) {
        for (to, bytes) in to.iter_mut().zip(channels) {
            *to = byte_of[usize::from(bytes[tap])];
        }
    }
}

/// What becomes of bytes.
type ByteOf = [u8; 256];

/// Each byte stays as it is.
const PLAIN: ByteOf = {
    let mut bytes = [0; 256];
    let mut i = 0;
    while i < 256 {
        bytes[i] = i as u8;
        i += 1;
    }
    bytes
};

/// Rows of whole numbers, each in a byte that stands for it.
#[derive(Debug)]
struct WholeRows<'a> {
    len: usize,
    bytes: Bytes<'a>,
}

#[derive(Debug)]
enum Bytes<'a> {
    /// The numbers themselves.
    Numbers(Vec<i8>),
    Codes {
        tensor: &'a QuantizedTensor,
        unpacker: Unpacker,
        /// The numbers of codes, `levels` in each table.
        tables: Vec<i8>,
        levels: usize,
        table_of_row: Vec<usize>,
    },
}

impl Bytes<'_> {
    /// What the bytes of a row stand for; `None` for themselves.
    fn table(&self, row: usize) -> Option<&[i8]> {
        let Self::Codes {
            tables,
            levels,
            table_of_row,
            ..
        } = self
        else {
            return None;
        };
        Some(&tables[table_of_row[row] * levels..][..*levels])
    }
}

impl WholeRows<'_> {
    /// Which numbers, as bytes, these rows may hold.
    fn occurring(&self, rows: Range<usize>) -> [bool; 256] {
        let mut occurs = [false; 256];
        let mut see = |numbers: &[i8]| {
            for number in numbers {
                occurs[usize::from(number.cast_unsigned())] = true;
            }
        };
        match &self.bytes {
            Bytes::Numbers(numbers) => see(&numbers[rows.start * self.len..rows.end * self.len]),
            codes => rows.filter_map(|row| codes.table(row)).for_each(see),
        }
        occurs
    }

    /// Reads a row's bytes; what becomes of them if this becomes of their numbers.
    fn read(&self, row: usize, byte_of: &ByteOf, to: &mut [u8]) -> ByteOf {
        self.read_bytes(row, to);
        let Some(table) = self.bytes.table(row) else {
            return *byte_of;
        };
        let mut byte_of_code = [0; 256];
        for (byte, number) in byte_of_code.iter_mut().zip(table) {
            *byte = byte_of[usize::from(number.cast_unsigned())];
        }
        byte_of_code
    }

    fn read_bytes(&self, row: usize, to: &mut [u8]) {
        match &self.bytes {
            Bytes::Numbers(numbers) => {
                let numbers = &numbers[row * self.len..][..self.len];
                for (to, number) in to.iter_mut().zip(numbers) {
                    *to = number.cast_unsigned();
                }
            }
            Bytes::Codes {
                tensor, unpacker, ..
            } => {
                let count = tensor.partition.len();
                unpacker.unpack(&tensor.packed, count, row * self.len, to);
            }
        }
    }

    /// All numbers, row by row.
    fn to_numbers(&self) -> Vec<i8> {
        let rows = match &self.bytes {
            Bytes::Numbers(numbers) => return numbers.clone(),
            Bytes::Codes { table_of_row, .. } => table_of_row.len(),
        };
        let mut codes = vec![0; self.len];
        let mut numbers = Vec::with_capacity(rows * self.len);
        for row in 0..rows {
            self.read_bytes(row, &mut codes);
            let table = self.bytes.table(row).unwrap_or(&[]);
            let number = |&code: &u8| table.get(usize::from(code)).copied().unwrap_or(0);
            numbers.extend(codes.iter().map(number));
        }
        numbers
    }
}

/// Rows of this length of a tensor whose levels are small whole numbers
/// already; `None` where they are others, or a row is not one group.
fn whole_levels(tensor: &QuantizedTensor, len: usize) -> Option<(WholeRows<'_>, Vec<f32>)> {
    let (groups, rows) = (tensor.partition.group_count(), tensor.partition.len() / len);
    let are_rows = groups == 1 || tensor.partition.extents() == [1, 1, rows, 1, len];
    if !are_rows || tensor.check().is_err() {
        return None;
    }
    let group_of = |row: usize| if groups == 1 { 0 } else { row };
    let scale_of = |row| tensor.group_scale(group_of(row)).unwrap_or(1.0);
    let scales: Vec<f32> = (0..rows).map(scale_of).collect();
    if scales.iter().any(|scale| !scale.is_finite()) {
        return None;
    }
    let mut tables: Vec<i8> = Vec::new();
    let mut are_whole = true;
    let mut add = |levels: &[f32], shift: f32| {
        tables.extend(levels.iter().map(|level| {
            let number = small_whole(level + shift);
            are_whole &= number.is_some();
            number.unwrap_or(0)
        }));
    };
    // Where nothing is added, rows may share tables.
    let table_of_row = if tensor.shift.is_none() {
        add(tensor.tables.values(), 0.0);
        let table_of = |row| tensor.group_table(group_of(row));
        (0..rows).map(table_of).collect()
    } else {
        for group in (0..rows).map(group_of) {
            let table = tensor.tables.table(tensor.group_table(group));
            add(table, tensor.group_shift(group));
        }
        (0..rows).collect()
    };
    if !are_whole {
        return None;
    }
    let bytes = Bytes::Codes {
        tensor,
        unpacker: Unpacker::new(tensor.packing.clone()),
        tables,
        levels: tensor.tables.levels(),
        table_of_row,
    };
    Some((WholeRows { len, bytes }, scales))
}

/// A number as it is, where it is whole and small.
fn small_whole(number: f32) -> Option<i8> {
    let small = number as i32;
    let is_whole = small as f32 == number && small.abs() <= LARGEST;
    is_whole.then_some(small as i8)
}

/// Rows of this length as whole numbers times a scale each, which is sought;
/// `None` where there is none.
fn whole_rows(values: &[f32], len: usize) -> Option<(WholeRows<'static>, Vec<f32>)> {
    let mut numbers = Vec::with_capacity(values.len());
    let mut scales = Vec::with_capacity(values.len() / len);
    for row in values.chunks_exact(len) {
        let scale = scale_of(row)?;
        let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
        let largest = LARGEST as f32;
        numbers.extend(
            row.iter()
                .map(|v| (v * inverse).round_ties_even().clamp(-largest, largest) as i8),
        );
        scales.push(scale);
    }
    let bytes = Bytes::Numbers(numbers);
    Some((WholeRows { len, bytes }, scales))
}

/// The greatest number that all values are multiples of, where the multiples are small.
fn scale_of(row: &[f32]) -> Option<f32> {
    let max = row.iter().fold(0f32, |max, value| max.max(value.abs()));
    if row.iter().any(|value| !value.is_finite()) {
        return None;
    }
    if max < f32::MIN_POSITIVE * LARGEST as f32 {
        return Some(0.0);
    }
    let is_whole = |scale: f32| {
        let inverse = 1.0 / scale;
        row.iter().all(|value| {
            let number = value * inverse;
            (number - number.round_ties_even()).abs() < WHOLE
        })
    };
    (1..=LARGEST)
        .map(|multiple| max / multiple as f32)
        .find(|&scale| is_whole(scale))
}

#[cfg(test)]
mod tests {
    use campana_codebook::{LevelTables, Packing, Storage};
    use campana_tensor::{Granularity, Partition};

    use super::*;

    #[test]
    fn multiples_of_a_scale_are_found_again() {
        let numbers = [-64i8, 3, 17, 0, 63, -1, 40];
        for scale in [1.0, 0.0371, 1e-6, 12.0] {
            let row: Vec<f32> = numbers.iter().map(|&n| f32::from(n) * scale).collect();
            let (found, scales) = whole_rows(&row, row.len()).unwrap();
            assert_eq!(found.to_numbers(), numbers);
            assert!((scales[0] / scale - 1.0).abs() < 1e-5);
        }
    }

    #[test]
    fn other_weights_are_no_whole_numbers() {
        let row: Vec<f32> = (0..300).map(|i| (i as f32 * 0.37).sin()).collect();
        assert!(whole_rows(&row, row.len()).is_none());
    }

    #[test]
    fn whole_levels_are_taken_as_they_are() {
        let packing = Packing::densest(4);
        let mut packed = vec![0; packing.len_bytes(4)];
        packing.pack(&[0, 1, 2, 3], &mut packed);
        let mut tensor = QuantizedTensor {
            shape: vec![2, 2],
            partition: Partition::new(&[2, 2], Some(0), Granularity::PerChannel),
            packing,
            packed,
            tables: LevelTables::new(vec![-60.0, -2.0, 0.0, 64.0], 4, Storage::I8),
            table_of_group: None,
            scale: Some((vec![2.0, 3.0], Storage::F32)),
            scale_unit: Some(0.25),
            shift: Some((vec![0.0, 1.0], Storage::F32)),
        };
        let (rows, scales) = whole_levels(&tensor, 2).unwrap();
        assert_eq!(rows.to_numbers(), [-60, -2, 1, 65]);
        assert_eq!(scales, [0.5, 0.75]);
        assert!(whole_levels(&tensor, 4).is_none(), "a row is two groups");
        tensor.shift = Some((vec![0.0, 64.0], Storage::F32));
        assert!(whole_levels(&tensor, 2).is_none(), "128 is too large");
        tensor.shift = Some((vec![0.5, 0.0], Storage::F32));
        assert!(whole_levels(&tensor, 2).is_none(), "half a number");
    }

    #[test]
    fn zeros_and_non_finite_rows_have_no_scale() {
        let (rows, scales) = whole_rows(&[0.0, -0.0], 2).unwrap();
        assert_eq!((rows.to_numbers(), scales), (vec![0, 0], vec![0.0]));
        assert!(whole_rows(&[0.0, f32::NAN], 2).is_none());
    }
}
