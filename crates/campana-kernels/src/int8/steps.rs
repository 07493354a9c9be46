//! Tiles on levels that broadcast a group of each row to all columns.

use super::groups::Groups;
use super::vector::Int8;

/// Adds the products of `MR` rows and `NV` vectors of columns, two groups in a
/// step; weights are in `BITS` bits.
///
/// # Safety
///
/// As for [`Int8::add_products`].
#[inline(always)]
pub(crate) unsafe fn add_steps<V: Int8, const MR: usize, const NV: usize, const BITS: u8>(
    groups: &Groups<'_>,
    mut sums: [[V::Sums; NV]; MR],
) -> [[V::Sums; NV]; MR] {
    let inputs = groups.inputs;
    // Loops rather than `array::from_fn`, here and below: closures are
    // compiled without the ISA's instructions unless they are inlined,
    // and the larger ones were not.
    // SAFETY: the caller's promise.
    unsafe {
        let table = V::table(groups.table);
        let (mut offsets, mut bytes) = (groups.offsets, groups.bytes);
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
        // One step of all rows. An ISA that need not sum both groups
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
                let mut ahead = groups.ahead;
                for _ in 0..groups.joined {
                    V::prefetch(ahead);
                    ahead = ahead.wrapping_add(groups.ahead_stride);
                    step!(true, 0, 0, 15);
                    bytes = bytes.add(2 * NV * V::BYTES);
                }
                for _ in 0..groups.apart {
                    V::prefetch(ahead);
                    ahead = ahead.wrapping_add(groups.ahead_stride);
                    step!(false, 0, 0, 15);
                    bytes = bytes.add(2 * NV * V::BYTES);
                }
            }
            4 => {
                for _ in 0..groups.joined {
                    step!(true, 0, 4, 15);
                    bytes = bytes.add(NV * V::BYTES);
                }
                for _ in 0..groups.apart {
                    step!(false, 0, 4, 15);
                    bytes = bytes.add(NV * V::BYTES);
                }
            }
            _ => {
                for _ in 0..groups.joined / 2 {
                    step!(true, 0, 2, 3);
                    step!(true, 4, 6, 3);
                    bytes = bytes.add(NV * V::BYTES);
                }
                let mut high = false;
                if groups.joined % 2 == 1 {
                    step!(true, 0, 2, 3);
                    high = true;
                }
                for _ in 0..groups.apart {
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
