//! Tiles of a matrix product: some rows times one panel of weights.

use super::requantize::{Requantize, scaled};
use super::vector::Int8;
use crate::level::Int8Kernel;
use crate::pool::SendPtr;
use crate::vector::Vector;

/// Most rows that a panel takes at once, at any level.
pub(super) const MAX_ROWS: usize = 14;

/// Vectors of sums whose results make one vector of bytes.
const QUAD: usize = 4;

/// Where results go.
pub(super) enum Target {
    Codes(SendPtr<u8>),
    Floats(SendPtr<f32>),
}

/// What becomes of sums.
pub(super) struct Finish<'a> {
    pub(super) requantize: &'a Requantize,
    /// Codes, laid out as the output, and their factor; only read.
    pub(super) residual: Option<(SendPtr<u8>, f32)>,
    pub(super) target: Target,
    /// Where the output's first row starts, and from one to the next.
    pub(super) start: usize,
    pub(super) stride: usize,
    /// Columns in all.
    pub(super) columns: usize,
}

impl Finish<'_> {
    /// Where codes go that need no bounds but their own.
    pub(super) fn codes(&self) -> Option<*mut u8> {
        let is_bounded = self.requantize.at_least > 0.0 || self.requantize.at_most < 255.0;
        match &self.target {
            Target::Codes(codes) if !is_bounded => Some(codes.get()),
            _ => None,
        }
    }
}

/// Where the groups of a tile's rows are, and the weights that they are multiplied with.
#[derive(Clone, Copy)]
pub(super) struct Groups<'a> {
    /// Where rows start.
    pub(super) inputs: &'a [*const u8; MAX_ROWS],
    /// Of the steps' groups.
    pub(super) offsets: *const u32,
    pub(super) bytes: *const u8,
    pub(super) table: *const u8,
    pub(super) joined: usize,
    pub(super) apart: usize,
    /// What is brought near, and from one step's line to the next.
    pub(super) ahead: *const u8,
    pub(super) ahead_stride: usize,
}

impl Groups<'_> {
    /// Adds the products of `MR` rows and `NV` vectors of columns; weights are in `BITS` bits.
    ///
    /// # Safety
    ///
    /// Offsets from `inputs` and weights are where the fields say; the packing
    /// put only such groups together as `dot2` takes.
    #[inline(always)]
    unsafe fn add_to<V: Int8, const MR: usize, const NV: usize, const BITS: u8>(
        &self,
        mut sums: [[V::Sums; NV]; MR],
    ) -> [[V::Sums; NV]; MR] {
        let inputs = self.inputs;
        // Loops rather than `array::from_fn`, here and below: closures are
        // compiled without the level's instructions unless they are inlined,
        // and the larger ones were not.
        // SAFETY: the caller's promise.
        unsafe {
            let table = V::table(self.table);
            let (mut offsets, mut bytes) = (self.offsets, self.bytes);
            // Weights of a step's group `$g`; codes shifted by `$shift`.
            macro_rules! weights {
                ($g:literal, $shift:literal, $mask:literal) => {{
                    let mut w = [table; NV];
                    for j in 0..NV {
                        w[j] = if BITS == 8 {
                            V::load(bytes.add(($g * NV + j) * V::BYTES))
                        } else {
                            V::lookup::<$shift, $mask>(table, V::load(bytes.add(j * V::BYTES)))
                        };
                    }
                    w
                }};
            }
            // One group of all rows.
            macro_rules! group {
                ($offset:ident, $weights:expr) => {
                    let w = $weights;
                    for i in 0..MR {
                        let a = V::broadcast4(inputs[i].add($offset));
                        for j in 0..NV {
                            sums[i][j] = V::dot1(sums[i][j], [a, w[j]]);
                        }
                        V::hold_loads();
                    }
                };
            }
            // One step of all rows. A level that need not sum both groups
            // together takes one after the other: fewer registers.
            macro_rules! step {
                ($together:literal, $s:literal, $t:literal, $mask:literal) => {
                    let (first, second) = (*offsets as usize, *offsets.add(1) as usize);
                    if $together && !V::EXACT {
                        let (w, v) = (weights!(0, $s, $mask), weights!(1, $t, $mask));
                        for i in 0..MR {
                            let a = V::broadcast4(inputs[i].add(first));
                            let b = V::broadcast4(inputs[i].add(second));
                            for j in 0..NV {
                                sums[i][j] = V::dot2(sums[i][j], [a, w[j]], [b, v[j]]);
                            }
                        }
                    } else {
                        group!(first, weights!(0, $s, $mask));
                        group!(second, weights!(1, $t, $mask));
                    }
                    offsets = offsets.add(2);
                };
            }
            match BITS {
                8 => {
                    let mut ahead = self.ahead;
                    for _ in 0..self.joined {
                        V::prefetch(ahead);
                        ahead = ahead.wrapping_add(self.ahead_stride);
                        step!(true, 0, 0, 15);
                        bytes = bytes.add(2 * NV * V::BYTES);
                    }
                    for _ in 0..self.apart {
                        V::prefetch(ahead);
                        ahead = ahead.wrapping_add(self.ahead_stride);
                        step!(false, 0, 0, 15);
                        bytes = bytes.add(2 * NV * V::BYTES);
                    }
                }
                4 => {
                    for _ in 0..self.joined {
                        step!(true, 0, 4, 15);
                        bytes = bytes.add(NV * V::BYTES);
                    }
                    for _ in 0..self.apart {
                        step!(false, 0, 4, 15);
                        bytes = bytes.add(NV * V::BYTES);
                    }
                }
                _ => {
                    for _ in 0..self.joined / 2 {
                        step!(true, 0, 2, 3);
                        step!(true, 4, 6, 3);
                        bytes = bytes.add(NV * V::BYTES);
                    }
                    let mut high = false;
                    if self.joined % 2 == 1 {
                        step!(true, 0, 2, 3);
                        high = true;
                    }
                    for _ in 0..self.apart {
                        if high {
                            step!(false, 4, 6, 3);
                            bytes = bytes.add(NV * V::BYTES);
                        } else {
                            step!(false, 0, 2, 3);
                        }
                        high = !high;
                    }
                }
            }
        }
        sums
    }
}

