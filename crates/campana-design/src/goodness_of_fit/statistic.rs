//! D of sorted weights, by branch and bound; deviation from the median.

use rayon::prelude::*;

use campana_codebook::vectorized;

/// Weights that one parallel task sums; fixed, so that the order of additions
/// does not depend on the number of threads.
const TASK: usize = 1 << 18;

/// What rounding may take from the monotony of a computed distribution
/// function.
pub(super) const CDF_SLACK: f64 = 1e-15;

/// Parts that a range is first cut into, so that bounds are tested against a
/// distance that is already near the greatest.
const FIRST_PARTS: usize = 32;

/// Mean of the two middle weights, as numpy's.
pub(super) fn median_of_sorted(sorted: &[f32]) -> f64 {
    let n = sorted.len();
    0.5 * (f64::from(sorted[(n - 1) / 2]) + f64::from(sorted[n / 2]))
}

pub(super) fn mean_absolute_deviation(weights: &[f32], centre: f64) -> f64 {
    let sum_task = |task: &[f32]| sum_of_deviations(task, centre);
    let sum = if weights.len() <= TASK {
        sum_task(weights)
    } else {
        weights
            .par_chunks(TASK)
            .map(sum_task)
            .collect::<Vec<f64>>()
            .iter()
            .sum()
    };
    sum / weights.len() as f64
}

/// Sum of the absolute deviations from `centre`.
pub(super) fn sum_of_deviations(weights: &[f32], centre: f64) -> f64 {
    const LANES: usize = 16;
    vectorized(
        #[inline(always)]
        || {
            let mut sums = [0.0f64; LANES];
            let (groups, rest) = weights.as_chunks::<LANES>();
            for group in groups {
                for lane in 0..LANES {
                    sums[lane] += (f64::from(group[lane]) - centre).abs();
                }
            }
            for (sum, &x) in sums.iter_mut().zip(rest) {
                *sum += (f64::from(x) - centre).abs();
            }
            sums.iter().sum::<f64>()
        },
    )
}

/// D of a fitted distribution function from weights in ascending order.
pub(super) fn of_sorted(cdf: &dyn Fn(f64) -> f64, sorted: &[f32]) -> f64 {
    let mut greatest = 0.0;
    raise_by_run(cdf, sorted, 0, sorted.len() as u64, &mut greatest);
    greatest
}

/// Raises `greatest` to the greatest distance at `run`, the weights of ranks
/// `before` and on among `count`.
pub(super) fn raise_by_run(
    cdf: &dyn Fn(f64) -> f64,
    run: &[f32],
    before: u64,
    count: u64,
    greatest: &mut f64,
) {
    let search = RunSearch {
        cdf,
        run,
        before,
        count: count as f64,
    };
    let Some(last) = run.len().checked_sub(1) else {
        return;
    };
    let mut previous = (0, search.visit(0, greatest));
    let mut parts = Vec::with_capacity(FIRST_PARTS);
    for part in 1..=FIRST_PARTS {
        let index = last * part / FIRST_PARTS;
        if index > previous.0 {
            let next = (index, search.visit(index, greatest));
            parts.push((previous, next));
            previous = next;
        }
    }
    for (from, to) in parts {
        search.raise_between(from, to, greatest);
    }
}

struct RunSearch<'a> {
    cdf: &'a dyn Fn(f64) -> f64,
    run: &'a [f32],
    before: u64,
    count: f64,
}

impl RunSearch<'_> {
    /// The share of all weights before the one at `index`.
    fn share_before(&self, index: usize) -> f64 {
        (self.before + index as u64) as f64 / self.count
    }

    /// Compares at one weight, just below and at its step.
    fn visit(&self, index: usize, greatest: &mut f64) -> f64 {
        let cdf = (self.cdf)(f64::from(self.run[index]));
        let distance = (cdf - self.share_before(index)).max(self.share_before(index + 1) - cdf);
        *greatest = greatest.max(distance);
        cdf
    }

    /// Looks between two weights of known `(index, cdf)`, where both functions
    /// rise and are so bounded by their ends.
    fn raise_between(&self, from: (usize, f64), to: (usize, f64), greatest: &mut f64) {
        if to.0 - from.0 < 2 {
            return;
        }
        let bound = (to.1 - self.share_before(from.0 + 1)).max(self.share_before(to.0) - from.1);
        if bound + CDF_SLACK <= *greatest {
            return;
        }
        let index = from.0 + (to.0 - from.0) / 2;
        let middle = (index, self.visit(index, greatest));
        self.raise_between(from, middle, greatest);
        self.raise_between(middle, to, greatest);
    }
}
