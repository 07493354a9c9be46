//! From codes to bytes and back.

use alloc::vec;
use alloc::vec::Vec;

use crate::vector_codes::VectorCodes;
use crate::vectorize::vectorized;

/// How codes lie in bytes.
///
/// `Digits`: each byte holds `per_byte` codes as digits of a number, the first
/// code the least significant: `byte = c0 + c1 * base + c2 * base^2 ...`. With
/// base 2, 4 and 16 these are the usual 1-, 2- and 4-bit fields, low bits
/// first; base 3 packs five codes a byte and base 6 three.
///
/// `Planes`: the codes' bits apart, one plane a bit, least significant first;
/// in plane `p`, bit `j` of byte `i` is bit `p` of code `8 i + j`. It stores
/// 3-, 5-, 6- and 7-bit codes at exactly their width.
///
/// `Vectors`: each byte is the number of one of 256 vectors of codes.
///
/// What digits and planes leave of the last byte is zero.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Packing {
    /// `per_byte` codes below `base` in each byte.
    Digits {
        /// Number of levels a digit can tell apart: 2 to 256.
        base: usize,
        /// Codes in a byte; `base^per_byte` is at most 256.
        per_byte: usize,
    },
    /// One bit plane for each bit of a code.
    Planes {
        /// Bits of a code: 1 to 8.
        bits: usize,
    },
    /// The number of a vector of codes in each byte.
    Vectors(VectorCodes),
}

impl Packing {
    /// A code in each byte.
    pub const PLAIN: Self = Self::Digits {
        base: 256,
        per_byte: 1,
    };

    /// The form that stores codes of this many levels in the fewest bits.
    ///
    /// # Panics
    ///
    /// Where `levels` is above 256.
    pub fn densest(levels: usize) -> Self {
        let (base, per_byte) = match levels {
            0..=2 => (2, 8),
            3 => (3, 5),
            4 => (4, 4),
            5..=6 => (6, 3),
            7..=8 => return Self::Planes { bits: 3 },
            9..=16 => (16, 2),
            17..=32 => return Self::Planes { bits: 5 },
            33..=64 => return Self::Planes { bits: 6 },
            65..=128 => return Self::Planes { bits: 7 },
            129..=256 => (256, 1),
            _ => panic!("a code has at most 8 bits, but there are {levels} levels"),
        };
        Self::Digits { base, per_byte }
    }

    /// Codes that one byte (of each plane) holds.
    pub fn codes_per_byte(&self) -> usize {
        match self {
            Self::Digits { per_byte, .. } => *per_byte,
            Self::Planes { .. } => 8,
            Self::Vectors(vectors) => vectors.dimension(),
        }
    }

    /// Number of planes; 1 for digits and vectors.
    pub fn planes(&self) -> usize {
        match self {
            Self::Digits { .. } | Self::Vectors(_) => 1,
            Self::Planes { bits } => *bits,
        }
    }

    /// Bytes of one plane for this many codes.
    pub fn plane_len_bytes(&self, count: usize) -> usize {
        count.div_ceil(self.codes_per_byte())
    }

    /// Bytes for this many codes.
    pub fn len_bytes(&self, count: usize) -> usize {
        self.planes() * self.plane_len_bytes(count)
    }

    /// Packs codes into `packed`, which holds the planes one after another.
    ///
    /// # Panics
    ///
    /// Where `packed` is not [`len_bytes`](Self::len_bytes) long, or codes are
    /// none of the vectors.
    pub fn pack(&self, codes: &[u8], packed: &mut [u8]) {
        assert_eq!(
            packed.len(),
            self.len_bytes(codes.len()),
            "bytes for the codes"
        );
        let plane_len = self.plane_len_bytes(codes.len());
        for plane in 0..self.planes() {
            self.pack_plane(plane, codes, &mut packed[plane * plane_len..][..plane_len]);
        }
    }

