//! Weights in order, summed up so that the squared error of any codebook
//! costs a binary search a level.

use campana_codebook::vectorized;
use rayon::prelude::*;

/// Up to this many weights are sorted; more are counted in buckets.
const MAX_SORTED: usize = 1 << 21;

/// Buckets of a large tensor within [`BUCKET_DEVIATIONS`] of its mean.
const BUCKETS: usize = 1 << 19;

/// Weights farther than this many standard deviations from the mean are kept
/// apart, each as itself; there are at most n / 64 of them (Chebyshev).
const BUCKET_DEVIATIONS: f64 = 8.0;

/// Weights that one task counts; fixed, so that sums do not depend on the
/// number of threads, and large beside the merging of buckets.
const TASK: usize = 1 << 22;

/// Weights located at a time, so that the arithmetic is vectorized apart from
/// the scattered counting.
const LOCATED: usize = 256;

/// The weights of a tensor as ascending atoms (distinct values, or narrow
/// buckets of neighbouring ones) with prefix sums.
///
/// Up to 2^21 weights every distinct value is an atom and all results are
/// exact but for rounding. Above, weights fall into 2^19 equal buckets over 16
/// standard deviations (and atoms of their own outside); a bucket then counts
/// as a whole for the level nearest to its mean. That raises the squared error
/// of a codebook by at most `sum of m h gap` over its thresholds, where m and
/// h are the number of weights and the width of the bucket that a threshold
/// cuts and gap is the distance of the two levels beside it.
#[derive(Clone, Debug)]
pub struct Empirical {
    /// Mean of each atom, less `centre`, ascending.
    values: Vec<f64>,
    /// Total weight of the atoms before each position; one longer.
    counts: Vec<f64>,
    /// Sum of the (centred) weights before each position; one longer.
    sums: Vec<f64>,
    /// Sum of the squared (centred) weights.
    square: f64,
    /// Subtracted from all values, so that prefix sums do not cancel.
    centre: f64,
    /// Width of a bucket; 0 where all atoms are distinct values.
    bucket_width: f64,
}

impl Empirical {
    /// Summarizes weights; NaN and infinities are left out.
    pub fn of(weights: &[f32]) -> Self {
        let finite = |weight: &&f32| weight.is_finite();
        let count = weights.par_iter().filter(finite).count();
        if count <= MAX_SORTED {
            let mut keys: Vec<u32> = weights.iter().filter(finite).map(|&w| key(w)).collect();
            keys.par_sort_unstable();
            let atoms = keys
                .chunk_by(|a, b| a == b)
                .map(|ties| (f64::from(weight(ties[0])), ties.len() as f64));
            Self::from_atoms(atoms.collect())
        } else {
            Self::bucketed(weights, BUCKETS)
        }
    }

    /// Summarizes points of different weight, in any order. Points that are
    /// not finite or have no positive weight are left out.
    pub fn weighted(points: impl IntoIterator<Item = (f64, f64)>) -> Self {
        let mut points: Vec<(f64, f64)> = points
            .into_iter()
            .filter(|(value, weight)| value.is_finite() && *weight > 0.0)
            .collect();
        points.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
        points.dedup_by(|next, first| {
            let tie = next.0 == first.0;
            if tie {
                first.1 += next.1;
            }
            tie
        });
        Self::from_atoms(points)
    }

    fn from_atoms(atoms: Vec<(f64, f64)>) -> Self {
        let count: f64 = atoms.iter().map(|(_, count)| count).sum();
        let sum: f64 = atoms.iter().map(|(value, count)| value * count).sum();
        let centre = if count > 0.0 { sum / count } else { 0.0 };
        let square = atoms
            .iter()
            .map(|(value, count)| count * (value - centre).powi(2))
            .sum();
        Self::from_centred(
            atoms
                .into_iter()
                .map(|(value, count)| (value - centre, count)),
            square,
            centre,
            0.0,
        )
    }

