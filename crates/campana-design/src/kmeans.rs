//! The levels of least squared error for given weights: one-dimensional
//! k-means, solved globally.
//!
//! In one dimension an optimal cell is an interval, so the thresholds follow
//! from dynamic programming over the ascending weights: with the best way to
//! cut the first `l` weights into `j - 1` cells known for all `l`, the best
//! way to cut the first `i` into `j` ends with a cell `l..i`. The last cut is
//! monotone in `i` and in `j`, which divide and conquer uses: O(n log n) for a
//! level.
//!
//! Up to [`MAX_EXACT_STEPS`] steps this is done on the weights themselves. For
//! more, it is first done with cuts at some of the positions alone, and then
//! with each cut at some of the positions in a band around where it was, in
//! ever smaller steps and narrower bands, until every position counts and
//! nothing is gained. The first stage bounds the excess: moving each cut of an
//! optimum to the nearest allowed position costs at most
//!
//! ```text
//! sum over cuts of m h gap  <=  max(m h) * (largest - smallest weight)
//! ```
//!
//! for m weights of width h between neighbouring positions and the distance
//! `gap` of the two levels at the cut. No later stage raises the error, and in
//! practice the last one finds the optimum.
//!
//! # References
//!
//! X. Wu, "Optimal quantization by matrix searching", Journal of Algorithms
//! 12(4), 1991, doi:10.1016/0196-6774(91)90039-2. A. Grønlund, K. G. Larsen,
//! A. Mathiasen, J. S. Nielsen, S. Schneider, M. Song, "Fast exact k-means,
//! k-medians and Bregman divergence clustering in 1D", arXiv:1701.07204, 2017.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use crate::Empirical;

/// Steps (levels x weights x log2 of the weights) up to which all cuts are
/// tried: about 20 ms.
const MAX_EXACT_STEPS: usize = 1 << 23;

/// How far and finely the stages look.
struct Effort {
    /// Steps of the first stage, which decide how many positions it tries.
    coarse_steps: usize,
    /// Positions for each level in the first stage at least, spread by number and
    /// by value alike.
    min_coarse_positions_per_level: usize,
    /// How many positions of the first stage a cut may move in the second.
    coarse_reach: usize,
    /// How many steps of one later stage a cut may move in the next.
    step_reach: usize,
}

/// What finds the optimum in practice.
///
/// A cut may first move about eight cells of as few positions as there can be.
/// Two cells were too few for one tensor of a real network at 8 bits (8.9e-5
/// above the optimum), four for another at 6 bits (2.1e-5). With half as many
/// positions and steps a third tensor, at 8 bits, stayed 1.9e-6 above it.
///
/// A later stage leaves each cut within about half a step of where its
/// neighbours want it. The error of k cuts is like the energy of a chain of
/// springs, the softest shift of which costs a `(pi / 2 k)^2`th of the stiffest:
/// what half a step each costs may be spent on one shift of k / pi steps, 82
/// for 256 levels.
const THOROUGH: Effort = Effort {
    coarse_steps: 1 << 22,
    min_coarse_positions_per_level: 12,
    coarse_reach: 384,
    step_reach: 512,
};

/// Buckets of the weights for the quick way.
const BUCKETS_PER_LEVEL: usize = 128;

/// Few positions, and a cell to either side: half a thousandth above the optimum
/// at 4 to 64 levels of 4,096 Gaussian or Laplace weights. Four times as many
/// positions and reach gain nearly all of it back and take twice as long.
///
/// The first stage takes most of the time. Beginning where the density of the
/// weights puts the cuts (Panter and Dite 1951), and moving them by two cells
/// until none moves, takes half of it, but ends up to 0.1 % above on some shapes
/// at 12 levels and 3 % at 64.
const NEARLY: Effort = Effort {
    coarse_steps: 0,
    min_coarse_positions_per_level: 3,
    coarse_reach: 6,
    step_reach: 2,
};

/// Positions in the band of a cut, for each step that it may move in the next
/// stage: the step shrinks to a quarter.
const BAND_POSITIONS_PER_REACH: usize = 8;

/// Passes of the stages after the first.
const MAX_PASSES: usize = 24;

/// Relative drop of the squared error that is worth another pass.
const MIN_GAIN: f64 = 1e-12;

