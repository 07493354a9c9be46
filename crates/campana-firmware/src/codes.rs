//! Weights as codes of as few bits as their levels need.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Rows of weights, one an output channel, as codes that are packed from the low
/// bits of bytes on; each row begins a byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackedRows {
    /// Bits of a code; 8 where the codes are the weights themselves, 0 where each
    /// is a byte that stands for several weights.
    pub(crate) bits: u8,
    /// Weights that a code stands for.
    pub(crate) vector: usize,
    /// Taps of a window, which are behind the channels where a code stands for
    /// several weights, as ONNX has them; 1 where channels are behind.
    pub(crate) taps: usize,
    pub(crate) codes: Vec<u8>,
    pub(crate) row_bytes: usize,
    /// Levels of all rows, or of each row after those of the one before.
    pub(crate) levels: Vec<i8>,
    /// Levels of a row; 0 where all rows share them.
    pub(crate) level_stride: usize,
}

/// Weights that one byte may stand for.
const VECTORS: [usize; 3] = [8, 4, 2];

/// Vectors that a byte tells apart.
const MAX_VECTORS: usize = 256;

impl PackedRows {
    /// The form of fewest bytes of rows `[channels, taps]`.
    pub(crate) fn pack(weights: &[i8], channels: usize, taps: usize) -> Self {
        let len = (channels * taps).max(1);
        let turned = channels_behind(weights, channels, taps);
        let rows: Vec<&[i8]> = turned.chunks_exact(len).collect();
        let own: Vec<Vec<i8>> = rows.iter().map(|row| levels_of(row)).collect();
        let most = own.iter().map(Vec::len).max().unwrap_or(0);
        let shared = vec![levels_of(weights)];
        let scalars = [
            bits_for(shared[0].len()).map(|bits| Self::of_codes(&rows, bits, &shared, 0)),
            bits_for(most).map(|bits| Self::of_codes(&rows, bits, &own, most)),
        ];
        let vectors = VECTORS.into_iter();
        let vectors = vectors.map(|vector| Self::of_vectors(weights, len, vector, taps));
        let forms = scalars.into_iter().chain(vectors).flatten();
        // What is decoded at less cost is first.
        let plain = Self::of_weights(&rows);
        forms.fold(plain, |best, form| {
            match form.len_bytes() < best.len_bytes() {
                true => form,
                false => best,
            }
        })
    }

    /// The weights themselves.
    fn of_weights(rows: &[&[i8]]) -> Self {
        let weights = rows.iter().copied().flatten();
        Self {
            bits: 8,
            vector: 1,
            taps: 1,
            codes: weights.map(|weight| weight.cast_unsigned()).collect(),
            row_bytes: rows.first().map_or(0, |row| row.len()),
            levels: Vec::new(),
            level_stride: 0,
        }
    }

    /// A code of each weight into the levels of all rows, or into those of its
    /// row where there is a stride from one row's to the next.
    fn of_codes(rows: &[&[i8]], bits: u8, tables: &[Vec<i8>], level_stride: usize) -> Self {
        let width = usize::from(bits);
        let row_bytes = rows
            .first()
            .map_or(0, |row| (row.len() * width).div_ceil(8));
        let mut codes = vec![0u8; row_bytes * rows.len()];
        for (r, row) in rows.iter().enumerate() {
            let bytes = &mut codes[r * row_bytes..][..row_bytes];
            let table = &tables[if level_stride == 0 { 0 } else { r }];
            for (i, weight) in row.iter().enumerate() {
                let code = table.binary_search(weight).unwrap_or_default();
                put_bits(bytes, i * width, width, code);
            }
        }
        let padded = tables.iter().flat_map(|table| {
            let len = table.len().max(level_stride);
            let filled = table.iter().copied();
            filled.chain(std::iter::repeat(0)).take(len)
        });
        Self {
            bits,
            vector: 1,
            taps: 1,
            codes,
            row_bytes,
            levels: padded.collect(),
            level_stride,
        }
    }

    /// A byte for each so many weights that follow each other as ONNX has them;
    /// `None` where a byte does not tell them apart.
    fn of_vectors(weights: &[i8], len: usize, vector: usize, taps: usize) -> Option<Self> {
        if !len.is_multiple_of(vector) {
            return None;
        }
        let mut known: HashMap<&[i8], u8> = HashMap::new();
        let (mut codes, mut levels) = (Vec::new(), Vec::new());
        for values in weights.chunks_exact(vector) {
            let next = known.len();
            let code = match known.entry(values) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(_) if next == MAX_VECTORS => return None,
                Entry::Vacant(entry) => {
                    levels.extend_from_slice(values);
                    *entry.insert(next as u8)
                }
            };
            codes.push(code);
        }
        Some(Self {
            bits: 0,
            vector,
            taps,
            codes,
            row_bytes: len / vector,
            levels,
            level_stride: 0,
        })
    }

    /// Bits of codes for a weight, rounded up.
    pub(crate) fn weight_bits(&self) -> u8 {
        match self.bits {
            0 => (8 / self.vector) as u8,
            bits => bits,
        }
    }

    /// Bytes of codes and levels.
    pub(crate) fn len_bytes(&self) -> usize {
        self.codes.len() + self.levels.len()
    }
}

