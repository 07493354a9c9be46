//! What writing and reading share: numbers, kinds of pieces, packings.

use alloc::vec::Vec;

use campana_codebook::Packing;

use crate::Error;

/// The first bytes of every container.
pub const MAGIC: [u8; 4] = *b"CMPN";

/// The version of the format that is written.
pub(crate) const VERSION: u8 = 2;

/// Kinds of pieces.
pub(crate) const TEXT: u8 = 0;
pub(crate) const CODES: u8 = 1;
pub(crate) const VALUES: u8 = 2;

/// Symbols after which the coder begins a new stream: bounds the memory that
/// packing needs.
pub(crate) const STREAM_SYMBOLS: usize = 1 << 22;

/// The number of each packing.
const PACKINGS: [Packing; 10] = [
    digits(2, 8),
    digits(3, 5),
    digits(4, 4),
    digits(6, 3),
    digits(16, 2),
    digits(256, 1),
    Packing::Planes { bits: 3 },
    Packing::Planes { bits: 5 },
    Packing::Planes { bits: 6 },
    Packing::Planes { bits: 7 },
];

const fn digits(base: usize, per_byte: usize) -> Packing {
    Packing::Digits { base, per_byte }
}

pub(crate) fn packing_number(packing: &Packing) -> Option<u8> {
    PACKINGS
        .iter()
        .position(|known| known == packing)
        .map(|number| number as u8)
}

pub(crate) fn packing_of(number: u8) -> Option<Packing> {
    PACKINGS.get(usize::from(number)).cloned()
}

/// Seven bits a byte, the lowest first; the high bit says that more follow.
pub(crate) fn put_number(out: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Takes numbers and bytes off the front of a slice.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    pub(crate) rest: &'a [u8],
    /// What is being read, for errors.
    pub(crate) what: &'static str,
}

impl<'a> Cursor<'a> {
    pub(crate) fn byte(&mut self) -> Result<u8, Error> {
        Ok(self.bytes(1)?[0])
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or_else(|| Error::truncated(self.what))?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn number(&mut self) -> Result<usize, Error> {
        let mut value = 0u64;
        for shift in (0..).step_by(7) {
            let byte = self.byte()?;
            if shift > 56 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return usize::try_from(value)
                    .map_err(|_| Error::malformed("a number is too large for this machine"));
            }
        }
        Err(Error::malformed("a number has more than 63 bits"))
    }
}
