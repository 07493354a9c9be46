//! Count, mean, variance, kurtosis and range of a slice of weights.

use rayon::prelude::*;

use campana_codebook::vectorized;

/// Weights whose central moments are taken about their own mean: 16 KiB, so
/// that the second pass over a block reads the first-level cache.
const BLOCK: usize = 4096;

/// Weights that one parallel task takes. Fixed, so that the order of every
/// floating-point operation is the same for any number of threads.
const TASK: usize = 64 * BLOCK;

/// Accumulators that run side by side: two AVX2 registers of `f64`.
const LANES: usize = 8;

/// Count, mean, central moments and range of a slice of weights.
///
/// Infinities and NaN are counted and left out of every other field. Without
/// any finite weight, all fields but [`non_finite`](Self::non_finite) are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    /// Number of finite weights.
    pub count: u64,
    /// Number of infinities and NaN.
    pub non_finite: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// Population variance, the mean squared deviation from the mean; exactly
    /// 0 if and only if all weights are equal.
    pub variance: f64,
    /// Fourth standardized moment `m4 / m2^2`: 3 for a Gaussian, 6 for a
    /// Laplace density; 0 where the variance is 0.
    pub kurtosis: f64,
    /// Smallest weight.
    pub min: f32,
    /// Largest weight.
    pub max: f32,
    /// Mean of the squares, the signal power of an SQNR.
    pub mean_square: f64,
}

impl Moments {
    /// Computes the moments of `weights` in one pass over memory.
    ///
    /// Blocks are centred on their own means and merged pairwise in order
    /// (Pébay 2008), so that neither a large common offset nor a tensor whose
    /// parts differ costs digits, and the result does not depend on the number
    /// of threads. No finite input overflows.
    ///
    /// # References
    ///
    /// P. Pébay, "Formulas for robust, one-pass parallel computation of
    /// covariances and arbitrary-order statistical moments", Sandia report
    /// SAND2008-6212, 2008.
    pub fn of(weights: &[f32]) -> Self {
        // Means are kept as distances from one weight, so that a large common
        // offset does not round them.
        let origin = weights
            .iter()
            .copied()
            .find(|x| x.is_finite())
            .map_or(0.0, f64::from);
        let sums = if weights.len() <= TASK {
            Sums::of_task(weights, origin)
        } else {
            let tasks: Vec<Sums> = weights
                .par_chunks(TASK)
                .map(|task| Sums::of_task(task, origin))
                .collect();
            merge_in_pairs(&tasks)
        };
        sums.into_moments(origin)
    }

    /// Population standard deviation.
    pub fn std(&self) -> f64 {
        self.variance.sqrt()
    }

    /// Largest magnitude, 0 without any weight.
    pub fn max_abs(&self) -> f32 {
        self.min.abs().max(self.max.abs())
    }

    /// Whether all finite weights are equal, which holds for none and one too.
    pub fn is_constant(&self) -> bool {
        self.min == self.max
    }
}

/// Central sums of a run of weights; `mean` is a distance from the slice's
/// origin, `m2` the sum of squared deviations from the mean, and so on.
#[derive(Clone, Copy)]
struct Sums {
    count: u64,
    non_finite: u64,
    mean: f64,
    m2: f64,
    m3: f64,
    m4: f64,
    min: f32,
    max: f32,
}

impl Sums {
    const EMPTY: Self = Self {
        count: 0,
        non_finite: 0,
        mean: 0.0,
        m2: 0.0,
        m3: 0.0,
        m4: 0.0,
        min: f32::INFINITY,
        max: f32::NEG_INFINITY,
    };

    fn of_task(weights: &[f32], origin: f64) -> Self {
        if weights.len() <= BLOCK {
            return vectorized(
                #[inline(always)]
                || Self::of_block(weights, origin),
            );
        }
        vectorized(
            #[inline(always)]
            || {
                let mut blocks = [Self::EMPTY; TASK / BLOCK];
                for (sums, block) in blocks.iter_mut().zip(weights.chunks(BLOCK)) {
                    *sums = Self::of_block(block, origin);
                }
                merge_in_pairs(&blocks[..weights.len().div_ceil(BLOCK)])
            },
        )
    }

    #[inline(always)]
    fn of_block(block: &[f32], origin: f64) -> Self {
        let (groups, rest) = block.as_chunks::<LANES>();
        let mut sum = [0.0f64; LANES];
        for group in groups {
            for lane in 0..LANES {
                sum[lane] += f64::from(group[lane]);
            }
        }
        for (sum, &x) in sum.iter_mut().zip(rest) {
            *sum += f64::from(x);
        }
        // A sum of finite `f32` cannot overflow, so this finds every infinity
        // and NaN at no cost per weight.
        let total = add_lanes(sum);
        if !total.is_finite() {
            return Self::of_block_with_non_finite(block, origin);
        }
        let count = block.len() as f64;
        let centre = total / count;

        let mut s1 = [0.0f64; LANES];
        let mut s2 = [0.0f64; LANES];
        let mut s3 = [0.0f64; LANES];
        let mut s4 = [0.0f64; LANES];
        for group in groups {
            for lane in 0..LANES {
                let d = f64::from(group[lane]) - centre;
                let square = d * d;
                s1[lane] += d;
                s2[lane] += square;
                s3[lane] += square * d;
                s4[lane] += square * square;
            }
        }
        for (lane, &x) in rest.iter().enumerate() {
            let d = f64::from(x) - centre;
            let square = d * d;
            s1[lane] += d;
            s2[lane] += square;
            s3[lane] += square * d;
            s4[lane] += square * square;
        }
        let (min, max) = range(block);
        let mut sums = Self {
            count: block.len() as u64,
            non_finite: 0,
            mean: (centre - origin) + add_lanes(s1) / count,
            m2: add_lanes(s2),
            m3: add_lanes(s3),
            m4: add_lanes(s4),
            min,
            max,
        };
        if block.is_empty() {
            sums = Self::EMPTY;
        } else if sums.min == sums.max {
            // The mean of equal weights may round; the weight itself does not.
            sums.mean = f64::from(sums.min) - origin;
            (sums.m2, sums.m3, sums.m4) = (0.0, 0.0, 0.0);
        }
        sums
    }