    /// Packs one plane of the codes: blocks of codes can be packed apart, as
    /// long as each but the last is a multiple of
    /// [`codes_per_byte`](Self::codes_per_byte).
    ///
    /// # Panics
    ///
    /// Where `bytes` is not [`plane_len_bytes`](Self::plane_len_bytes) long, or
    /// codes are none of the vectors.
    pub fn pack_plane(&self, plane: usize, codes: &[u8], bytes: &mut [u8]) {
        assert_eq!(
            bytes.len(),
            self.plane_len_bytes(codes.len()),
            "bytes for the codes"
        );
        match self {
            Self::Digits { base: 16, .. } => {
                // The common case, in a form that vectorizes.
                let (pairs, rest) = codes.as_chunks::<2>();
                if let ([last], Some(byte)) = (rest, bytes.last_mut()) {
                    *byte = *last;
                }
                vectorized(
                    #[inline(always)]
                    || {
                        for (byte, pair) in bytes.iter_mut().zip(pairs) {
                            *byte = pair[0] | pair[1] << 4;
                        }
                    },
                );
            }
            Self::Digits { base, per_byte } => {
                for (byte, digits) in bytes.iter_mut().zip(codes.chunks(*per_byte)) {
                    *byte = digits
                        .iter()
                        .rev()
                        .fold(0, |value, &digit| value * base + usize::from(digit))
                        as u8;
                }
            }
            Self::Vectors(vectors) => {
                let order = vectors.order();
                for (byte, codes) in bytes.iter_mut().zip(codes.chunks(vectors.dimension())) {
                    *byte = vectors.find(&order, codes).expect("codes of a vector");
                }
            }
            Self::Planes { .. } => {
                let (eights, rest) = codes.as_chunks::<MAX_CODES_PER_BYTE>();
                if let (false, Some(byte)) = (rest.is_empty(), bytes.last_mut()) {
                    let mut eight = [0; MAX_CODES_PER_BYTE];
                    eight[..rest.len()].copy_from_slice(rest);
                    *byte = plane_byte(plane, eight);
                }
                vectorized(
                    #[inline(always)]
                    || {
                        for (byte, &eight) in bytes.iter_mut().zip(eights) {
                            *byte = plane_byte(plane, eight);
                        }
                    },
                );
            }
        }
    }

    /// The first `count` codes of packed bytes.
    ///
    /// # Panics
    ///
    /// Where `packed` is not [`len_bytes`](Self::len_bytes) of `count` long.
    pub fn unpack(&self, packed: &[u8], count: usize) -> Vec<u8> {
        let mut codes = vec![0; count];
        Unpacker::new(self.clone()).unpack(packed, count, 0, &mut codes);
        codes
    }

    /// Whether the first `count` codes of packed bytes are all below this.
    ///
    /// # Panics
    ///
    /// Where `packed` is not [`len_bytes`](Self::len_bytes) of `count` long.
    pub fn are_below(&self, packed: &[u8], count: usize, bound: usize) -> bool {
        assert_eq!(packed.len(), self.len_bytes(count), "bytes for the codes");
        let most = match self {
            Self::Digits { base, .. } => *base,
            Self::Planes { bits } => 1 << bits,
            Self::Vectors(vectors) => vectors
                .table()
                .iter()
                .max()
                .map_or(1, |&most| usize::from(most) + 1),
        };
        let is_below = |code: u8| usize::from(code) < bound;
        // What is left of the last byte may hold more than codes do.
        most <= bound
            || is_below(self.max_code(packed, count))
            || self.unpack(packed, count).into_iter().all(is_below)
    }

    /// The greatest code in packed bytes, what is left of the last byte included.
    fn max_code(&self, packed: &[u8], count: usize) -> u8 {
        if self.planes() > 1 {
            return self.unpack(packed, count).into_iter().max().unwrap_or(0);
        }
        let mut occurs = [false; 256];
        for &byte in packed {
            occurs[usize::from(byte)] = true;
        }
        let table = self.byte_table();
        let held = table.chunks_exact(self.codes_per_byte()).zip(occurs);
        let held = held.filter(|(_, occurs)| *occurs);
        held.flat_map(|(codes, _)| codes)
            .copied()
            .max()
            .unwrap_or(0)
    }

    /// What each byte value holds, shape `[256, codes_per_byte]`: codes for
    /// digits (0 for bytes that no codes make) and vectors, bits for planes.
    pub fn byte_table(&self) -> Vec<u8> {
        let (base, per_byte) = match self {
            Self::Digits { base, per_byte } => (*base, *per_byte),
            Self::Planes { .. } => (2, 8),
            Self::Vectors(vectors) => return vectors.table().to_vec(),
        };
        let mut table = Vec::with_capacity(256 * per_byte);
        for byte in 0..256usize {
            let mut rest = if byte < base.pow(per_byte as u32) {
                byte
            } else {
                0
            };
            for _ in 0..per_byte {
                table.push((rest % base) as u8);
                rest /= base;
            }
        }
        table
    }
}

