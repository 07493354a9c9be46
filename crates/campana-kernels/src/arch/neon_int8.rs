//! Bytes and sums in NEON registers: what all ISAs of AArch64 share.
//!
//! They differ in their dot products ([`Dot`]), and in the order of weights and
//! inputs that these want.

use core::marker::PhantomData;

use core::arch::aarch64::{
    int32x4_t, uint8x16_t, vandq_u8, vcombine_u8, vcombine_u16, vcvtnq_u32_f32, vcvtq_f32_s32,
    vcvtq_f32_u32, vdup_n_u8, vdupq_n_u8, veorq_u8, vget_low_u8, vget_low_u16, vld1_lane_u32,
    vld1_u8, vld1q_dup_u32, vld1q_s32, vld1q_u8, vmaxq_u8, vminq_u8, vmovl_u8, vmovl_u16,
    vqmovn_high_u16, vqmovn_high_u32, vqmovn_u16, vqmovn_u32, vqtbl1q_u8, vreinterpret_u8_u32,
    vreinterpret_u32_u8, vreinterpretq_f32_s32, vreinterpretq_u8_u16, vreinterpretq_u8_u32,
    vreinterpretq_u16_u8, vreinterpretq_u32_u8, vshrq_n_u8, vst1_lane_u32, vst1_u8, vst1q_lane_u32,
    vst1q_s32, vst1q_u8, vzip1q_u8, vzip1q_u16, vzip2q_u8, vzip2q_u16,
};

use crate::arch::neon::F32x4;
use crate::int8::groups::Groups;
use crate::int8::quads::{Quads, add_quads, each};
use crate::int8::vector::{Int8, Int8Kernel, MAX_PANEL_VECTORS, QUARTER};

/// Calls intrinsics that need nothing but their instruction.
macro_rules! instruction {
    ($($call:tt)*) => {
        // SAFETY: every AArch64 processor that Rust is compiled for has NEON.
        unsafe { $($call)* }
    };
}
pub(super) use instruction;

/// The dot products of an ISA. Methods run only below [`run`](Self::run),
/// whose caller promised the instructions.
pub(crate) trait Dot: Copy {
    /// As [`Int8::TILE_ROWS`].
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS];

    /// As [`Int8::SIGNED`].
    const SIGNED: bool;

    /// As [`Int8::STEP_ORDER`].
    const STEP_ORDER: [u8; 2 * QUARTER];

    /// As [`Quads::Kept`].
    type Kept: Copy;

    /// As [`Quads::Inputs`].
    type Inputs: Copy;

    /// Compiles a kernel with the ISA's instructions, and runs it.
    ///
    /// # Safety
    ///
    /// The processor has them, and what the kernel requires of its fields holds.
    unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output;

    /// As [`Int8::dot1`].
    fn dot1(sums: int32x4_t, product: [uint8x16_t; 2]) -> int32x4_t;

    /// As [`Quads::inputs`], for codes less 128 where the ISA is
    /// [`SIGNED`](Self::SIGNED).
    fn inputs<const MR: usize>(codes: [uint8x16_t; MR]) -> [Self::Inputs; MR];

    /// As [`Quads::step`].
    fn step<const MR: usize, const NV: usize, const HIGH: bool>(
        kept: [[Self::Kept; NV]; MR],
        inputs: [Self::Inputs; MR],
        weights: [[uint8x16_t; NV]; 2],
    ) -> [[Self::Kept; NV]; MR];

    /// As [`Quads::keep`].
    fn keep<const MR: usize, const NV: usize>(
        sums: [[int32x4_t; NV]; MR],
    ) -> [[Self::Kept; NV]; MR];

    /// As [`Quads::give`].
    fn give<const MR: usize, const NV: usize>(
        kept: [[Self::Kept; NV]; MR],
    ) -> [[int32x4_t; NV]; MR];
}

/// The integer vectors of AArch64, with these dot products.
#[derive(Clone, Copy)]
pub(crate) struct Neon<D>(PhantomData<D>);

