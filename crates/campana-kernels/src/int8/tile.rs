//! Tiles of a matrix product: some rows times one panel of weights.

use super::groups::Groups;
use super::requantize::{Requantize, scaled};
use super::vector::Int8;
use crate::isa::Int8Kernel;
use crate::pool::SendPtr;
use crate::vector::Vector;

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
    /// What sums start with, for each column.
    pub(super) initial: &'a [i32],
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
    /// As for [`Int8::add_products`], and sums are where the fields say.
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
            let sums = V::add_products::<MR, NV, BITS>(&self.groups, sums);
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
            ..
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
    /// As for [`Int8::add_products`] and [`Results`].
    #[inline(always)]
    unsafe fn run<V: Int8>(self) {
        let (column, requantize) = (self.column, self.finish.requantize);
        // SAFETY: the caller's promise.
        unsafe {
            let initial = self.finish.initial.as_ptr().add(column);
            let mut sums = [[V::load_sums(initial); NV]; MR];
            for j in 0..NV {
                let initial = V::load_sums(initial.add(j * V::SUMS));
                for i in 0..MR {
                    sums[i][j] = initial;
                }
            }
            let sums = V::add_products::<MR, NV, 8>(&self.groups, sums);
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
            let is_whole = columns == NV * V::SUMS && stride == columns;
            if NV < QUAD && QUAD.is_multiple_of(NV) && is_whole {
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