    #[cold]
    fn of_block_with_non_finite(block: &[f32], origin: f64) -> Self {
        let finite: Vec<f32> = block.iter().copied().filter(|x| x.is_finite()).collect();
        Self {
            non_finite: (block.len() - finite.len()) as u64,
            ..Self::of_block(&finite, origin)
        }
    }

    #[inline(always)]
    fn merge(self, other: Self) -> Self {
        let non_finite = self.non_finite + other.non_finite;
        if self.count == 0 {
            return Self {
                non_finite,
                ..other
            };
        }
        if other.count == 0 {
            return Self { non_finite, ..self };
        }
        let (na, nb) = (self.count as f64, other.count as f64);
        let n = na + nb;
        let d = other.mean - self.mean;
        let (wa, wb) = (na / n, nb / n);
        let between = d * d * na * wb;
        let m3 =
            self.m3 + other.m3 + between * d * (wa - wb) + 3.0 * d * (wa * other.m2 - wb * self.m2);
        let m4 = self.m4
            + other.m4
            + between * d * d * (wa * wa - wa * wb + wb * wb)
            + 6.0 * d * d * (wa * wa * other.m2 + wb * wb * self.m2)
            + 4.0 * d * (wa * other.m3 - wb * self.m3);
        Self {
            count: self.count + other.count,
            non_finite,
            mean: self.mean + d * wb,
            m2: self.m2 + other.m2 + between,
            m3,
            m4,
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    fn into_moments(self, origin: f64) -> Moments {
        if self.count == 0 {
            return Moments {
                non_finite: self.non_finite,
                ..Moments::default()
            };
        }
        let count = self.count as f64;
        let mean = origin + self.mean;
        let variance = self.m2 / count;
        let kurtosis = if variance > 0.0 {
            self.m4 / count / (variance * variance)
        } else {
            0.0
        };
        Moments {
            count: self.count,
            non_finite: self.non_finite,
            mean,
            variance,
            kurtosis,
            min: self.min,
            max: self.max,
            mean_square: variance + mean * mean,
        }
    }
}

/// Adds neighbours first, which keeps the rounding error logarithmic in the
/// number of runs and the order independent of the number of threads.
#[inline(always)]
fn merge_in_pairs(runs: &[Sums]) -> Sums {
    // Partial sums of 2^level runs, as in a binary counter.
    let mut partial = [Sums::EMPTY; usize::BITS as usize];
    for (index, &run) in runs.iter().enumerate() {
        let mut sums = run;
        let level = (index + 1).trailing_zeros() as usize;
        for slot in &mut partial[..level] {
            sums = std::mem::replace(slot, Sums::EMPTY).merge(sums);
        }
        partial[level] = sums;
    }
    partial
        .into_iter()
        .fold(Sums::EMPTY, |later, earlier| earlier.merge(later))
}

/// Smallest and largest weight of a finite block, in a loop of its own: beside
/// sums in `f64` it would not be vectorized.
#[inline(always)]
fn range(block: &[f32]) -> (f32, f32) {
    const LANES: usize = 32;
    let mut min = [f32::INFINITY; LANES];
    let mut max = [f32::NEG_INFINITY; LANES];
    let (groups, rest) = block.as_chunks::<LANES>();
    for group in groups {
        for lane in 0..LANES {
            min[lane] = if group[lane] < min[lane] {
                group[lane]
            } else {
                min[lane]
            };
            max[lane] = if group[lane] > max[lane] {
                group[lane]
            } else {
                max[lane]
            };
        }
    }
    let rest_min = rest.iter().copied().fold(f32::INFINITY, f32::min);
    let rest_max = rest.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (
        min.into_iter().fold(rest_min, f32::min),
        max.into_iter().fold(rest_max, f32::max),
    )
}

/// Not inlined: the compiler would otherwise cut the accumulators of the loops
/// before it into half registers, to suit the additions here.
#[inline(never)]
fn add_lanes(lanes: [f64; LANES]) -> f64 {
    let mut pairs = [0.0; LANES / 2];
    for i in 0..LANES / 2 {
        pairs[i] = lanes[i] + lanes[i + LANES / 2];
    }
    (pairs[0] + pairs[2]) + (pairs[1] + pairs[3])
}

#[cfg(test)]
mod tests;