/// Ends of a layer from which it is worth another thread.
const MIN_PARALLEL: usize = 1 << 13;

/// What k-means found.
#[derive(Clone, Debug, PartialEq)]
pub struct KMeans {
    /// The levels, ascending, each the mean of its cell; fewer than asked for
    /// where there are fewer distinct weights.
    pub levels: Vec<f64>,
    /// The sum of squared errors is at most this much above the optimum; 0
    /// where the solution is exact.
    pub excess_bound: f64,
}

/// The levels of least squared error for these weights; none where there are
/// no finite weights.
pub fn kmeans_levels(weights: &[f32], levels: usize) -> Vec<f64> {
    kmeans(&Empirical::of(weights), levels).levels
}

/// At most `levels` levels of least squared error.
///
/// # Panics
///
/// Where `levels` is 0.
pub fn kmeans(empirical: &Empirical, levels: usize) -> KMeans {
    assert!(levels > 0, "a codebook has levels");
    let atoms = empirical.len();
    if atoms <= levels {
        return KMeans {
            levels: (0..atoms).map(|atom| empirical.value(atom)).collect(),
            excess_bound: 0.0,
        };
    }
    let problem = Problem::new(empirical, levels);
    let steps = levels * atoms * (atoms.ilog2() as usize + 1);
    if steps <= MAX_EXACT_STEPS {
        let everywhere: Vec<usize> = (0..=atoms).collect();
        let cuts = problem.solve(&problem.everywhere(everywhere));
        return KMeans {
            levels: problem.levels_of(&cuts),
            excess_bound: bucket_excess(empirical),
        };
    }
    let (levels, excess_bound) = problem.solve_in_stages(&THOROUGH);
    KMeans {
        levels,
        excess_bound,
    }
}

/// Levels of nearly the least squared error, in a fraction of the time that
/// [`kmeans`] takes for some thousand weights: these are counted in buckets, cuts
/// are tried at few positions, and then moved within narrow bands.
///
/// # Panics
///
/// Where `levels` is 0.
pub fn kmeans_nearly(weights: &[f32], levels: usize) -> Vec<f64> {
    assert!(levels > 0, "a codebook has levels");
    let empirical = Empirical::bucketed(weights, BUCKETS_PER_LEVEL * levels);
    if empirical.len() <= levels {
        return kmeans_levels(weights, levels);
    }
    Problem::new(&empirical, levels).solve_in_stages(&NEARLY).0
}

/// What lies within reach of each cut.
fn around(cuts: &[usize], reach: impl Fn(usize) -> usize) -> Vec<Range<usize>> {
    let range = |(cell, &cut): (usize, &usize)| {
        let reach = reach(cell);
        cut.saturating_sub(reach)..cut + reach + 1
    };
    cuts.iter().enumerate().map(range).collect()
}

/// Moving a threshold to the edge of a bucket that it cuts.
fn bucket_excess(empirical: &Empirical) -> f64 {
    let edges: Vec<usize> = (0..=empirical.len()).collect();
    if empirical.width(0, 0) > 0.0 {
        coarse_excess(empirical, &edges)
    } else {
        0.0
    }
}

/// The bound of the module for cuts at these positions.
fn coarse_excess(empirical: &Empirical, positions: &[usize]) -> f64 {
    let (counts, _) = empirical.prefix_sums();
    let largest = positions
        .windows(2)
        .map(|pair| (counts[pair[1]] - counts[pair[0]]) * empirical.width(pair[0], pair[1] - 1))
        .fold(0.0, f64::max);
    empirical
        .range()
        .map_or(0.0, |(low, high)| largest * (high - low))
}

/// Ascending cut positions, first and last included: some at equal numbers of
/// atoms, some at equal distances, and single atoms at both ends, where
/// outliers want cells of their own.
fn coarse_positions(empirical: &Empirical, levels: usize, effort: &Effort) -> Vec<usize> {
    let steps = effort.coarse_steps;
    let atoms = empirical.len();
    // Twice as many positions, of a step for each bit of their number.
    let affordable = steps / (2 * levels * steps.max(2).ilog2() as usize);
    let each = affordable.max(effort.min_coarse_positions_per_level * levels);
    let mut positions: Vec<usize> = (0..=each).map(|step| step * atoms / each).collect();
    if let Some((low, high)) = empirical.range() {
        positions.extend((1..each).map(|step| {
            let value = low + (high - low) * step as f64 / each as f64;
            empirical.position_of(value)
        }));
    }
    positions.extend(0..=levels.min(atoms));
    positions.extend(atoms - levels.min(atoms)..=atoms);
    positions.sort_unstable();
    positions.dedup();
    positions
}