/// The sums of `MR` rows and `NV` vectors of columns, over some groups.
pub(super) struct Tile<'a, const MR: usize, const NV: usize, const BITS: u8> {
    pub(super) groups: Groups<'a>,
    /// What the sums start with, and from one row's to the next.
    pub(super) from: *const i32,
    pub(super) from_stride: usize,
    pub(super) to: *mut i32,
}

impl<const MR: usize, const NV: usize, const BITS: u8> Int8Kernel for Tile<'_, MR, NV, BITS> {
    type Output = ();

    /// # Safety
    ///
    /// As for [`Groups::add_to`], and sums are where the fields say.
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        // SAFETY: the caller's promise.
        unsafe {
            let mut sums = [[V::load_sums(self.from); NV]; MR];
            for i in 0..MR {
                for j in 0..NV {
                    let from = self.from.add(i * self.from_stride + j * V::SUMS);
                    sums[i][j] = V::load_sums(from);
                }
            }
            let sums = self.groups.add_to::<V, MR, NV, BITS>(sums);
            for i in 0..MR {
                for j in 0..NV {
                    V::store_sums(sums[i][j], self.to.add((i * NV + j) * V::SUMS));
                }
            }
        }
    }
}

/// The results of a tile's sums in memory, whatever they are.
pub(super) struct Results<'a, const NV: usize> {
    pub(super) finish: &'a Finish<'a>,
    /// The first row and column, and how many rows there are.
    pub(super) row: usize,
    pub(super) column: usize,
    pub(super) height: usize,
    pub(super) sums: *const i32,
}

impl<const NV: usize> Int8Kernel for Results<'_, NV> {
    type Output = ();

    /// # Safety
    ///
    /// Parameters are padded to whole panels; the panel's columns below the
    /// matrix's are inside the output and the residual, and `sums` holds the rows' sums.
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        let Finish {
            requantize,
            residual,
            target,
            start,
            stride,
            columns,
        } = self.finish;
        let (column, stride) = (self.column, *stride);
        let columns = (columns - column).min(NV * V::SUMS);
        let is_biased = requantize.is_biased();
        // SAFETY: the caller's promise.
        unsafe {
            let splat = <V::Floats as Vector>::splat;
            for i in 0..self.height {
                let output = start + (self.row + i) * stride + column;
                let mut values = [splat(0.0); QUAD];
                for j in 0..NV {
                    let at = column + j * V::SUMS;
                    let multiplier = Vector::load(requantize.multiplier().as_ptr().add(at));
                    let offset = Vector::load(requantize.offset().as_ptr().add(at));
                    let sums = V::load_sums(self.sums.add((i * NV + j) * V::SUMS));
                    values[j] = scaled::<V>(sums, is_biased, multiplier, offset);
                    if let Some((codes, factor)) = residual {
                        let len = V::SUMS.min(columns.saturating_sub(j * V::SUMS));
                        let codes = codes.get().add(output + j * V::SUMS);
                        let codes = V::load_first_floats(codes, len);
                        values[j] = codes.fused(splat(*factor), values[j]);
                    }
                }
                match target {
                    Target::Codes(codes) => {
                        let bytes = V::in_order(V::pack(values));
                        let at_least = V::splat(requantize.at_least as u8);
                        let at_most = V::splat(requantize.at_most as u8);
                        let bytes = V::min(V::max(bytes, at_least), at_most);
                        V::store_first(bytes, codes.get().add(output), columns);
                    }
                    Target::Floats(floats) => {
                        for j in 0..NV {
                            let at = j * V::SUMS;
                            values[j]
                                .at_least(splat(requantize.at_least))
                                .at_most(splat(requantize.at_most))
                                .store_first(
                                    floats.get().add(output + at),
                                    V::SUMS.min(columns.saturating_sub(at)),
                                );
                        }
                    }
                }
            }
        }
    }
}

