//! Bytes and sums in AVX-512 registers.
//!
//! `vpdpbusd` sums four products in 32 bits, so weights need no pairing, and
//! `vpermb` looks up codes by their low six bits: a table that repeats itself
//! needs no mask. 32 registers hold the sums of 6 rows and 64 columns.

use core::arch::x86_64::{
    __m512i, _MM_HINT_T1, _mm_cvtsi32_si128, _mm_loadu_si128, _mm_mask_storeu_epi8,
    _mm_maskz_loadu_epi8, _mm_prefetch, _mm_setr_epi8, _mm_storeu_si128, _mm512_broadcast_i32x4,
    _mm512_castsi512_ps, _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32,
    _mm512_cvtps_epi32, _mm512_dpbusd_epi32, _mm512_loadu_si512, _mm512_mask_storeu_epi8,
    _mm512_maskz_loadu_epi8, _mm512_max_epu8, _mm512_min_epu8, _mm512_packs_epi32,
    _mm512_packus_epi16, _mm512_permutexvar_epi8, _mm512_permutexvar_epi32, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_setr_epi32, _mm512_shuffle_epi8, _mm512_srl_epi16,
    _mm512_storeu_si512, _mm512_unpackhi_epi8, _mm512_unpackhi_epi16, _mm512_unpacklo_epi8,
    _mm512_unpacklo_epi16,
};

use crate::arch::avx512::F32x16;
use crate::int8::groups::Groups;
use crate::int8::steps::add_steps;
use crate::int8::vector::{Int8, Int8Kernel, MAX_PANEL_VECTORS};

/// Compiles a kernel with AVX-512, and runs it.
///
/// # Safety
///
/// The processor has what is enabled here, and what the kernel requires of its
/// fields holds.
#[inline(never)]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vnni")]
pub(crate) unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<Avx512>() }
}

/// The integer vectors of AVX-512 with byte, VBMI and VNNI instructions.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

/// Calls intrinsics that need nothing but their instruction.
macro_rules! instruction {
    ($($call:tt)*) => {
        // SAFETY: methods of `Avx512` run only below `run`, whose caller promised the instructions.
        unsafe { $($call)* }
    };
}

/// The mask of the first `len` of up to 64 lanes.
#[inline(always)]
fn first(len: usize) -> u64 {
    if len == 0 { 0 } else { u64::MAX >> (64 - len) }
}