/// The step between the positions of a band in this range, where cuts may then
/// move `step_reach` of them.
fn step_of(range: &Range<usize>, step_reach: usize) -> usize {
    let positions = BAND_POSITIONS_PER_REACH * step_reach;
    range.len().div_ceil(positions).max(1)
}

/// Where cuts may be: positions with the sums up to each, which are padded so
/// that registers can be filled from any position on, and which of them may end
/// each cell; the last cell ends at the last.
struct Bands {
    positions: Vec<usize>,
    counts: Vec<f64>,
    sums: Vec<f64>,
    ends: Vec<Range<usize>>,
}

struct Problem<'e> {
    empirical: &'e Empirical,
    counts: &'e [f64],
    sums: &'e [f64],
    levels: usize,
}

impl<'e> Problem<'e> {
    fn new(empirical: &'e Empirical, levels: usize) -> Self {
        let (counts, sums) = empirical.prefix_sums();
        Self {
            empirical,
            counts,
            sums,
            levels,
        }
    }

    fn levels_of(&self, ends: &[usize]) -> Vec<f64> {
        let starts = std::iter::once(&0).chain(ends);
        let mut levels: Vec<f64> = starts
            .zip(ends)
            .map(|(&first, &end)| {
                let count = self.counts[end] - self.counts[first];
                (self.sums[end] - self.sums[first]) / count + self.empirical.centre()
            })
            .collect();
        // Means of neighbouring cells can only cross by rounding.
        levels.sort_unstable_by(f64::total_cmp);
        levels
    }

    /// Every cut at any of these positions.
    fn everywhere(&self, positions: Vec<usize>) -> Bands {
        let last = positions.len() - 1;
        // Leave at least one position to each other cell.
        let ends = (1..self.levels).map(|cell| cell..last + cell - self.levels + 1);
        let ends = ends.chain(std::iter::once(last..last + 1)).collect();
        self.bands_of(positions, ends)
    }

    /// Every cut at some positions of its range, those of `ends` among them.
    fn bands(&self, ends: &[usize], ranges: &[Range<usize>], step_reach: usize) -> Bands {
        let last = self.levels - 1;
        let mut positions = Vec::new();
        let mut bands = Vec::with_capacity(self.levels);
        for cell in 0..self.levels {
            let (first, end) = (positions.len(), ends[cell]);
            if cell == last {
                positions.push(end);
            } else {
                // Each other cell has at least one atom.
                let low = ranges[cell].start.max(cell + 1);
                let high = ranges[cell].end.min(ends[last] - (last - cell) + 1);
                let step = step_of(&(low..high), step_reach);
                positions.extend((low..end).step_by(step));
                positions.extend((end..high).step_by(step));
            }
            bands.push(first..positions.len());
        }
        self.bands_of(positions, bands)
    }

    fn bands_of(&self, positions: Vec<usize>, ends: Vec<Range<usize>>) -> Bands {
        let gather = |sums: &[f64], padding| {
            let mut gathered = Vec::with_capacity(positions.len() + MAX_LANES);
            gathered.extend(positions.iter().map(|&at| sums[at]));
            gathered.resize(positions.len() + MAX_LANES, padding);
            gathered
        };
        Bands {
            // Padding is no start of any cell.
            counts: gather(self.counts, f64::INFINITY),
            sums: gather(self.sums, 0.0),
            positions,
            ends,
        }
    }

    /// The levels found with coarse cuts and then within bands, and the bound
    /// on the excess.
    fn solve_in_stages(&self, effort: &Effort) -> (Vec<f64>, f64) {
        let coarse = coarse_positions(self.empirical, self.levels, effort);
        let cuts = self.solve(&self.everywhere(coarse.clone()));
        let range = |cut: &usize| {
            let position = coarse.partition_point(|position| position < cut);
            let low = coarse[position.saturating_sub(effort.coarse_reach)];
            low..coarse[(position + effort.coarse_reach).min(coarse.len() - 1)] + 1
        };
        let ranges = cuts.iter().map(range).collect();
        let levels = self.settle(cuts, ranges, effort.step_reach);
        (levels, coarse_excess(self.empirical, &coarse))
    }

