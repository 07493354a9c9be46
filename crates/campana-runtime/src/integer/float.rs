//! Floats between codes, as functions of the codes that they come from.
//!
//! Where a step on floats only reads values that were codes and its result is
//! rounded to codes again, there are 256 results at most for each operand: a
//! table says all of them, computed by the kernels that the session runs.

use campana_kernels::elementwise::{Binary, Unary, map, zip};
use campana_kernels::int8::{QuantParams, dequantize, quantize};
use campana_kernels::{Isa, ThreadPool};

use super::operation::{Block, Pair};

/// All codes.
pub(super) fn all_codes() -> [u8; 256] {
    std::array::from_fn(|code| code as u8)
}

/// The floats that a value's codes stand for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    /// The value, by its place.
    pub(super) source: usize,
    pub(super) floats: Box<[f32; 256]>,
    /// Whether they are the codes' own values and nothing else.
    pub(super) is_plain: bool,
}

impl Table {
    pub(super) fn of_codes(source: usize, from: QuantParams) -> Self {
        let mut floats = Box::new([0.0; 256]);
        let pool = ThreadPool::serial();
        dequantize(Isa::detect(), &pool, &all_codes(), from, &mut floats[..]);
        Self {
            source,
            floats,
            is_plain: true,
        }
    }

    pub(super) fn unary(mut self, op: Unary) -> Self {
        map(Isa::detect(), op, &mut self.floats[..]);
        self.is_plain = false;
        self
    }

    pub(super) fn function(mut self, function: fn(f64) -> f64) -> Self {
        let floats = self.floats.iter_mut();
        floats.for_each(|value| *value = function(f64::from(*value)) as f32);
        self.is_plain = false;
        self
    }

    /// A function of this and other floats at the same codes.
    pub(super) fn binary(mut self, op: Binary, left: &[f32; 256], right: &[f32; 256]) -> Self {
        zip(Isa::detect(), op, left, right, &mut self.floats[..]);
        self.is_plain = false;
        self
    }

    /// The codes of the floats.
    pub(super) fn codes(&self, to: QuantParams) -> Box<[u8; 256]> {
        let mut codes = Box::new([0; 256]);
        let pool = ThreadPool::serial();
        quantize(Isa::detect(), &pool, &self.floats[..], to, &mut codes[..]);
        codes
    }
}

/// Floats that lie in a buffer of the program.
#[derive(Clone, Debug)]
pub(super) enum Floats {
    /// Of one value, element by element.
    Table(Table),
    /// Blocks of several tables and results.
    Joined {
        parts: Vec<(Floats, Block)>,
        fill: f32,
    },
    /// A function of two values.
    Pair(Box<PairOf>),
    /// Results of a layer, which lie in a value of their own.
    Result(usize),
}

/// A function of two values that are broadcast.
#[derive(Clone, Debug)]
pub(super) struct PairOf {
    pub(super) function: Pair,
    pub(super) tables: [Table; 2],
    pub(super) dims: Vec<usize>,
    pub(super) strides: [Vec<usize>; 2],
    pub(super) bounds: [f32; 2],
}