/// A tile from its first group to its codes: sums stay in registers. Without
/// bounds other than those of codes; `BIASED` as the parameters are, `ADDS` a residual.
pub(super) struct Codes<'a, const MR: usize, const NV: usize, const BIASED: bool, const ADDS: bool>
{
    pub(super) groups: Groups<'a>,
    pub(super) finish: &'a Finish<'a>,
    /// Where the codes go.
    pub(super) codes: *mut u8,
    /// The first row and column.
    pub(super) row: usize,
    pub(super) column: usize,
}

impl<const MR: usize, const NV: usize, const BIASED: bool, const ADDS: bool> Int8Kernel
    for Codes<'_, MR, NV, BIASED, ADDS>
{
    type Output = ();

    /// # Safety
    ///
    /// As for [`Groups::add_to`] and [`Results`].
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        let (column, requantize) = (self.column, self.finish.requantize);
        // SAFETY: the caller's promise.
        unsafe {
            let initial = requantize.initial().as_ptr().add(column);
            let mut sums = [[V::load_sums(initial); NV]; MR];
            for j in 0..NV {
                let initial = V::load_sums(initial.add(j * V::SUMS));
                for i in 0..MR {
                    sums[i][j] = initial;
                }
            }
            let sums = self.groups.add_to::<V, MR, NV, 8>(sums);
            let splat = <V::Floats as Vector>::splat;
            let mut multiplier = [splat(0.0); NV];
            let mut offset = [splat(0.0); NV];
            for j in 0..NV {
                let at = column + j * V::SUMS;
                multiplier[j] = Vector::load(requantize.multiplier().as_ptr().add(at));
                offset[j] = Vector::load(requantize.offset().as_ptr().add(at));
            }
            let stride = self.finish.stride;
            let columns = (self.finish.columns - column).min(NV * V::SUMS);
            let output = self.finish.start + self.row * stride + column;
            let (residual, factor) = match &self.finish.residual {
                Some((codes, factor)) if ADDS => (codes.get().add(output), *factor),
                _ => (self.codes, 0.0),
            };
            let factor = splat(factor);
            // The value of a row's vector of sums.
            macro_rules! value {
                ($i:expr, $j:expr) => {{
                    let (i, j) = ($i, $j);
                    let mut value = scaled::<V>(sums[i][j], BIASED, multiplier[j], offset[j]);
                    if ADDS {
                        let at = j * V::SUMS;
                        let len = V::SUMS.min(columns.saturating_sub(at));
                        let codes = V::load_first_floats(residual.add(i * stride + at), len);
                        value = codes.fused(factor, value);
                    }
                    value
                }};
            }
            let codes = self.codes.add(output);
            if NV < QUAD && QUAD.is_multiple_of(NV) && stride == NV * V::SUMS {
                // Rows follow each other without gaps: several make one vector.
                let rows = QUAD / NV;
                for i in (0..MR).step_by(rows) {
                    let mut values = [splat(0.0); QUAD];
                    for q in 0..QUAD {
                        if i + q / NV < MR {
                            values[q] = value!(i + q / NV, q % NV);
                        }
                    }
                    let bytes = V::in_order(V::pack(values));
                    let len = rows.min(MR - i) * NV * V::SUMS;
                    V::store_first(bytes, codes.add(i * stride), len);
                }
                return;
            }
            for i in 0..MR {
                let mut values = [value!(i, 0); QUAD];
                for j in 1..NV {
                    values[j] = value!(i, j);
                }
                let bytes = V::in_order(V::pack(values));
                V::store_first(bytes, codes.add(i * stride), columns);
            }
        }
    }
}