/// `[rows, channels, taps]` as `[rows, taps, channels]`.
fn channels_behind(weights: &[i8], channels: usize, taps: usize) -> Vec<i8> {
    let mut turned = Vec::with_capacity(weights.len());
    for row in weights.chunks_exact((channels * taps).max(1)) {
        for tap in 0..taps {
            turned.extend((0..channels).map(|channel| row[channel * taps + tap]));
        }
    }
    turned
}

/// The different weights, in ascending order.
fn levels_of(weights: &[i8]) -> Vec<i8> {
    let mut occurs = [false; 256];
    for &weight in weights {
        occurs[(i16::from(weight) + 128) as usize] = true;
    }
    (i8::MIN..=i8::MAX)
        .filter(|&level| occurs[(i16::from(level) + 128) as usize])
        .collect()
}

/// Bits of codes of so many levels, where they are less than a weight's own.
fn bits_for(levels: usize) -> Option<u8> {
    (1..8u8).find(|&bits| levels <= 1 << bits)
}

/// Writes a code at a position that is counted in bits.
fn put_bits(bytes: &mut [u8], at: usize, bits: usize, code: usize) {
    let word = code << (at % 8);
    bytes[at / 8] |= (word & 0xff) as u8;
    if at % 8 + bits > 8 {
        bytes[at / 8 + 1] |= (word >> 8) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What kernels make of rows, `[taps, channels]` each.
    fn decoded(packed: &PackedRows, rows: usize, channels: usize, taps: usize) -> Vec<i8> {
        let (bits, len) = (usize::from(packed.bits), channels * taps);
        let row = |row: usize| -> Vec<i8> {
            let codes = &packed.codes[row * packed.row_bytes..][..packed.row_bytes];
            if bits == 0 {
                let vectors = codes.iter().flat_map(|&code| {
                    packed.levels[usize::from(code) * packed.vector..][..packed.vector].iter()
                });
                let weights: Vec<i8> = vectors.copied().collect();
                return channels_behind(&weights, channels, packed.taps);
            }
            let code = |i: usize| {
                let bit = |b: usize| {
                    usize::from(codes[(i * bits + b) / 8] >> ((i * bits + b) % 8) & 1) << b
                };
                (0..bits).map(bit).sum::<usize>()
            };
            let weight = |i: usize| match packed.levels.is_empty() {
                true => (code(i) as u8).cast_signed(),
                false => packed.levels[row * packed.level_stride + code(i)],
            };
            (0..len).map(weight).collect()
        };
        (0..rows).flat_map(row).collect()
    }

    #[track_caller]
    fn check(weights: &[i8], [rows, channels, taps]: [usize; 3]) -> PackedRows {
        let packed = PackedRows::pack(weights, channels, taps);
        let expected = channels_behind(weights, channels, taps);
        assert_eq!(decoded(&packed, rows, channels, taps), expected);
        packed
    }

    #[test]
    fn weights_lie_with_their_channels_behind() {
        assert_eq!(
            channels_behind(&[1, 2, 3, 4, 5, 6], 2, 3),
            [1, 4, 2, 5, 3, 6]
        );
    }

    #[test]
    fn rows_are_stored_in_as_few_bits_as_their_levels_need() {
        for bits in 1..8u32 {
            let extents = [5, 37, 9];
            let len: usize = extents.iter().product();
            let noise = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
            let level = |i: usize| ((noise(i) % (1 << bits)) as i16 - 64) as i8;
            let packed = check(&(0..len).map(level).collect::<Vec<i8>>(), extents);
            assert_eq!(u32::from(packed.bits), bits);
            assert_eq!(packed.level_stride, 0);
        }
    }

    #[test]
    fn rows_have_levels_of_their_own_where_that_is_smaller() {
        let extents = [12, 67, 3];
        let noise = |i: usize| (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        let level = |i: usize| (noise(i) % 4 * 3) as i8 + 10 * (i / 201) as i8 - 60;
        let weights: Vec<i8> = (0..12 * 201).map(level).collect();
        let packed = check(&weights, extents);
        assert_eq!((packed.bits, packed.level_stride), (2, 4));
    }

    #[test]
    fn a_byte_stands_for_several_weights_where_few_vectors_occur() {
        let (rows, channels, taps) = (64, 32, 9);
        let noise = |i: usize| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40;
        for vector in [2, 4, 8] {
            let weight = |i: usize| {
                let code = noise(i / vector) % 256;
                (noise(((code as usize) << 8) + i % vector) % 250) as i16 - 125
            };
            let weights: Vec<i8> = (0..rows * channels * taps)
                .map(|i| weight(i) as i8)
                .collect();
            let packed = check(&weights, [rows, channels, taps]);
            assert_eq!((packed.bits, packed.vector), (0, vector));
        }
    }

    #[test]
    fn many_levels_stay_weights() {
        let weights: Vec<i8> = (0..600).map(|i| (i * 37 % 255 - 127) as i8).collect();
        let packed = check(&weights, [2, 300, 1]);
        assert_eq!((packed.bits, packed.levels.len()), (8, 0));
    }
}