    fn from_centred(
        atoms: impl Iterator<Item = (f64, f64)>,
        square: f64,
        centre: f64,
        bucket_width: f64,
    ) -> Self {
        let most = atoms.size_hint().1.unwrap_or(0);
        let [mut values, mut counts, mut sums] =
            [0, 1, 1].map(|more| Vec::with_capacity(most + more));
        counts.push(0.0);
        sums.push(0.0);
        let (mut total_count, mut total_sum) = (0.0, 0.0);
        for (value, count) in atoms {
            values.push(value);
            total_count += count;
            total_sum += value * count;
            counts.push(total_count);
            sums.push(total_sum);
        }
        Self {
            values,
            counts,
            sums,
            square,
            centre,
            bucket_width,
        }
    }

    /// Summarizes weights in this many equal buckets over 16 standard deviations,
    /// however few they are: without sorting, and less exactly. NaN and infinities
    /// are left out.
    ///
    /// # Panics
    ///
    /// Where there are no buckets.
    pub fn bucketed(weights: &[f32], buckets: usize) -> Self {
        assert!(buckets > 0, "weights fall into buckets");
        let moments = crate::Moments::of(weights);
        let centre = moments.mean;
        let low = centre - BUCKET_DEVIATIONS * moments.std();
        let width = 2.0 * BUCKET_DEVIATIONS * moments.std() / buckets as f64;
        let count = |task| Counts::of(task, buckets, low, width, centre);
        let total = if weights.len() <= TASK {
            count(weights)
        } else {
            let tasks: Vec<Counts> = weights.par_chunks(TASK).map(count).collect();
            let mut total = Counts::empty(buckets);
            tasks.iter().for_each(|counts| total.merge(counts));
            total
        };
        let Counts { buckets, outside } = total;
        let held = buckets.iter().filter(|(count, _)| *count > 0);
        let mut atoms = Vec::with_capacity(buckets.len().min(weights.len()) + outside.len());
        atoms.extend(held.map(|&(count, sum)| (sum / f64::from(count), f64::from(count))));
        atoms.extend(
            outside
                .iter()
                .map(|&weight| (f64::from(weight) - centre, 1.0)),
        );
        atoms.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        // f32 rounding may put a weight into the bucket beside its own.
        let square = moments.variance * moments.count as f64;
        Self::from_centred(atoms.into_iter(), square, centre, width)
    }

    /// Number of atoms.
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are no weights.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Total weight of all atoms: the number of weights.
    pub fn total(&self) -> f64 {
        self.counts[self.len()]
    }

    /// Value of an atom.
    pub fn value(&self, atom: usize) -> f64 {
        self.values[atom] + self.centre
    }

    /// Smallest and largest value; `None` where there are no weights.
    pub fn range(&self) -> Option<(f64, f64)> {
        Some((
            self.values.first()? + self.centre,
            self.values.last()? + self.centre,
        ))
    }

    /// Sum of squared differences between the weights and their nearest
    /// levels, which must ascend.
    ///
    /// # Panics
    ///
    /// Where there are no levels.
    pub fn sse(&self, levels: &[f64]) -> f64 {
        let mut total = self.square;
        let mut first = 0;
        for (position, &level) in levels.iter().enumerate() {
            let end = match levels.get(position + 1) {
                Some(&next) => {
                    let threshold = 0.5 * (level - self.centre) + 0.5 * (next - self.centre);
                    first + self.values[first..].partition_point(|&value| value <= threshold)
                }
                None => self.len(),
            };
            let level = level - self.centre;
            let (count, sum) = (
                self.counts[end] - self.counts[first],
                self.sums[end] - self.sums[first],
            );
            total += level * (level * count - 2.0 * sum);
            first = end;
        }
        assert!(!levels.is_empty(), "a codebook has levels");
        total.max(0.0)
    }