    /// The levels that cuts reach which move within ranges, in ever smaller
    /// steps, until every position in a range counts and nothing is gained.
    fn settle(
        &self,
        mut cuts: Vec<usize>,
        mut ranges: Vec<Range<usize>>,
        step_reach: usize,
    ) -> Vec<f64> {
        let mut error = self.empirical.sse(&self.levels_of(&cuts));
        for _ in 0..MAX_PASSES {
            cuts = self.solve(&self.bands(&cuts, &ranges, step_reach));
            let better = self.empirical.sse(&self.levels_of(&cuts));
            let gained = better < error * (1.0 - MIN_GAIN);
            error = better;
            if !gained && ranges.iter().all(|range| step_of(range, step_reach) == 1) {
                break;
            }
            ranges = around(&cuts, |cell| {
                step_reach * step_of(&ranges[cell], step_reach)
            });
        }
        self.levels_of(&cuts)
    }

    /// Ends of the cells of the partition of the largest gain with each end in
    /// its band.
    fn solve(&self, bands: &Bands) -> Vec<usize> {
        let len = bands.counts.len();
        // The gain of the cells up to each end of the cell before and of this.
        let mut gains = vec![f64::NEG_INFINITY; len];
        let mut next_gains = gains.clone();
        for end in bands.ends[0].clone() {
            gains[end] = gain(bands.counts[end], bands.sums[end]);
        }
        // For the ends of each further cell, one after another: where the cell
        // before ends best.
        let mut choices = vec![0u32; bands.ends[1..].iter().map(Range::len).sum()];
        let mut undone = choices.as_mut_slice();
        let mut known: &[u32] = &[];
        for cell in 1..self.levels {
            let (starts, ends) = (bands.ends[cell - 1].clone(), bands.ends[cell].clone());
            let layer = Layer {
                bands,
                start_gains: &gains,
                first_known: starts.start,
                known,
            };
            let (layer_choices, rest) = undone.split_at_mut(ends.len());
            let layer_gains = &mut next_gains[ends.clone()];
            layer.fill(ends, layer_gains, layer_choices, starts);
            (known, undone) = (layer_choices, rest);
            std::mem::swap(&mut gains, &mut next_gains);
        }
        let mut cuts = vec![0; self.levels];
        let mut end = bands.positions.len() - 1;
        let mut choices = choices.as_slice();
        for cell in (1..self.levels).rev() {
            cuts[cell] = bands.positions[end];
            let ends = &bands.ends[cell];
            let of_cell;
            (choices, of_cell) = choices.split_at(choices.len() - ends.len());
            end = of_cell[end - ends.start] as usize;
        }
        cuts[0] = bands.positions[end];
        cuts
    }
}

/// What a cell takes off the sum of squares.
#[inline(always)]
fn gain(count: f64, sum: f64) -> f64 {
    sum * sum / count
}

/// One layer of the dynamic programme: the cells before are known for each of
/// their ends.
struct Layer<'a> {
    bands: &'a Bands,
    /// The gain up to each position where the cells before can end.
    start_gains: &'a [f64],
    /// For positions from `first_known` on: the best start of the cell before
    /// that ends there, which no cell of this layer that ends there starts
    /// before.
    first_known: usize,
    known: &'a [u32],
}