/// Gives back codes, of any part of a tensor.
#[derive(Clone, Debug)]
pub struct Unpacker {
    packing: Packing,
    /// As [`Packing::byte_table`] has it; empty where nothing is looked up.
    table: Vec<u8>,
}

impl Unpacker {
    /// An unpacker of what is packed so.
    pub fn new(packing: Packing) -> Self {
        let is_plain = matches!(packing, Packing::Digits { base: 16 | 256, .. });
        let table = if is_plain {
            Vec::new()
        } else {
            packing.byte_table()
        };
        Self { packing, table }
    }

    /// The codes from number `from` on, as many as there is room for, of
    /// `count` that are packed.
    ///
    /// # Panics
    ///
    /// Where `packed` is not [`Packing::len_bytes`] of `count` long, or there are not as many codes.
    pub fn unpack(&self, packed: &[u8], count: usize, from: usize, codes: &mut [u8]) {
        let packing = &self.packing;
        assert_eq!(
            packed.len(),
            packing.len_bytes(count),
            "bytes for the codes"
        );
        assert!(from + codes.len() <= count, "codes that are there");
        let per_byte = packing.codes_per_byte();
        let (mut byte, skipped) = (from / per_byte, from % per_byte);
        let mut codes = codes;
        if skipped > 0 {
            // The rest of a byte that codes before it share.
            let mut first = [0; MAX_CODES_PER_BYTE];
            let held = per_byte.min(count - byte * per_byte);
            self.unpack_bytes(packed, count, byte, &mut first[..held]);
            let len = codes.len().min(held - skipped);
            let (own, rest) = codes.split_at_mut(len);
            own.copy_from_slice(&first[skipped..][..len]);
            (byte, codes) = (byte + 1, rest);
        }
        self.unpack_bytes(packed, count, byte, codes);
    }

    /// The codes from the first of a byte on.
    fn unpack_bytes(&self, packed: &[u8], count: usize, byte: usize, codes: &mut [u8]) {
        let plane_len = self.packing.plane_len_bytes(count);
        let len = codes.len().div_ceil(self.packing.codes_per_byte());
        let bytes = &packed[byte.min(packed.len())..][..len];
        match &self.packing {
            Packing::Digits { base: 256, .. } => codes.copy_from_slice(bytes),
            Packing::Digits { base: 16, .. } => {
                // The common case, in a form that vectorizes.
                let (pairs, rest) = codes.as_chunks_mut::<2>();
                if let ([last], Some(byte)) = (rest, bytes.last()) {
                    *last = byte & 15;
                }
                vectorized(
                    #[inline(always)]
                    || {
                        for (pair, byte) in pairs.iter_mut().zip(bytes) {
                            *pair = [byte & 15, byte >> 4];
                        }
                    },
                );
            }
            packing @ (Packing::Digits { .. } | Packing::Vectors(_)) => {
                look_up_rows(&self.table, packing.codes_per_byte(), bytes, codes);
            }
            Packing::Planes { bits } => {
                let (rows, _) = self.table.as_chunks::<MAX_CODES_PER_BYTE>();
                for (i, codes) in codes.chunks_mut(MAX_CODES_PER_BYTE).enumerate() {
                    let planes = packed[byte + i..].iter().step_by(plane_len);
                    let bits_of = |byte: &u8| u64::from_le_bytes(rows[usize::from(*byte)]);
                    let eight = planes
                        .take(*bits)
                        .enumerate()
                        .fold(0, |eight, (plane, byte)| eight | bits_of(byte) << plane);
                    codes.copy_from_slice(&eight.to_le_bytes()[..codes.len()]);
                }
            }
        }
    }
}

/// One bit of each code.
#[inline(always)]
fn plane_byte(plane: usize, codes: [u8; MAX_CODES_PER_BYTE]) -> u8 {
    let mut bits = u64::from_le_bytes(codes) >> plane & 0x0101_0101_0101_0101;
    // The bits of 2, 4 and 8 neighbours come together in the first of their bytes.
    bits |= bits >> 7;
    bits |= bits >> 14;
    bits |= bits >> 28;
    bits as u8
}

/// Most codes that one byte (of each plane) holds.
const MAX_CODES_PER_BYTE: usize = 8;