    /// The factor within `low..=high` (both positive) by which `table` has the
    /// least squared error, and that error: the best of a geometric grid,
    /// refined by golden section. `table` ascends; `shift` is added to the
    /// scaled levels.
    pub fn best_scale(&self, table: &[f64], shift: f64, low: f64, high: f64) -> (f64, f64) {
        const GRID: i32 = 48;
        const GOLDEN_STEPS: u32 = 24;
        let error = |scale: f64| {
            let levels: Vec<f64> = table.iter().map(|level| level * scale + shift).collect();
            self.sse(&levels)
        };
        let at = |step: f64| low * (high / low).powf(step / f64::from(GRID));
        let best = (0..=GRID)
            .map(|step| (error(at(step.into())), step))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .map_or(0, |(_, step)| step);
        let (mut left, mut right) = (
            at((best - 1).max(0).into()),
            at((best + 1).min(GRID).into()),
        );
        let golden = (5f64.sqrt() - 1.0) / 2.0;
        let mut inner = [
            right - golden * (right - left),
            left + golden * (right - left),
        ];
        let mut errors = inner.map(error);
        for _ in 0..GOLDEN_STEPS {
            if errors[0] <= errors[1] {
                right = inner[1];
                inner = [right - golden * (right - left), inner[0]];
                errors = [error(inner[0]), errors[0]];
            } else {
                left = inner[0];
                inner = [inner[1], left + golden * (right - left)];
                errors = [errors[1], error(inner[1])];
            }
        }
        // The grid's best stays in the running: the error is not unimodal.
        let candidates = [
            (inner[0], errors[0]),
            (inner[1], errors[1]),
            (at(best.into()), error(at(best.into()))),
        ];
        candidates
            .into_iter()
            .min_by(|a, b| a.1.total_cmp(&b.1))
            .unwrap_or((low, error(low)))
    }

    /// Number of atoms at or below a value.
    pub(crate) fn position_of(&self, value: f64) -> usize {
        self.values
            .partition_point(|&atom| atom <= value - self.centre)
    }

    /// Prefix sums of weight and value, both one longer than the atoms; values
    /// are less [`centre`](Self::centre).
    pub(crate) fn prefix_sums(&self) -> (&[f64], &[f64]) {
        (&self.counts, &self.sums)
    }

    /// What is subtracted from the values in the prefix sums.
    pub(crate) fn centre(&self) -> f64 {
        self.centre
    }

    /// Distance between the values on both sides of a run of atoms, bucket
    /// widths included: how far a threshold within it can be from either end.
    pub(crate) fn width(&self, first: usize, last: usize) -> f64 {
        self.values[last] - self.values[first] + self.bucket_width
    }
}

/// A weight's place in the order of all floats.
fn key(weight: f32) -> u32 {
    // -0.0 and 0.0 are one value.
    let bits = (weight + 0.0).to_bits();
    if bits >> 31 == 0 {
        bits | 0x8000_0000
    } else {
        !bits
    }
}

/// The weight at a place in the order.
fn weight(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 0 {
        !key
    } else {
        key & 0x7fff_ffff
    })
}

/// The whole part of a number from 0 to 2^31, by operations that are vectorized.
#[inline(always)]
fn whole_part(x: f64) -> u64 {
    /// Floats from here to twice as much are consecutive integers.
    const INTEGERS: f64 = 4_503_599_627_370_496.0;
    let rounded = (x + INTEGERS) - INTEGERS;
    let whole = if rounded > x { rounded - 1.0 } else { rounded };
    (whole + INTEGERS).to_bits() - INTEGERS.to_bits()
}

/// What one task counts.
struct Counts {
    /// Number and sum (less the centre) of the weights in each bucket.
    buckets: Vec<(u32, f64)>,
    outside: Vec<f32>,
}

impl Counts {
    fn empty(buckets: usize) -> Self {
        Self {
            buckets: vec![(0, 0.0); buckets],
            outside: Vec::new(),
        }
    }

    fn of(weights: &[f32], buckets: usize, low: f64, width: f64, centre: f64) -> Self {
        let mut counts = Self::empty(buckets);
        let buckets_per_unit = 1.0 / width;
        let buckets = buckets as f64;
        let mut positions = [0u64; LOCATED];
        let mut centred = [0.0; LOCATED];
        for weights in weights.chunks(LOCATED) {
            vectorized(
                #[inline(always)]
                || {
                    let places = positions.iter_mut().zip(&mut centred);
                    for (&weight, (position, centred)) in weights.iter().zip(places) {
                        let weight = f64::from(weight);
                        let place = (weight - low) * buckets_per_unit;
                        let is_bucket = place >= 0.0 && place < buckets;
                        *position = whole_part(if is_bucket { place } else { buckets });
                        *centred = weight - centre;
                    }
                },
            );
            let places = positions.iter().zip(&centred);
            for (&weight, (&position, &centred)) in weights.iter().zip(places) {
                if let Some(bucket) = counts.buckets.get_mut(position as usize) {
                    bucket.0 += 1;
                    bucket.1 += centred;
                } else if weight.is_finite() {
                    counts.outside.push(weight);
                }
            }
        }
        counts
    }