impl Layer<'_> {
    /// Finds the best start among `starts` and the gain for each of the ends.
    fn fill(
        &self,
        ends: Range<usize>,
        gains: &mut [f64],
        choices: &mut [u32],
        starts: Range<usize>,
    ) {
        if ends.len() < MIN_PARALLEL {
            return Arch::new().dispatch(InStrides {
                layer: self,
                ends,
                gains,
                choices,
                starts,
            });
        }
        let middle = ends.len() / 2;
        let middle_end = ends.start + middle;
        let (best, best_gain) = self.best_start(middle_end, starts.clone());
        gains[middle] = best_gain;
        choices[middle] = best as u32;
        let (gains_before, gains_after) = gains.split_at_mut(middle);
        let (choices_before, choices_after) = choices.split_at_mut(middle);
        let before = || {
            let starts = starts.start..(best + 1).min(starts.end);
            self.fill(ends.start..middle_end, gains_before, choices_before, starts);
        };
        let after = || {
            let (gains, choices) = (&mut gains_after[1..], &mut choices_after[1..]);
            self.fill(middle_end + 1..ends.end, gains, choices, best..starts.end);
        };
        rayon::join(before, after);
    }

    /// The start of the greatest gain for one end, and that gain.
    fn best_start(&self, end: usize, starts: Range<usize>) -> (usize, f64) {
        struct One<'a>(&'a Layer<'a>, usize, Range<usize>);
        impl WithSimd for One<'_> {
            type Output = (usize, f64);

            #[inline(always)]
            fn with_simd<S: Simd>(self, simd: S) -> (usize, f64) {
                self.0.first_best_start(simd, self.1, self.2)
            }
        }
        Arch::new().dispatch(One(self, end, starts))
    }

    /// The first start of the greatest gain for this end, and that gain.
    ///
    /// It is looked for among as many starts as registers hold: most often all
    /// at once. Some beyond the last are no better, or have no gain yet, which is
    /// minus infinity.
    #[inline(always)]
    fn first_best_start<S: Simd>(&self, simd: S, end: usize, starts: Range<usize>) -> (usize, f64) {
        let Bands { counts, sums, .. } = self.bands;
        let known = self.known.get(end.wrapping_sub(self.first_known));
        let mut start = known.map_or(starts.start, |&known| starts.start.max(known as usize));
        let (count, sum) = (simd.splat_f64s(counts[end]), simd.splat_f64s(sums[end]));
        let (mut best, mut best_gain) = (start, f64::NEG_INFINITY);
        loop {
            let count = simd.sub_f64s(count, register_at::<S>(counts, start));
            let sum = simd.sub_f64s(sum, register_at::<S>(sums, start));
            let gain = simd.div_f64s(simd.mul_f64s(sum, sum), count);
            let gain = simd.add_f64s(register_at::<S>(self.start_gains, start), gain);
            // A cell has at least one atom.
            let is_cell = simd.less_than_f64s(simd.splat_f64s(0.0), count);
            let gain = simd.select_f64s(is_cell, gain, simd.splat_f64s(f64::NEG_INFINITY));
            let greatest = simd.reduce_max_f64s(gain);
            if greatest > best_gain {
                let is_greatest = simd.equal_f64s(gain, simd.splat_f64s(greatest));
                let positions = register_at::<S>(&POSITIONS, 0);
                let positions =
                    simd.select_f64s(is_greatest, positions, simd.splat_f64s(f64::INFINITY));
                best = start + simd.reduce_min_f64s(positions) as usize;
                best_gain = greatest;
            }
            start += S::F64_LANES;
            if start >= starts.end {
                return (best, best_gain);
            }
        }
    }
}

/// The ends of a layer in strides: every 2^k-th, then those half way between
/// them, and so on.
struct InStrides<'a> {
    layer: &'a Layer<'a>,
    ends: Range<usize>,
    gains: &'a mut [f64],
    choices: &'a mut [u32],
    starts: Range<usize>,
}

impl WithSimd for InStrides<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self {
            layer,
            ends,
            gains,
            choices,
            starts,
        } = self;
        let mut stride = (ends.len() / 2 + 1).next_power_of_two();
        while stride > 0 {
            let mut at = stride - 1;
            while at < ends.len() {
                let low = match at.checked_sub(stride) {
                    Some(before) => choices[before] as usize,
                    None => starts.start,
                };
                let high = match choices.get(at + stride) {
                    Some(&after) => after as usize + 1,
                    None => starts.end,
                };
                let (best, gain) = layer.first_best_start(simd, ends.start + at, low..high);
                gains[at] = gain;
                choices[at] = best as u32;
                at += 2 * stride;
            }
            stride /= 2;
        }
    }
}

/// Floats that the widest registers hold.
const MAX_LANES: usize = 16;

const POSITIONS: [f64; MAX_LANES] = [
    0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 14.0, 15.0,
];

#[inline(always)]
fn register_at<S: Simd>(values: &[f64], start: usize) -> S::f64s {
    S::as_simd_f64s(&values[start..start + S::F64_LANES]).0[0]
}

#[cfg(test)]
mod tests;
