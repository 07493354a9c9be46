//! Equally wide buckets over a range of weights, and counting into them.

use rayon::prelude::*;

use crate::moments::Moments;
use crate::order::{from_key, key};
use campana_codebook::vectorized;

/// Half the range of the buckets in standard deviations; weights beyond it are
/// in the first and the last bucket. Wide enough that those two hold less than
/// any D of interest, narrow enough not to waste buckets on outliers.
const HALF_RANGE_STD: f64 = 6.0;

/// Weights located at a time, so that the arithmetic is vectorized apart from
/// the scattered counting.
const BLOCK: usize = 512;

/// Weights counted into 32-bit counters before these are added to 64-bit ones.
const MAX_COUNTED: usize = 1 << 31;

/// Up to this many buckets the nearest cache holds 32-bit counters.
const MAX_PLAIN: usize = 1 << 12;

/// Copies of the counters at most: more threads share them no further, to keep
/// memory low.
const MAX_COPIES: usize = 8;

/// Equally wide buckets; the first and the last are open to infinity.
///
/// The bucket of a weight is computed in `f32` by operations that each are
/// monotone, hence a bucket is exactly an interval of floats, if not exactly of
/// the nominal width.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grid {
    lowest: f32,
    per_unit: f32,
    last: f32,
    buckets: usize,
}

impl Grid {
    /// A grid of `buckets` (a power of two, at most 2^22) for weights of these
    /// moments.
    pub(crate) fn new(moments: &Moments, buckets: usize) -> Self {
        assert!(buckets.is_power_of_two() && (2..=1 << 22).contains(&buckets));
        let half_range = HALF_RANGE_STD * moments.std();
        let lowest = (moments.mean - half_range).max(f64::from(moments.min));
        let highest = (moments.mean + half_range).min(f64::from(moments.max));
        let last = (buckets - 1) as f64;
        Self {
            lowest: lowest as f32,
            per_unit: (last / (highest - lowest)) as f32,
            last: last as f32,
            buckets,
        }
    }

    pub(crate) fn buckets(&self) -> usize {
        self.buckets
    }

    /// The bucket of `x`: rises with `x` in total order, 0 for NaN.
    #[inline(always)]
    pub(crate) fn bucket(&self, x: f32) -> u32 {
        /// Floats from here to twice as much are consecutive integers.
        const INTEGERS: f32 = 8_388_608.0;
        let position = (x - self.lowest) * self.per_unit;
        // Written so that NaN (0 times infinity in a tiny range) becomes 0.
        let position = if position > 0.0 { position } else { 0.0 };
        let position = if position < self.last {
            position
        } else {
            self.last
        };
        (position + INTEGERS).to_bits() - INTEGERS.to_bits()
    }

    /// Key of the lowest float of bucket `index`, or of none below
    /// infinity where `index` is the number of buckets.
    pub(crate) fn first_key(&self, index: usize) -> u32 {
        if index == 0 {
            return key(f32::NEG_INFINITY);
        }
        if index >= self.buckets {
            return key(f32::INFINITY);
        }
        // Where buckets are as even as they should be, the edge lies in this
        // bracket; otherwise it is looked for among all floats.
        let near = |offset: f64| {
            let position = (index as f64 - 0.5 + offset) / f64::from(self.per_unit);
            key((f64::from(self.lowest) + position) as f32)
        };
        let reaches = |key: u32| self.bucket(from_key(key)) as usize >= index;
        let (mut below, mut at) = (near(-1.0), near(1.0));
        if reaches(below) || !reaches(at) {
            (below, at) = (key(f32::NEG_INFINITY), key(f32::INFINITY));
        }
        while at - below > 1 {
            let middle = below + (at - below) / 2;
            if reaches(middle) {
                at = middle;
            } else {
                below = middle;
            }
        }
        at
    }

