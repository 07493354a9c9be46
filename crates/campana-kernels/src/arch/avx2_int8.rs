//! Bytes and sums in AVX2 registers.
//!
//! There is no four-way dot product: `pmaddubsw` multiplies and adds pairs in
//! 16 bits (saturating, which [`MAX_PAIR_SUM`](crate::int8::vector::MAX_PAIR_SUM)
//! excludes), `pmaddwd` by ones widens. Two products share one widening: three
//! multiplications for 64 products of bytes, where one widening for each takes
//! four.

use core::arch::x86_64::{
    __m128i, __m256i, _MM_HINT_T1, _mm_loadl_epi64, _mm_loadu_si128, _mm_packs_epi32,
    _mm_packus_epi16, _mm_prefetch, _mm_setr_epi8, _mm_storel_epi64, _mm_storeu_si128,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32,
    _mm256_cvtps_epi32, _mm256_extracti128_si256, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_max_epu8, _mm256_min_epu8, _mm256_packs_epi32,
    _mm256_packus_epi16, _mm256_permutevar8x32_epi32, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_setr_epi32, _mm256_shuffle_epi8, _mm256_srli_epi16,
    _mm256_storeu_si256, _mm256_unpackhi_epi8, _mm256_unpackhi_epi16, _mm256_unpacklo_epi8,
    _mm256_unpacklo_epi16,
};

use crate::arch::avx2::F32x8;
use crate::int8::groups::Groups;
use crate::int8::steps::add_steps;
use crate::int8::vector::{Int8, Int8Kernel, MAX_PANEL_VECTORS};

/// Compiles a kernel with AVX2 and FMA, and runs it.
///
/// # Safety
///
/// The processor has both, and what the kernel requires of its fields holds.
#[inline(never)]
#[target_feature(enable = "avx2,fma")]
pub(crate) unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
    // SAFETY: the caller's promise.
    unsafe { kernel.run::<Avx2>() }
}

/// The integer vectors of AVX2.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

/// Calls intrinsics that need nothing but their instruction.
macro_rules! instruction {
    ($($call:tt)*) => {
        // SAFETY: methods of `Avx2` run only below `run`, whose caller promised AVX2 and FMA.
        unsafe { $($call)* }
    };
}

impl Int8 for Avx2 {
    const BYTES: usize = 32;
    const EXACT: bool = false;
    const TILE_ROWS: [usize; MAX_PANEL_VECTORS] = [4, 4, 0, 0];

    #[inline(always)]
    unsafe fn run<K: Int8Kernel>(kernel: K) -> K::Output {
        // SAFETY: the caller's promise; whoever calls proved the instructions.
        unsafe { run(kernel) }
    }

