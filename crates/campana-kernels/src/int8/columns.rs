//! The columns of a matrix as they are given: bytes, and what these stand for.

use std::ops::Range;

use super::vector::{Int8, MAX_BYTES};
use crate::isa::{Int8Kernel, Isa};

/// Input values that one 32-bit sum takes at once.
pub(crate) const GROUP: usize = 4;

/// What the bytes of weights stand for.
#[derive(Clone, Copy, Debug)]
pub enum Encoding {
    /// Whole numbers of -127 to 127.
    Int8,
    /// Codes 0 to 15, or 0 to 3 where `bits` is 2.
    Codes {
        /// 2 or 4.
        bits: u8,
        /// The number of each code, -127 to 127.
        table: [i8; 16],
    },
}

impl Encoding {
    /// The code of zero, where there is one; codes beyond those used count too.
    pub(super) fn zero(self) -> Option<u8> {
        let Self::Codes { bits, table } = self else {
            return None;
        };
        let codes = 1usize << bits;
        let place = table.iter().take(codes).position(|&number| number == 0)?;
        u8::try_from(place).ok()
    }
}

/// Some columns of a matrix, one after the other, and what their bytes stand for.
pub(super) struct Columns<'a> {
    pub(super) encoding: Encoding,
    pub(super) rows: usize,
    bytes: &'a [u8],
}

impl<'a> Columns<'a> {
    pub(super) fn count(&self) -> usize {
        self.bytes.len() / self.rows.max(1)
    }

    /// The bytes of some rows of a column.
    #[inline(always)]
    pub(super) fn bytes(&self, column: usize, rows: Range<usize>) -> &'a [u8] {
        &self.bytes[column * self.rows..][rows]
    }

    /// The sums of a column's numbers below, and above, zero.
    pub(super) fn sums(&self, isa: Isa, column: usize) -> [i32; 2] {
        let sums = Sums {
            encoding: self.encoding,
            column: self.bytes(column, 0..self.rows),
        };
        // SAFETY: the kernel reads what it is given.
        unsafe { isa.run_int8(sums) }
    }

    /// Up to four weights, and zeros behind them.
    #[inline(always)]
    pub(super) fn weights(&self, column: usize, rows: Range<usize>) -> [i8; GROUP] {
        let mut weights = [0; GROUP];
        let bytes = self.bytes(column, rows);
        match self.encoding {
            Encoding::Int8 => {
                for (weight, byte) in weights.iter_mut().zip(bytes) {
                    *weight = byte.cast_signed();
                }
            }
            Encoding::Codes { table, .. } => {
                for (weight, code) in weights.iter_mut().zip(bytes) {
                    *weight = table[usize::from(code & 15)];
                }
            }
        }
        weights
    }
}

/// Reads columns, a panel of them at a time.
pub(super) struct Reader<W> {
    encoding: Encoding,
    rows: usize,
    /// The bytes of a panel's columns.
    buffer: Vec<u8>,
    write: W,
}

impl<W: FnMut(usize, &mut [u8])> Reader<W> {
    /// A reader of up to `most` columns at once; `write` is given a column's
    /// number and where its bytes go.
    pub(super) fn new(encoding: Encoding, rows: usize, most: usize, write: W) -> Self {
        Self {
            encoding,
            rows,
            buffer: vec![0; rows * most],
            write,
        }
    }

    /// The columns of a panel.
    pub(super) fn columns(&mut self, columns: Range<usize>) -> Columns<'_> {
        let bytes = &mut self.buffer[..columns.len() * self.rows];
        for (column, bytes) in columns.zip(bytes.chunks_exact_mut(self.rows.max(1))) {
            (self.write)(column, bytes);
        }
        Columns {
            encoding: self.encoding,
            rows: self.rows,
            bytes,
        }
    }
}

/// The sums of a column's numbers below, and above, zero.
struct Sums<'a> {
    encoding: Encoding,
    column: &'a [u8],
}

impl Int8Kernel for Sums<'_> {
    type Output = [i32; 2];

    #[inline(always)]
    unsafe fn run<V: Int8>(self) -> [i32; 2] {
        let Encoding::Codes { table, .. } = self.encoding else {
            return by_sign(self.column.iter().map(|byte| byte.cast_signed()));
        };
        let (vectors, rest) = self.column.as_chunks::<MAX_BYTES>();
        let rest = rest.iter().map(|code| table[usize::from(code & 15)]);
        let mut sums = by_sign(rest);
        let mut numbers = [0i8; MAX_BYTES];
        // SAFETY: chunks and numbers have the bytes of the longest vector, the table has 16.
        unsafe {
            let table = V::table(table.as_ptr().cast());
            for codes in vectors {
                for at in (0..MAX_BYTES).step_by(V::BYTES) {
                    let codes = V::load(codes.as_ptr().add(at));
                    let found = V::lookup::<0, 15>(table, codes);
                    V::store(found, numbers.as_mut_ptr().add(at).cast());
                }
                let more = by_sign(numbers.iter().copied());
                sums = [sums[0] + more[0], sums[1] + more[1]];
            }
        }
        sums
    }
}

/// The sums of the numbers below, and above, zero.
#[inline(always)]
fn by_sign(numbers: impl Iterator<Item = i8>) -> [i32; 2] {
    let mut sums = [0; 2];
    for number in numbers {
        sums[0] += i32::from(number.min(0));
        sums[1] += i32::from(number.max(0));
    }
    sums
}

/// The largest magnitude of a sum of these weights, each times a code less one
/// zero point, whatever the codes and the zero point are.
pub fn largest_sum(weights: impl Iterator<Item = i8>) -> u64 {
    largest_of(by_sign(weights))
}

pub(super) fn largest_of([below, above]: [i32; 2]) -> u64 {
    u64::from(u8::MAX) * u64::from(below.unsigned_abs().max(above.unsigned_abs()))
}