    /// Number of weights below each bucket; one more entry than buckets, the
    /// last is the number of weights.
    pub(crate) fn count_below(&self, weights: &[f32]) -> Vec<u64> {
        let copies = rayon::current_num_threads().clamp(1, MAX_COPIES);
        let share = weights.len().div_ceil(copies).clamp(1 << 18, MAX_COUNTED);
        let mut below = vec![0u64; self.buckets + 1];
        for round in weights.chunks(share.saturating_mul(copies)) {
            let counts: Vec<Vec<u32>> = round
                .par_chunks(share)
                .map(|share| self.count(share))
                .collect();
            for counts in counts {
                for (below, count) in below[1..].iter_mut().zip(counts) {
                    *below += u64::from(count);
                }
            }
        }
        let mut sum = 0;
        for below in &mut below {
            sum += *below;
            *below = sum;
        }
        below
    }

    /// Counts in bytes, which take a quarter of the cache, and carries into
    /// wider counters: 1.4 times as fast as the latter alone for 2^20 buckets.
    fn count(&self, weights: &[f32]) -> Vec<u32> {
        if self.buckets <= MAX_PLAIN {
            return self.count_plainly(weights);
        }
        let mut low = vec![0u8; self.buckets];
        let mut high = vec![0u32; self.buckets];
        vectorized(
            #[inline(always)]
            || {
                let mut located = [0u32; BLOCK];
                for block in weights.chunks(BLOCK) {
                    self.locate(block, &mut located);
                    for &bucket in &located[..block.len()] {
                        // The mask changes nothing; it spares a bounds check.
                        let bucket = bucket as usize & (low.len() - 1);
                        low[bucket] = low[bucket].wrapping_add(1);
                        if low[bucket] == 0 {
                            high[bucket] += 256;
                        }
                    }
                }
            },
        );
        for (high, low) in high.iter_mut().zip(low) {
            *high += u32::from(low);
        }
        high
    }

    fn count_plainly(&self, weights: &[f32]) -> Vec<u32> {
        let mut counts = [0u32; MAX_PLAIN];
        vectorized(
            #[inline(always)]
            || {
                let mut located = [0u32; BLOCK];
                for block in weights.chunks(BLOCK) {
                    self.locate(block, &mut located);
                    for &bucket in &located[..block.len()] {
                        // The mask changes nothing; it spares a bounds check.
                        counts[bucket as usize & (MAX_PLAIN - 1)] += 1;
                    }
                }
            },
        );
        counts[..self.buckets].to_vec()
    }

    #[inline(always)]
    pub(crate) fn locate(&self, weights: &[f32], buckets: &mut [u32]) {
        for (bucket, &x) in buckets.iter_mut().zip(weights) {
            *bucket = self.bucket(x);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, SHAPES};

    #[test]
    fn edges_separate_the_buckets_exactly() {
        for shape in SHAPES {
            let weights = samples::draw(shape, 5000, 5);
            let grid = Grid::new(&Moments::of(&weights), 256);
            for index in 1..grid.buckets() {
                let edge = grid.first_key(index);
                assert!(grid.bucket(from_key(edge)) as usize >= index);
                assert!((grid.bucket(from_key(edge - 1)) as usize) < index);
            }
        }
    }

    #[test]
    fn counts_equal_a_plain_count_of_smaller_weights() {
        for shape in SHAPES {
            let weights = samples::draw(shape, 700_000, 6);
            let grid = Grid::new(&Moments::of(&weights), 64);
            let below = grid.count_below(&weights);
            for (index, &found) in below.iter().enumerate().take(64).skip(1) {
                let edge = grid.first_key(index);
                let expected = weights.iter().filter(|&&x| key(x) < edge).count();
                assert_eq!(found, expected as u64, "{shape:?} {index}");
            }
            assert_eq!((below[0], below[64]), (0, weights.len() as u64));
        }
    }

    #[test]
    fn extreme_ranges_stay_in_order() {
        let tiny = f32::from_bits(1);
        let cases: [&[f32]; 4] = [
            &[f32::MIN, 0.0, f32::MAX],
            &[-tiny, 0.0, tiny],
            &[1e30, 1.0000001e30, 3e38],
            &[-1e-30, 1e30],
        ];
        for weights in cases {
            let grid = Grid::new(&Moments::of(weights), 1024);
            let located = weights.iter().map(|&x| grid.bucket(x)).collect::<Vec<_>>();
            assert!(located.is_sorted(), "{located:?}");
            assert!(located.iter().all(|&bucket| bucket < 1024));
        }
    }
}