impl<D: Dot> Int8 for Neon<D> {
    const BYTES: usize = 16;
    const EXACT: bool = true;
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS] = D::TILE_ROWS;
    const QUADS: bool = true;
    const SIGNED: bool = D::SIGNED;
    const STEP_ORDER: [u8; 2 * QUARTER] = D::STEP_ORDER;

    #[inline(always)]
    unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's promise; whoever calls proved the instructions.
        unsafe { D::run(kernel) }
    }

    type Bytes = uint8x16_t;
    type Sums = int32x4_t;
    type Floats = F32x4;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> uint8x16_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_u8(from) }
    }

    #[inline(always)]
    unsafe fn store(bytes: uint8x16_t, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_u8(to, bytes) }
    }

    #[inline(always)]
    unsafe fn store_first(bytes: uint8x16_t, to: *mut u8, len: usize) {
        let mut all = [0u8; 16];
        // SAFETY: the caller's promise; `all` holds a vector, lanes are written
        // at any alignment.
        unsafe {
            let words = vreinterpretq_u32_u8(bytes);
            match len {
                16 => Self::store(bytes, to),
                12 => {
                    vst1_u8(to, vget_low_u8(bytes));
                    vst1q_lane_u32::<2>(to.add(8).cast(), words);
                }
                8 => vst1_u8(to, vget_low_u8(bytes)),
                4 => vst1q_lane_u32::<0>(to.cast(), words),
                _ => {
                    Self::store(bytes, all.as_mut_ptr());
                    core::ptr::copy_nonoverlapping(all.as_ptr(), to, len);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn broadcast4(from: *const u8) -> uint8x16_t {
        // SAFETY: the caller's promise; the word is read at any alignment.
        unsafe { vreinterpretq_u8_u32(vld1q_dup_u32(from.cast())) }
    }

    #[inline(always)]
    unsafe fn table(from: *const u8) -> uint8x16_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_u8(from) }
    }

    #[inline(always)]
    fn lookup<const SHIFT: i32, const MASK: u8>(
        table: uint8x16_t,
        codes: uint8x16_t,
    ) -> uint8x16_t {
        instruction!({
            let codes = match SHIFT {
                0 => codes,
                2 => vshrq_n_u8::<2>(codes),
                4 => vshrq_n_u8::<4>(codes),
                6 => vshrq_n_u8::<6>(codes),
                _ => unreachable!("shifts of 2- and 4-bit codes"),
            };
            vqtbl1q_u8(table, vandq_u8(codes, vdupq_n_u8(MASK)))
        })
    }

    #[inline(always)]
    unsafe fn load_sums(from: *const i32) -> int32x4_t {
        // SAFETY: the caller's promise.
        unsafe { vld1q_s32(from) }
    }

    #[inline(always)]
    unsafe fn store_sums(sums: int32x4_t, to: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe { vst1q_s32(to, sums) }
    }

    #[inline(always)]
    fn shift(codes: uint8x16_t) -> uint8x16_t {
        match D::SIGNED {
            true => instruction!(veorq_u8(codes, vdupq_n_u8(128))),
            false => codes,
        }
    }

    #[inline(always)]
    unsafe fn add_products<const MR: usize, const NV: usize, const BITS: u8>(
        groups: &Groups<'_>,
        sums: [[int32x4_t; NV]; MR],
    ) -> [[int32x4_t; NV]; MR] {
        // SAFETY: the caller's promise.
        unsafe { add_quads::<Self, MR, NV, BITS>(groups, sums) }
    }

    #[inline(always)]
    fn dot1(sums: int32x4_t, product: [uint8x16_t; 2]) -> int32x4_t {
        D::dot1(sums, product)
    }

    #[inline(always)]
    fn hold_loads() {
        // SAFETY: no instruction; for the compiler it may write to memory.
        unsafe { core::arch::asm!("", options(nostack, preserves_flags)) }
    }

    #[inline(always)]
    fn interleave([a, b, c, d]: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
        instruction!({
            let low = vreinterpretq_u16_u8(vzip1q_u8(a, b));
            let high = vreinterpretq_u16_u8(vzip2q_u8(a, b));
            let low2 = vreinterpretq_u16_u8(vzip1q_u8(c, d));
            let high2 = vreinterpretq_u16_u8(vzip2q_u8(c, d));
            [
                vreinterpretq_u8_u16(vzip1q_u16(low, low2)),
                vreinterpretq_u8_u16(vzip2q_u16(low, low2)),
                vreinterpretq_u8_u16(vzip1q_u16(high, high2)),
                vreinterpretq_u8_u16(vzip2q_u16(high, high2)),
            ]
        })
    }

    #[inline(always)]
    fn interleave_quarters(rows: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
        // A vector is one quarter.
        Self::interleave(rows)
    }

    #[inline(always)]
    fn to_floats(sums: int32x4_t) -> F32x4 {
        F32x4(instruction!(vcvtq_f32_s32(sums)))
    }

    #[inline(always)]
    fn as_floats(sums: int32x4_t) -> F32x4 {
        F32x4(instruction!(vreinterpretq_f32_s32(sums)))
    }

    #[inline(always)]
    fn max(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        instruction!(vmaxq_u8(a, b))
    }

    #[inline(always)]
    fn min(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        instruction!(vminq_u8(a, b))
    }

    #[inline(always)]
    fn splat(byte: u8) -> uint8x16_t {
        instruction!(vdupq_n_u8(byte))
    }

    #[inline(always)]
    fn pack([a, b, c, d]: [F32x4; 4]) -> uint8x16_t {
        instruction!({
            let low = vqmovn_u32(vcvtnq_u32_f32(a.0));
            let low = vqmovn_high_u32(low, vcvtnq_u32_f32(b.0));
            let high = vqmovn_u32(vcvtnq_u32_f32(c.0));
            let high = vqmovn_high_u32(high, vcvtnq_u32_f32(d.0));
            vqmovn_high_u16(vqmovn_u16(low), high)
        })
    }

    #[inline(always)]
    fn triples(packed: uint8x16_t) -> uint8x16_t {
        const TURN: [u8; 16] = [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11, 12, 13, 14, 15];
        instruction!(vqtbl1q_u8(packed, vld1q_u8(TURN.as_ptr())))
    }

    #[inline(always)]
    fn in_order(packed: uint8x16_t) -> uint8x16_t {
        packed
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const u8) -> F32x4 {
        // SAFETY: the caller's promise; the word is read at any alignment.
        unsafe {
            let none = vreinterpret_u32_u8(vdup_n_u8(0));
            let bytes = vreinterpret_u8_u32(vld1_lane_u32::<0>(from.cast(), none));
            let words = vmovl_u16(vget_low_u16(vmovl_u8(bytes)));
            F32x4(vcvtq_f32_u32(words))
        }
    }

    #[inline(always)]
    unsafe fn store_floats(values: F32x4, to: *mut u8) {
        // SAFETY: the caller's promise; the word is written at any alignment.
        unsafe {
            let low = vqmovn_u32(vcvtnq_u32_f32(values.0));
            let bytes = vqmovn_u16(vcombine_u16(low, low));
            vst1_lane_u32::<0>(to.cast(), vreinterpret_u32_u8(bytes));
        }
    }
}

impl<D: Dot> Quads for Neon<D> {
    type Kept = D::Kept;
    type Inputs = D::Inputs;

    #[inline(always)]
    unsafe fn load_half(from: *const u8) -> uint8x16_t {
        // SAFETY: the caller's promise.
        unsafe {
            let half = vld1_u8(from);
            vcombine_u8(half, half)
        }
    }

    #[inline(always)]
    unsafe fn load_apart(first: *const u8, second: *const u8) -> uint8x16_t {
        // SAFETY: the caller's promise; a lane is read at any alignment.
        unsafe {
            let none = vreinterpret_u32_u8(vdup_n_u8(0));
            let half = vld1_lane_u32::<0>(first.cast(), none);
            let half = vreinterpret_u8_u32(vld1_lane_u32::<1>(second.cast(), half));
            vcombine_u8(half, half)
        }
    }

    #[inline(always)]
    fn inputs<const MR: usize>(mut codes: [uint8x16_t; MR]) -> [D::Inputs; MR] {
        each!(i < MR => codes[i] = Self::shift(codes[i]));
        D::inputs(codes)
    }

    #[inline(always)]
    fn step<const MR: usize, const NV: usize, const HIGH: bool>(
        kept: [[D::Kept; NV]; MR],
        inputs: [D::Inputs; MR],
        weights: [[uint8x16_t; NV]; 2],
    ) -> [[D::Kept; NV]; MR] {
        D::step::<MR, NV, HIGH>(kept, inputs, weights)
    }

    #[inline(always)]
    fn keep<const MR: usize, const NV: usize>(sums: [[int32x4_t; NV]; MR]) -> [[D::Kept; NV]; MR] {
        D::keep(sums)
    }

    #[inline(always)]
    fn give<const MR: usize, const NV: usize>(kept: [[D::Kept; NV]; MR]) -> [[int32x4_t; NV]; MR] {
        D::give(kept)
    }
}
