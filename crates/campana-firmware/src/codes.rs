//! Weights as codes of as few bits as their levels need.

/// Rows of weights, one an output channel, as codes that are packed from the low
/// bits of bytes on; each row begins a byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackedRows {
    /// Bits of a code; 8 where the codes are the weights themselves.
    pub(crate) bits: u8,
    pub(crate) codes: Vec<u8>,
    pub(crate) row_bytes: usize,
    /// Levels of all rows, or of each row after those of the one before.
    pub(crate) levels: Vec<i8>,
    /// Levels of a row; 0 where all rows share them.
    pub(crate) level_stride: usize,
}

/// What rows can be stored as.
struct Candidate {
    bits: u8,
    level_stride: usize,
    /// The levels of each table.
    tables: Vec<Vec<i8>>,
}

impl Candidate {
    fn len_bytes(&self, rows: usize, len: usize) -> usize {
        let levels = match self.level_stride {
            0 => self.tables.iter().map(Vec::len).sum(),
            stride => stride * rows,
        };
        rows * (len * usize::from(self.bits)).div_ceil(8) + levels
    }
}

impl PackedRows {
    /// The form of fewest bytes of rows of `len` weights.
    pub(crate) fn pack(weights: &[i8], len: usize) -> Self {
        let rows: Vec<&[i8]> = weights.chunks_exact(len.max(1)).collect();
        let shared = levels_of(weights);
        let own: Vec<Vec<i8>> = rows.iter().map(|row| levels_of(row)).collect();
        let most = own.iter().map(Vec::len).max().unwrap_or(0);
        let mut candidates = vec![Candidate {
            bits: 8,
            level_stride: 0,
            tables: Vec::new(),
        }];
        if let Some(bits) = bits_for(shared.len()) {
            candidates.push(Candidate {
                bits,
                level_stride: 0,
                tables: vec![shared],
            });
        }
        if let Some(bits) = bits_for(most) {
            candidates.push(Candidate {
                bits,
                level_stride: most,
                tables: own,
            });
        }
        let best = candidates
            .into_iter()
            .min_by_key(|candidate| candidate.len_bytes(rows.len(), len));
        match best {
            Some(best) => Self::with(&best, &rows, len),
            None => Self::with(
                &Candidate {
                    bits: 8,
                    level_stride: 0,
                    tables: Vec::new(),
                },
                &rows,
                len,
            ),
        }
    }

    fn with(candidate: &Candidate, rows: &[&[i8]], len: usize) -> Self {
        let bits = usize::from(candidate.bits);
        let row_bytes = (len * bits).div_ceil(8);
        let mut codes = vec![0u8; row_bytes * rows.len()];
        for (r, row) in rows.iter().enumerate() {
            let bytes = &mut codes[r * row_bytes..][..row_bytes];
            let Some(table) = candidate.table(r) else {
                for (byte, weight) in bytes.iter_mut().zip(*row) {
                    *byte = weight.cast_unsigned();
                }
                continue;
            };
            for (i, weight) in row.iter().enumerate() {
                let code = table.binary_search(weight).unwrap_or_default();
                put_bits(bytes, i * bits, bits, code);
            }
        }
        let padded = candidate.tables.iter().flat_map(|table| {
            let len = table.len().max(candidate.level_stride);
            let filled = table.iter().copied();
            filled.chain(std::iter::repeat(0)).take(len)
        });
        Self {
            bits: candidate.bits,
            codes,
            row_bytes,
            levels: padded.collect(),
            level_stride: candidate.level_stride,
        }
    }

    /// Bytes of codes and levels.
    pub(crate) fn len_bytes(&self) -> usize {
        self.codes.len() + self.levels.len()
    }
}

impl Candidate {
    fn table(&self, row: usize) -> Option<&[i8]> {
        let table = match self.level_stride {
            0 => self.tables.first(),
            _ => self.tables.get(row),
        };
        table.map(Vec::as_slice)
    }
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

    fn decoded(packed: &PackedRows, rows: usize, len: usize) -> Vec<i8> {
        let bits = usize::from(packed.bits);
        let code = |row: usize, i: usize| {
            let bit = |b: usize| {
                let at = i * bits + b;
                let byte = packed.codes[row * packed.row_bytes + at / 8];
                usize::from(byte >> (at % 8) & 1) << b
            };
            (0..bits).map(bit).sum::<usize>()
        };
        let weight = |row: usize, i: usize| match packed.levels.is_empty() {
            true => (code(row, i) as u8).cast_signed(),
            false => packed.levels[row * packed.level_stride + code(row, i)],
        };
        (0..rows)
            .flat_map(|row| (0..len).map(move |i| (row, i)))
            .map(|(row, i)| weight(row, i))
            .collect()
    }

    #[test]
    fn rows_are_stored_in_as_few_bits_as_their_levels_need() {
        for bits in 1..8u32 {
            let (rows, len) = (5, 333);
            let level = |i: usize| ((i * 7919 % (1 << bits)) as i16 - 64) as i8;
            let weights: Vec<i8> = (0..rows * len).map(level).collect();
            let packed = PackedRows::pack(&weights, len);
            assert_eq!(u32::from(packed.bits), bits);
            assert_eq!(packed.level_stride, 0);
            assert_eq!(decoded(&packed, rows, len), weights);
        }
    }

    #[test]
    fn rows_have_levels_of_their_own_where_that_is_smaller() {
        let (rows, len) = (12, 200);
        let level = |i: usize| ((i * 31 % 4) * 3 + 10 * (i / len)) as i8 - 60;
        let weights: Vec<i8> = (0..rows * len).map(level).collect();
        let packed = PackedRows::pack(&weights, len);
        assert_eq!((packed.bits, packed.level_stride), (2, 4));
        assert_eq!(decoded(&packed, rows, len), weights);
    }

    #[test]
    fn many_levels_stay_weights() {
        let weights: Vec<i8> = (0..600).map(|i| (i * 37 % 255 - 127) as i8).collect();
        let packed = PackedRows::pack(&weights, 300);
        assert_eq!((packed.bits, packed.levels.len()), (8, 0));
        assert_eq!(decoded(&packed, 2, 300), weights);
    }
}