/// The rows of a table `[rows, row_len]` at these positions, one after another,
/// as far as there is room.
///
/// # Panics
///
/// Where there is no row at a position.
pub fn look_up_rows(table: &[u8], row_len: usize, positions: &[u8], values: &mut [u8]) {
    // Rows of a known length are copied in one instruction.
    fn of_len<const N: usize>(table: &[u8], positions: &[u8], values: &mut [u8]) {
        let (rows, _) = table.as_chunks::<N>();
        let (places, rest) = values.as_chunks_mut::<N>();
        for (place, &position) in places.iter_mut().zip(positions) {
            *place = rows[usize::from(position)];
        }
        if let Some(&position) = positions.get(places.len()) {
            rest.copy_from_slice(&rows[usize::from(position)][..rest.len()]);
        }
    }
    match row_len {
        1 => of_len::<1>(table, positions, values),
        2 => of_len::<2>(table, positions, values),
        3 => of_len::<3>(table, positions, values),
        4 => of_len::<4>(table, positions, values),
        5 => of_len::<5>(table, positions, values),
        8 => of_len::<8>(table, positions, values),
        _ => {
            for (place, &position) in values.chunks_mut(row_len.max(1)).zip(positions) {
                let row = &table[usize::from(position) * row_len..][..row_len];
                place.copy_from_slice(&row[..place.len()]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn two_four_bit_codes_share_a_byte_low_bits_first() {
        let mut packed = vec![0; 2];
        Packing::densest(16).pack(&[1, 2, 15], &mut packed);
        assert_eq!(packed, [0x21, 0x0f]);
    }

    #[test]
    fn planes_hold_one_bit_of_each_code() {
        let mut packed = vec![0; 3];
        Packing::densest(8).pack(&[1, 2, 4, 7], &mut packed);
        assert_eq!(packed, [0b1001, 0b1010, 0b1100]);
    }

    #[test]
    fn no_form_wastes_half_a_bit_or_more() {
        for levels in 2..=256usize {
            let packing = Packing::densest(levels);
            let bits = packing.len_bytes(120) as f64 * 8.0 / 120.0;
            let ideal = (levels as f64).log2();
            assert!(
                bits >= ideal && bits < ideal + 1.0,
                "{levels} levels: {bits} bits"
            );
            if levels.is_power_of_two() {
                assert_eq!(bits, ideal);
            }
        }
    }

    /// All vectors of two codes below 16.
    fn pairs() -> Packing {
        let table = (0..=255u8).flat_map(|byte| [byte >> 4, byte & 15]);
        Packing::Vectors(VectorCodes::new(table.collect(), 2).unwrap())
    }

    #[test]
    fn a_byte_names_a_vector_of_codes() {
        let packing = pairs();
        let mut packed = vec![0; 2];
        packing.pack(&[3, 4, 9], &mut packed);
        assert_eq!(packed, [0x34, 0x90], "the first vector that begins so");
        assert_eq!(packing.unpack(&packed, 3), [3, 4, 9]);
        assert!(packing.are_below(&packed, 3, 10) && !packing.are_below(&packed, 3, 9));
    }

    #[test]
    fn tables_that_are_none_of_vectors_are_refused() {
        for (len, dimension) in [(0, 2), (3, 2), (514, 2), (9, 9), (4, 1)] {
            assert!(
                VectorCodes::new(vec![0; len], dimension).is_none(),
                "{len} codes, dimension {dimension}"
            );
        }
        assert_eq!(VectorCodes::new(vec![1; 8], 4).unwrap().vector(255), [0; 4]);
    }

    proptest! {
        #[test]
        fn unpacking_gives_the_codes_back(
            levels in 1usize..=256,
            seeds in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let codes: Vec<u8> = seeds.iter().map(|&seed| (usize::from(seed) % levels) as u8).collect();
            let packing = Packing::densest(levels);
            let mut packed = vec![0xff; packing.len_bytes(codes.len())];
            packing.pack(&codes, &mut packed);
            prop_assert_eq!(packing.unpack(&packed, codes.len()), &codes[..]);
            let bound = codes.iter().max().map_or(0, |&most| usize::from(most) + 1);
            prop_assert!(packing.are_below(&packed, codes.len(), bound));
            prop_assert!(bound == 0 || !packing.are_below(&packed, codes.len(), bound - 1));
            let unpacker = Unpacker::new(packing);
            for from in 0..codes.len() {
                let mut part = vec![0xff; (codes.len() - from).min(11)];
                unpacker.unpack(&packed, codes.len(), from, &mut part);
                prop_assert_eq!(&part[..], &codes[from..][..part.len()]);
            }
        }
    }
}