impl Int8 for Avx512 {
    const BYTES: usize = 64;
    const EXACT: bool = true;
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS] = [14, 12, 8, 6];

    #[inline(always)]
    unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's promise; whoever calls proved the instructions.
        unsafe { run(kernel) }
    }

    type Bytes = __m512i;
    type Sums = __m512i;
    type Floats = F32x16;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_first(from: *const u8, len: usize) -> __m512i {
        // SAFETY: the caller's promise; lanes beyond the mask are not read.
        unsafe { _mm512_maskz_loadu_epi8(first(len), from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(bytes: __m512i, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast(), bytes) }
    }

    #[inline(always)]
    unsafe fn store_first(bytes: __m512i, to: *mut u8, len: usize) {
        // SAFETY: the caller's promise; lanes beyond the mask are not written.
        unsafe { _mm512_mask_storeu_epi8(to.cast(), first(len), bytes) }
    }

    #[inline(always)]
    unsafe fn broadcast4(from: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn table(from: *const u8) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    fn lookup<const SHIFT: i32, const MASK: u8>(table: __m512i, codes: __m512i) -> __m512i {
        instruction!({
            let codes = _mm512_srl_epi16(codes, _mm_cvtsi32_si128(SHIFT));
            _mm512_permutexvar_epi8(codes, table)
        })
    }

    #[inline(always)]
    unsafe fn load_sums(from: *const i32) -> __m512i {
        // SAFETY: the caller's promise.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_sums(sums: __m512i, to: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast(), sums) }
    }

    #[inline(always)]
    unsafe fn add_products<const MR: usize, const NV: usize, const BITS: u8>(
        groups: &Groups<'_>,
        sums: [[Self::Sums; NV]; MR],
    ) -> [[Self::Sums; NV]; MR] {
        // SAFETY: the caller's promise.
        unsafe { add_steps::<Self, MR, NV, BITS>(groups, sums) }
    }

    #[inline(always)]
    fn dot1(sums: __m512i, [a, w]: [__m512i; 2]) -> __m512i {
        instruction!(_mm512_dpbusd_epi32(sums, a, w))
    }

    #[inline(always)]
    fn prefetch(at: *const u8) {
        instruction!(_mm_prefetch::<_MM_HINT_T1>(at.cast()));
    }

    #[inline(always)]
    fn hold_loads() {
        // SAFETY: no instruction; for the compiler it may write to memory.
        unsafe { core::arch::asm!("", options(nostack, preserves_flags)) }
    }

    #[inline(always)]
    fn interleave(rows: [__m512i; 4]) -> [__m512i; 4] {
        instruction!({
            // In the order that unpacking quarters turns into that of the rows.
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            let rows = [
                _mm512_permutexvar_epi32(order, rows[0]),
                _mm512_permutexvar_epi32(order, rows[1]),
                _mm512_permutexvar_epi32(order, rows[2]),
                _mm512_permutexvar_epi32(order, rows[3]),
            ];
            Self::interleave_quarters(rows)
        })
    }

    #[inline(always)]
    fn interleave_quarters(rows: [__m512i; 4]) -> [__m512i; 4] {
        instruction!({
            let low = _mm512_unpacklo_epi8(rows[0], rows[1]);
            let high = _mm512_unpackhi_epi8(rows[0], rows[1]);
            let low2 = _mm512_unpacklo_epi8(rows[2], rows[3]);
            let high2 = _mm512_unpackhi_epi8(rows[2], rows[3]);
            [
                _mm512_unpacklo_epi16(low, low2),
                _mm512_unpackhi_epi16(low, low2),
                _mm512_unpacklo_epi16(high, high2),
                _mm512_unpackhi_epi16(high, high2),
            ]
        })
    }

    #[inline(always)]
    fn to_floats(sums: __m512i) -> F32x16 {
        F32x16(instruction!(_mm512_cvtepi32_ps(sums)))
    }

    #[inline(always)]
    fn as_floats(sums: __m512i) -> F32x16 {
        F32x16(instruction!(_mm512_castsi512_ps(sums)))
    }

    #[inline(always)]
    fn max(a: __m512i, b: __m512i) -> __m512i {
        instruction!(_mm512_max_epu8(a, b))
    }

    #[inline(always)]
    fn min(a: __m512i, b: __m512i) -> __m512i {
        instruction!(_mm512_min_epu8(a, b))
    }

    #[inline(always)]
    fn splat(byte: u8) -> __m512i {
        instruction!(_mm512_set1_epi8(byte.cast_signed()))
    }

    #[inline(always)]
    fn pack([a, b, c, d]: [F32x16; 4]) -> __m512i {
        instruction!({
            let [a, b] = [_mm512_cvtps_epi32(a.0), _mm512_cvtps_epi32(b.0)];
            let [c, d] = [_mm512_cvtps_epi32(c.0), _mm512_cvtps_epi32(d.0)];
            _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d))
        })
    }

    #[inline(always)]
    fn triples(packed: __m512i) -> __m512i {
        instruction!({
            let turn = _mm_setr_epi8(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11, -1, -1, -1, -1);
            let triples = _mm512_shuffle_epi8(packed, _mm512_broadcast_i32x4(turn));
            let order = _mm512_setr_epi32(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 3, 3, 3, 3);
            _mm512_permutexvar_epi32(order, triples)
        })
    }

    #[inline(always)]
    fn in_order(packed: __m512i) -> __m512i {
        instruction!({
            let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
            _mm512_permutexvar_epi32(order, packed)
        })
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const u8) -> F32x16 {
        // SAFETY: the caller's promise.
        let wide = unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())) };
        F32x16(instruction!(_mm512_cvtepi32_ps(wide)))
    }

    #[inline(always)]
    unsafe fn load_first_floats(from: *const u8, len: usize) -> F32x16 {
        // SAFETY: the caller's promise; lanes beyond the mask are not read.
        unsafe {
            let bytes = _mm_maskz_loadu_epi8(first(len) as u16, from.cast());
            F32x16(_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes)))
        }
    }

    #[inline(always)]
    unsafe fn store_floats(values: F32x16, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(values.0));
            _mm_storeu_si128(to.cast(), bytes);
        }
    }

    #[inline(always)]
    unsafe fn store_first_floats(values: F32x16, to: *mut u8, len: usize) {
        // SAFETY: the caller's promise; lanes beyond the mask are not written.
        unsafe {
            let bytes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(values.0));
            _mm_mask_storeu_epi8(to.cast(), first(len) as u16, bytes);
        }
    }
}