    type Bytes = __m256i;
    type Sums = __m256i;
    type Floats = F32x8;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store(bytes: __m256i, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), bytes) }
    }

    #[inline(always)]
    unsafe fn store_first(bytes: __m256i, to: *mut u8, len: usize) {
        let mut all = [0u8; 32];
        // SAFETY: the caller's promise; `all` holds a vector.
        unsafe {
            match len {
                32 => Self::store(bytes, to),
                16 => _mm_storeu_si128(to.cast(), _mm256_castsi256_si128(bytes)),
                8 => _mm_storel_epi64(to.cast(), _mm256_castsi256_si128(bytes)),
                _ => {
                    Self::store(bytes, all.as_mut_ptr());
                    core::ptr::copy_nonoverlapping(all.as_ptr(), to, len);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn broadcast4(from: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    unsafe fn table(from: *const u8) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    fn lookup<const SHIFT: i32, const MASK: u8>(table: __m256i, codes: __m256i) -> __m256i {
        instruction!({
            let mask = _mm256_set1_epi8(MASK.cast_signed());
            _mm256_shuffle_epi8(
                table,
                _mm256_and_si256(_mm256_srli_epi16::<SHIFT>(codes), mask),
            )
        })
    }

    #[inline(always)]
    unsafe fn load_sums(from: *const i32) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(from.cast()) }
    }

    #[inline(always)]
    unsafe fn store_sums(sums: __m256i, to: *mut i32) {
        // SAFETY: the caller's promise.
        unsafe { _mm256_storeu_si256(to.cast(), sums) }
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
    fn dot2(sums: __m256i, [a, w]: [__m256i; 2], [b, v]: [__m256i; 2]) -> __m256i {
        instruction!({
            let pairs = _mm256_add_epi16(_mm256_maddubs_epi16(a, w), _mm256_maddubs_epi16(b, v));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }

    #[inline(always)]
    fn dot1(sums: __m256i, [a, w]: [__m256i; 2]) -> __m256i {
        instruction!({
            let pairs = _mm256_maddubs_epi16(a, w);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        })
    }

    #[inline(always)]
    fn prefetch(at: *const u8) {
        instruction!(_mm_prefetch::<_MM_HINT_T1>(at.cast()));
    }

    #[inline(always)]
    fn interleave(rows: [__m256i; 4]) -> [__m256i; 4] {
        instruction!({
            // In the order that unpacking halves turns into that of the rows.
            let order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
            let rows = [
                _mm256_permutevar8x32_epi32(rows[0], order),
                _mm256_permutevar8x32_epi32(rows[1], order),
                _mm256_permutevar8x32_epi32(rows[2], order),
                _mm256_permutevar8x32_epi32(rows[3], order),
            ];
            Self::interleave_quarters(rows)
        })
    }

    #[inline(always)]
    fn interleave_quarters(rows: [__m256i; 4]) -> [__m256i; 4] {
        instruction!({
            let low = _mm256_unpacklo_epi8(rows[0], rows[1]);
            let high = _mm256_unpackhi_epi8(rows[0], rows[1]);
            let low2 = _mm256_unpacklo_epi8(rows[2], rows[3]);
            let high2 = _mm256_unpackhi_epi8(rows[2], rows[3]);
            [
                _mm256_unpacklo_epi16(low, low2),
                _mm256_unpackhi_epi16(low, low2),
                _mm256_unpacklo_epi16(high, high2),
                _mm256_unpackhi_epi16(high, high2),
            ]
        })
    }

    #[inline(always)]
    fn to_floats(sums: __m256i) -> F32x8 {
        F32x8(instruction!(_mm256_cvtepi32_ps(sums)))
    }

    #[inline(always)]
    fn as_floats(sums: __m256i) -> F32x8 {
        F32x8(instruction!(_mm256_castsi256_ps(sums)))
    }

    #[inline(always)]
    fn max(a: __m256i, b: __m256i) -> __m256i {
        instruction!(_mm256_max_epu8(a, b))
    }

    #[inline(always)]
    fn min(a: __m256i, b: __m256i) -> __m256i {
        instruction!(_mm256_min_epu8(a, b))
    }

    #[inline(always)]
    fn splat(byte: u8) -> __m256i {
        instruction!(_mm256_set1_epi8(byte.cast_signed()))
    }

    #[inline(always)]
    fn pack(values: [F32x8; 4]) -> __m256i {
        instruction!({
            let [a, b, c, d] = values;
            let [a, b] = [_mm256_cvtps_epi32(a.0), _mm256_cvtps_epi32(b.0)];
            let [c, d] = [_mm256_cvtps_epi32(c.0), _mm256_cvtps_epi32(d.0)];
            _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d))
        })
    }

    #[inline(always)]
    fn triples(packed: __m256i) -> __m256i {
        instruction!({
            let turn = _mm_setr_epi8(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11, -1, -1, -1, -1);
            let triples = _mm256_shuffle_epi8(packed, _mm256_broadcastsi128_si256(turn));
            _mm256_permutevar8x32_epi32(triples, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 3))
        })
    }

    #[inline(always)]
    fn in_order(packed: __m256i) -> __m256i {
        instruction!(_mm256_permutevar8x32_epi32(
            packed,
            _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7)
        ))
    }

    #[inline(always)]
    unsafe fn load_floats(from: *const u8) -> F32x8 {
        // SAFETY: the caller's promise.
        let wide = unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())) };
        F32x8(instruction!(_mm256_cvtepi32_ps(wide)))
    }

    #[inline(always)]
    unsafe fn store_floats(values: F32x8, to: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe {
            let whole = _mm256_cvtps_epi32(values.0);
            let low: __m128i = _mm256_castsi256_si128(whole);
            let high = _mm256_extracti128_si256::<1>(whole);
            let words = _mm_packs_epi32(low, high);
            _mm_storel_epi64(to.cast(), _mm_packus_epi16(words, words));
        }
    }
}
