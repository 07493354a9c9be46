//! The levels of least squared error for given weights: one-dimensional
//! k-means, solved globally.
//!
//! In one dimension an optimal cell is an interval, so the thresholds follow
//! from dynamic programming over the ascending weights: with the best way to
//! cut the first `l` weights into `j - 1` cells known for all `l`, the best
//! way to cut the first `i` into `j` ends with a cell `l..i`. The last cut is
//! monotone in `i`, which divide and conquer uses: O(n log n) for a level.
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
        let cuts = problem.solve(&problem.everywhere(&everywhere));
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

/// Where each cut may be: ascending positions for the end of each cell, the
/// last cell's end (all atoms) included.
struct Bands<'p> {
    ends: Vec<std::borrow::Cow<'p, [usize]>>,
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

    /// What a cell takes off the sum of squares: `sum^2 / count`.
    #[inline(always)]
    fn gain(&self, first: usize, end: usize) -> f64 {
        let sum = self.sums[end] - self.sums[first];
        sum * sum / (self.counts[end] - self.counts[first])
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
    fn everywhere<'p>(&self, positions: &'p [usize]) -> Bands<'p> {
        let last = positions.len() - 1;
        let ends = (1..=self.levels)
            .map(|cell| {
                // Leave at least one position to each other cell.
                let band = if cell == self.levels {
                    &positions[last..]
                } else {
                    &positions[cell..=last + cell - self.levels]
                };
                band.into()
            })
            .collect();
        Bands { ends }
    }

    /// Every cut at some positions of its range, those of `ends` among them.
    fn bands(&self, ends: &[usize], ranges: &[Range<usize>], step_reach: usize) -> Bands<'static> {
        let last = self.levels - 1;
        let bands = (0..self.levels).map(|cell| {
            let end = ends[cell];
            if cell == last {
                return vec![end];
            }
            // Each other cell has at least one atom.
            let low = ranges[cell].start.max(cell + 1);
            let high = ranges[cell].end.min(ends[last] - (last - cell) + 1);
            let step = step_of(&(low..high), step_reach);
            let before = (low..end).step_by(step);
            before.chain((end..high).step_by(step)).collect()
        });
        Bands {
            ends: bands.map(Into::into).collect(),
        }
    }

    /// The levels found with coarse cuts and then within bands, and the bound
    /// on the excess.
    fn solve_in_stages(&self, effort: &Effort) -> (Vec<f64>, f64) {
        let coarse = coarse_positions(self.empirical, self.levels, effort);
        let cuts = self.solve(&self.everywhere(&coarse));
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
    fn solve(&self, bands: &Bands<'_>) -> Vec<usize> {
        let first = &bands.ends[0];
        let mut gains: Vec<f64> = first.iter().map(|&end| self.gain(0, end)).collect();
        // For each further cell and each of its ends: where the cell before
        // ends best, as a position in that cell's band.
        let mut choices: Vec<Vec<u32>> = Vec::with_capacity(self.levels);
        for pair in bands.ends.windows(2) {
            let (starts, ends) = (&pair[0], &pair[1]);
            let layer = Layer {
                problem: self,
                starts,
                start_gains: &gains,
            };
            let mut layer_gains = vec![f64::NEG_INFINITY; ends.len()];
            let mut layer_choices = vec![0; ends.len()];
            layer.fill(ends, &mut layer_gains, &mut layer_choices, 0, starts.len());
            gains = layer_gains;
            choices.push(layer_choices);
        }
        let mut cuts = vec![0; self.levels];
        let mut choice = 0;
        for cell in (0..self.levels).rev() {
            cuts[cell] = bands.ends[cell][choice];
            if cell > 0 {
                choice = choices[cell - 1][choice] as usize;
            }
        }
        cuts
    }
}

/// One layer of the dynamic programme: the cells before are known for each of
/// their ends.
struct Layer<'a> {
    problem: &'a Problem<'a>,
    /// Where the cells before can end, and the gain up to there.
    starts: &'a [usize],
    start_gains: &'a [f64],
}

impl Layer<'_> {
    /// Finds the best start among `low..high` and the gain for each of the
    /// ends.
    fn fill(
        &self,
        ends: &[usize],
        gains: &mut [f64],
        choices: &mut [u32],
        low: usize,
        high: usize,
    ) {
        if ends.is_empty() {
            return;
        }
        let middle = ends.len() / 2;
        let (best, best_gain) = self.best_start(ends[middle], low, high);
        gains[middle] = best_gain;
        choices[middle] = best as u32;
        let (gains_before, gains_after) = gains.split_at_mut(middle);
        let (choices_before, choices_after) = choices.split_at_mut(middle);
        let mut before = || {
            self.fill(
                &ends[..middle],
                gains_before,
                choices_before,
                low,
                (best + 1).min(high),
            );
        };
        let mut after = || {
            self.fill(
                &ends[middle + 1..],
                &mut gains_after[1..],
                &mut choices_after[1..],
                best,
                high,
            );
        };
        if ends.len() >= MIN_PARALLEL {
            rayon::join(before, after);
        } else {
            before();
            after();
        }
    }

    /// The start among `low..high` of the cell with this end.
    fn best_start(&self, end: usize, low: usize, high: usize) -> (usize, f64) {
        // A cell has at least one atom.
        let allowed = low + self.starts[low..high].partition_point(|&start| start < end);
        let (mut best, mut best_gain) = (low, f64::NEG_INFINITY);
        for start in low..allowed {
            let gain = self.start_gains[start] + self.problem.gain(self.starts[start], end);
            if gain > best_gain {
                (best, best_gain) = (start, gain);
            }
        }
        (best, best_gain)
    }
}

#[cfg(test)]
mod tests;
