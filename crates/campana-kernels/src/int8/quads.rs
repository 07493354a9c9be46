//! Tiles on levels that read 16 bytes of each row at once, four groups that lie
//! side by side, and multiply them with one column after the other.

use super::groups::Groups;
use super::vector::{Int8, QUARTER};

/// Work for each index below `count`, at most the rows of a tile: written out,
/// because compilers leave loops over the larger tiles as they are, and then
/// keep the sums in memory.
macro_rules! each {
    ($i:ident < $count:ident => $work:expr) => {
        each!($i < $count => $work; 0 1 2 3 4 5 6 7 8 9 10 11 12 13)
    };
    ($i:ident < $count:ident => $work:expr; $($n:literal)*) => {
        const { assert!($count <= $crate::int8::groups::MAX_ROWS) };
        $(if $n < $count {
            let $i = $n % $count;
            $work;
        })*
    };
}
pub(crate) use each;

/// Where each byte of a group lies on levels whose products are of 16 bits, which
/// add pairs: those of rows 0 and 1 of four columns, then those of rows 2 and 3.
pub(crate) const PAIRS: [u8; QUARTER] = [0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15];

/// The same for the two groups of a step.
pub(crate) const STEP_OF_PAIRS: [u8; 2 * QUARTER] = {
    let mut order = [0; 2 * QUARTER];
    let mut i = 0;
    while i < QUARTER {
        order[i] = PAIRS[i];
        order[QUARTER + i] = QUARTER as u8 + PAIRS[i];
        i += 1;
    }
    order
};

/// An ISA whose dot products take their inputs out of vectors of a row's bytes.
pub(crate) trait Quads: Int8 {
    /// Sums of a row, or of two, and of a vector of columns while they are added to.
    type Kept: Copy;

    /// What products take of a row, or of two.
    type Inputs: Copy;

    /// Eight bytes of a row, in the low half.
    ///
    /// # Safety
    ///
    /// `from` is valid for reading them.
    unsafe fn load_half(from: *const u8) -> Self::Bytes;

    /// Four bytes each from two places, in the low half.
    ///
    /// # Safety
    ///
    /// `first` and `second` are valid for reading four bytes.
    unsafe fn load_apart(first: *const u8, second: *const u8) -> Self::Bytes;

    /// Codes of all rows as products take them.
    fn inputs<const MR: usize>(codes: [Self::Bytes; MR]) -> [Self::Inputs; MR];

    /// Adds the products of a step with the low half of the rows' bytes or,
    /// where `HIGH`, the high one; the weights are in the ISA's order.
    fn step<const MR: usize, const NV: usize, const HIGH: bool>(
        kept: [[Self::Kept; NV]; MR],
        inputs: [Self::Inputs; MR],
        weights: [[Self::Bytes; NV]; 2],
    ) -> [[Self::Kept; NV]; MR];

    /// Sums as they are kept while they are added to.
    fn keep<const MR: usize, const NV: usize>(
        sums: [[Self::Sums; NV]; MR],
    ) -> [[Self::Kept; NV]; MR];

    /// And back.
    fn give<const MR: usize, const NV: usize>(
        kept: [[Self::Kept; NV]; MR],
    ) -> [[Self::Sums; NV]; MR];
}

/// Adds the products of `MR` rows and `NV` vectors of columns, four groups at
/// once where the packing says so; weights are in `BITS` bits.
///
/// # Safety
///
/// As for [`Int8::add_products`].
#[inline(always)]
pub(crate) unsafe fn add_quads<V: Quads, const MR: usize, const NV: usize, const BITS: u8>(
    groups: &Groups<'_>,
    sums: [[V::Sums; NV]; MR],
) -> [[V::Sums; NV]; MR] {
    let rows = groups.inputs;
    let mut kept = V::keep(sums);
    // SAFETY: the caller's promise.
    unsafe {
        let table = V::table(groups.table);
        let (mut offsets, mut bytes) = (groups.offsets, groups.bytes);
        // Weights of a step; codes from this bit on.
        macro_rules! weights {
            ($first:literal $second:literal $mask:literal) => {{
                let mut w = [[table; NV]; 2];
                each!(j < NV => {
                    if BITS == 8 {
                        w[0][j] = V::load(bytes.add(j * V::BYTES));
                        w[1][j] = V::load(bytes.add((NV + j) * V::BYTES));
                    } else {
                        let codes = V::load(bytes.add(j * V::BYTES));
                        w[0][j] = V::lookup::<$first, $mask>(table, codes);
                        w[1][j] = V::lookup::<$second, $mask>(table, codes);
                    }
                });
                w
            }};
        }
        // A step whose weights are the low, or the high, codes of 2 bits.
        macro_rules! step {
            ($inputs:ident $half:literal $is_high:expr) => {
                let w = match BITS {
                    8 => weights!(0 0 15),
                    4 => weights!(0 4 15),
                    _ if $is_high => weights!(4 6 3),
                    _ => weights!(0 2 3),
                };
                kept = V::step::<MR, NV, $half>(kept, $inputs, w);
                if BITS != 2 || $is_high {
                    bytes = bytes.add(NV * V::BYTES * if BITS == 8 { 2 } else { 1 });
                }
            };
        }
        let mut codes = [table; MR];
        for _ in 0..groups.joined / 2 {
            let offset = *offsets as usize;
            offsets = offsets.add(4);
            each!(i < MR => codes[i] = V::load(rows[i].add(offset)));
            let inputs = V::inputs(codes);
            step!(inputs false false);
            step!(inputs true true);
        }
        let mut is_high = false;
        for _ in 0..groups.apart {
            let (first, second) = (*offsets as usize, *offsets.add(1) as usize);
            offsets = offsets.add(2);
            if second == first + 4 {
                each!(i < MR => codes[i] = V::load_half(rows[i].add(first)));
            } else {
                each!(i < MR => {
                    codes[i] = V::load_apart(rows[i].add(first), rows[i].add(second));
                });
            }
            let inputs = V::inputs(codes);
            step!(inputs false is_high);
            is_high = !is_high;
        }
    }
    V::give(kept)
}