    fn merge(&mut self, other: &Self) {
        for (bucket, added) in self.buckets.iter_mut().zip(&other.buckets) {
            bucket.0 += added.0;
            bucket.1 += added.1;
        }
        self.outside.extend_from_slice(&other.outside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{SHAPES, Shape, draw};

    /// Rounding of the prefix sums, relative to the sum of squares.
    const MAX_ROUNDING: f64 = 1e-12;

    fn reference_sse(weights: &[f32], levels: &[f64]) -> f64 {
        let nearest = |&weight: &f32| {
            let distances = levels
                .iter()
                .map(|level| (level - f64::from(weight)).powi(2));
            distances.fold(f64::INFINITY, f64::min)
        };
        weights.iter().map(nearest).sum()
    }

    fn sum_of_squares(weights: &[f32]) -> f64 {
        weights.iter().map(|&w| f64::from(w).powi(2)).sum()
    }

    #[test]
    fn the_squared_error_is_that_of_the_nearest_levels() {
        for shape in SHAPES {
            let weights = draw(shape, 3000, 1);
            let empirical = Empirical::of(&weights);
            for levels in [
                &[0.0][..],
                &[-0.1, 0.02, 0.3],
                &[5.0, 6.0],
                &[-0.05, -0.05, 0.05],
            ] {
                let expected = reference_sse(&weights, levels);
                let scale = sum_of_squares(&weights) + expected;
                let error = (empirical.sse(levels) - expected).abs();
                assert!(
                    error <= MAX_ROUNDING * scale,
                    "{shape:?} {levels:?}: {error:e}"
                );
            }
        }
    }

    #[test]
    fn keys_are_in_the_order_of_the_weights() {
        let mut weights = draw(Shape::Outliers, 1000, 2);
        weights.extend([0.0, -0.0, f32::MIN, f32::MAX, 1e-45, -1e-45]);
        weights.sort_by(f32::total_cmp);
        assert!(weights.windows(2).all(|pair| key(pair[0]) <= key(pair[1])));
        assert!(weights.iter().all(|&w| weight(key(w)) == w));
    }

    #[test]
    fn buckets_raise_the_squared_error_within_the_stated_bound() {
        let weights = draw(Shape::Outliers, 50_000, 3);
        let exact = Empirical::of(&weights);
        let bucketed = Empirical::bucketed(&weights, BUCKETS);
        assert!(bucketed.bucket_width > 0.0);
        for count in [2, 16, 64] {
            let levels: Vec<f64> = (0..count)
                .map(|k| 0.4 * ((k as f64 + 0.5) / count as f64 - 0.5))
                .collect();
            let excess = bucketed.sse(&levels) - exact.sse(&levels);
            let gap = 0.4 / count as f64;
            let bound = count as f64 * weights.len() as f64 * bucketed.bucket_width * gap;
            let rounding = MAX_ROUNDING * sum_of_squares(&weights);
            assert!(
                excess.abs() <= bound + rounding,
                "{count} levels: {excess:e} > {bound:e}"
            );
        }
    }

    #[test]
    fn the_best_scale_is_at_least_as_good_as_a_fine_grid() {
        let weights = draw(Shape::Laplace, 2000, 4);
        let empirical = Empirical::of(&weights);
        let table = [-1.0, -0.5, 0.0, 0.5, 1.0];
        let (_, error) = empirical.best_scale(&table, 0.0, 0.01, 1.0);
        for step in 1..=1000 {
            let levels = table.map(|level| level * f64::from(step) * 1e-3);
            assert!(error <= empirical.sse(&levels) * (1.0 + 1e-4));
        }
    }

    #[test]
    fn nothing_and_what_is_not_finite_have_no_atoms() {
        assert!(Empirical::of(&[]).is_empty());
        assert!(Empirical::of(&[f32::NAN, f32::INFINITY]).is_empty());
        assert_eq!(Empirical::of(&[]).sse(&[1.0]), 0.0);
    }
}
