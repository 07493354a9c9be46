//! The file of large constants, `weights/weight.bin`.
//!
//! ```text
//! header   count u32, version u32 = 2, zeros to 64 bytes
//! record   sentinel 0xdeadbeef u32, type u32, bytes u64, offset of the bytes u64, unused bits of
//!          the last byte u64, zeros to 64 bytes; then the bytes
//! ```
//!
//! Numbers are little-endian. Each record, and the bytes behind it, begin at a
//! multiple of 64; elements of fewer than 8 bits lie side by side, the first in
//! the low bits.
//!
//! # References
//!
//! Apple, coremltools, `mlmodel/src/MILBlob/Blob/StorageFormat.hpp`.

use std::collections::HashMap;

use crate::proto::DataType;

const ALIGNMENT: usize = 64;
const VERSION: u32 = 2;
const SENTINEL: u32 = 0xdead_beef;

/// The file under way.
#[derive(Debug, Default)]
pub(crate) struct Blob {
    records: Vec<u8>,
    count: u32,
    /// Where equal bytes of a type are already.
    offsets: HashMap<(DataType, Vec<u8>), u64>,
}

impl Blob {
    /// The place of the record of `count` elements, whose bytes are stored once.
    pub(crate) fn add(&mut self, data_type: DataType, count: usize, bytes: Vec<u8>) -> u64 {
        if let Some(&offset) = self.offsets.get(&(data_type, bytes.clone())) {
            return offset;
        }
        self.pad();
        let offset = ALIGNMENT + self.records.len();
        let start = offset + ALIGNMENT;
        let unused = 8 * bytes.len() - bits(data_type) * count;
        self.records.extend(SENTINEL.to_le_bytes());
        self.records.extend(number(data_type).to_le_bytes());
        for field in [bytes.len(), start, unused] {
            self.records.extend((field as u64).to_le_bytes());
        }
        self.pad();
        self.records.extend(&bytes);
        self.count += 1;
        self.offsets.insert((data_type, bytes), offset as u64);
        offset as u64
    }

    fn pad(&mut self) {
        let len = self.records.len().next_multiple_of(ALIGNMENT);
        self.records.resize(len, 0);
    }

    /// The file.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let mut file = Vec::with_capacity(ALIGNMENT + self.records.len());
        file.extend(self.count.to_le_bytes());
        file.extend(VERSION.to_le_bytes());
        file.resize(ALIGNMENT, 0);
        file.extend(self.records);
        file
    }
}

/// Bits of an element.
pub(crate) fn bits(data_type: DataType) -> usize {
    match data_type {
        DataType::Uint1 => 1,
        DataType::Uint2 => 2,
        DataType::Uint3 => 3,
        DataType::Uint4 => 4,
        DataType::Uint6 => 6,
        DataType::Int8 | DataType::Uint8 => 8,
        DataType::Float16 => 16,
        _ => 32,
    }
}

/// The type's number in this file, which is not that of the program.
fn number(data_type: DataType) -> u32 {
    match data_type {
        DataType::Float16 => 1,
        DataType::Float32 => 2,
        DataType::Uint8 => 3,
        DataType::Int8 => 4,
        DataType::Uint1 => 9,
        DataType::Uint2 => 10,
        DataType::Uint4 => 11,
        DataType::Uint3 => 12,
        DataType::Uint6 => 13,
        DataType::Int32 => 14,
        other => unreachable!("{other:?} is never stored in the file"),
    }
}

/// Numbers of `bits` bits side by side, the first in the low bits.
pub(crate) fn packed(numbers: &[u8], bits: usize) -> Vec<u8> {
    let mut bytes = vec![0u8; (numbers.len() * bits).div_ceil(8)];
    for (i, &number) in numbers.iter().enumerate() {
        let (byte, shift) = (i * bits / 8, i * bits % 8);
        let spread = u16::from(number) << shift;
        bytes[byte] |= spread as u8;
        if let Some(next) = bytes.get_mut(byte + 1) {
            *next |= (spread >> 8) as u8;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What coremltools 9.0 stores of the numbers 0 to 12, modulo 2 to the bits.
    #[test]
    fn small_numbers_lie_as_coremltools_packs_them() {
        let of = |bits: usize| {
            let numbers: Vec<u8> = (0..13u8).map(|i| i % (1 << bits)).collect();
            packed(&numbers, bits)
        };
        assert_eq!(of(1), [0xaa, 0x0a]);
        assert_eq!(of(2), [0xe4, 0xe4, 0xe4, 0x00]);
        assert_eq!(of(3), [0x88, 0xc6, 0xfa, 0x88, 0x46]);
        assert_eq!(of(4), [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0x0c]);
        let six = [0x40, 0x20, 0x0c, 0x44, 0x61, 0x1c, 0x48, 0xa2, 0x2c, 0x0c];
        assert_eq!(of(6), six);
    }

    #[test]
    fn records_lie_at_multiples_of_64_and_once() {
        let mut blob = Blob::default();
        let first = blob.add(DataType::Uint3, 13, packed(&[1; 13], 3));
        let other = blob.add(DataType::Uint8, 3, vec![1, 2, 3]);
        let again = blob.add(DataType::Uint8, 3, vec![1, 2, 3]);
        assert_eq!([first, other, again], [64, 192, 192]);
        let file = blob.into_bytes();
        assert_eq!(file.len(), 259);
        assert_eq!(file[..8], [2, 0, 0, 0, 2, 0, 0, 0]);
        let record = [0xef, 0xbe, 0xad, 0xde, 12, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(file[64..80], record);
        assert_eq!(
            file[80..97],
            [128, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        assert_eq!(file[256..259], [1, 2, 3]);
    }
}
