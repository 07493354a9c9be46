//! Lloyd–Max levels for any shape.

use libm::lgamma;

use super::incomplete_gamma::upper_regularized;

/// Limit on the steps; Newton's take 4 to 8.
const MAX_STEPS: usize = 500;

/// A step below this fraction of the highest level is the last.
const LAST_STEP: f64 = 1e-11;

/// Halvings that find a quantile.
const HALVINGS: usize = 80;

/// `exp(-x^shape)` is looked at up to this power.
const MAX_POWER: f64 = 700.0;

/// The `2^bits` levels of least mean squared error for the member of location 0
/// and scale 1, ascending and symmetric.
///
/// Newton's method for the two Lloyd–Max conditions, as for the families that
/// need a table only once; here with moments of cells by the incomplete gamma
/// function, which is exact at the cusp that shapes below 1 have at 0. A step
/// that would cross levels is replaced by Lloyd's.
pub(crate) fn levels(shape: f64, bits: u8) -> Vec<f64> {
    let half = HalfLine::new(shape);
    let mut levels = half.start(1 << (bits - 1));
    for _ in 0..MAX_STEPS {
        if half.step(&mut levels) <= LAST_STEP {
            break;
        }
    }
    let negative = levels.iter().rev().map(|level| -level);
    negative.chain(levels.iter().copied()).collect()
}

/// The density `exp(-x^shape)` over positive `x`, not normalized.
struct HalfLine {
    shape: f64,
    /// Moments 0 and 1 of all.
    totals: [f64; 2],
}

impl HalfLine {
    fn new(shape: f64) -> Self {
        let total = |k: f64| lgamma(k / shape).exp() / shape;
        Self {
            shape,
            totals: [total(1.0), total(2.0)],
        }
    }

    fn density(&self, x: f64) -> f64 {
        (-x.powf(self.shape)).exp()
    }

    /// Moments 0 and 1 beyond `x`.
    fn beyond(&self, x: f64) -> [f64; 2] {
        let power = x.powf(self.shape);
        let share = |k: f64| upper_regularized(k / self.shape, power);
        [self.totals[0] * share(1.0), self.totals[1] * share(2.0)]
    }

    /// Levels at equal steps of the integral of the cube root of the density
    /// (Panter and Dite 1951), which is the same density, wider.
    fn start(&self, count: usize) -> Vec<f64> {
        let stretch = 3f64.powf(1.0 / self.shape);
        let level = |i: usize| {
            let tail = (count - i) as f64 / (count as f64 + 0.5);
            let (mut low, mut high) = (0.0, MAX_POWER.powf(1.0 / self.shape));
            for _ in 0..HALVINGS {
                let middle = 0.5 * (low + high);
                if upper_regularized(1.0 / self.shape, middle.powf(self.shape)) > tail {
                    low = middle;
                } else {
                    high = middle;
                }
            }
            stretch * low
        };
        (0..count).map(level).collect()
    }

    /// Takes a step and returns its greatest change of a level, relative to the
    /// highest level.
    fn step(&self, levels: &mut [f64]) -> f64 {
        let count = levels.len();
        let thresholds: Vec<f64> = levels.windows(2).map(|p| 0.5 * (p[0] + p[1])).collect();
        let mut beyond = vec![self.totals];
        beyond.extend(thresholds.iter().map(|&threshold| self.beyond(threshold)));
        beyond.push([0.0; 2]);
        let cell = |i: usize, k: usize| beyond[i][k] - beyond[i + 1][k];
        // How much the first moment of a cell about its level rises as a
        // neighbour's level does: the threshold moves by half of that.
        let lean = |t: usize, level: f64| {
            0.5 * (thresholds[t] - level).abs() * self.density(thresholds[t])
        };
        let mut residual: Vec<f64> = (0..count)
            .map(|i| cell(i, 1) - levels[i] * cell(i, 0))
            .collect();
        let lloyd: Vec<f64> = (0..count).map(|i| residual[i] / cell(i, 0)).collect();
        // Gaussian elimination of the tridiagonal matrix of derivatives.
        let mut diagonal = vec![0.0; count];
        let mut upper = vec![0.0; count];
        for i in 0..count {
            let lower = if i > 0 { lean(i - 1, levels[i]) } else { 0.0 };
            upper[i] = if i + 1 < count {
                lean(i, levels[i])
            } else {
                0.0
            };
            diagonal[i] = lower + upper[i] - cell(i, 0);
            if i > 0 {
                let factor = lower / diagonal[i - 1];
                diagonal[i] -= factor * upper[i - 1];
                residual[i] -= factor * residual[i - 1];
            }
        }
        let mut newton = vec![0.0; count];
        for i in (0..count).rev() {
            let above = if i + 1 < count {
                upper[i] * newton[i + 1]
            } else {
                0.0
            };
            newton[i] = -(residual[i] + above) / diagonal[i];
        }
        let keeps_order = (0..count).all(|i| {
            let (below, change) = match i {
                0 => (0.0, newton[0]),
                _ => (levels[i - 1], newton[i] - newton[i - 1]),
            };
            change > -0.5 * (levels[i] - below) && change.is_finite()
        });
        let changes = if keeps_order { newton } else { lloyd };
        let mut greatest = 0f64;
        for (level, change) in levels.iter_mut().zip(changes) {
            *level += change;
            greatest = greatest.max(change.abs());
        }
        greatest / levels[count - 1]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generalized_gaussian::std_per_scale;
    use crate::{Family, lloyd_max};

    /// Of a level against that of a family's own table, relative to the
    /// highest level.
    const MAX_LEVEL_ERROR: f64 = 1e-10;

    /// Distance of a level from its cell's centroid, relative to the highest
    /// level.
    const MAX_RESIDUAL: f64 = 1e-9;

    #[test]
    fn shapes_one_and_two_have_the_tables_of_laplace_and_gaussian() {
        for (family, shape) in [(Family::Laplace, 1.0), (Family::Gaussian, 2.0)] {
            for bits in 1..=8 {
                let expected = &lloyd_max::table(family, bits).levels;
                let highest = expected[expected.len() - 1];
                for (found, expected) in levels(shape, bits).iter().zip(expected) {
                    let error = (found / std_per_scale(shape) - expected).abs() / highest;
                    assert!(error < MAX_LEVEL_ERROR, "{family}, {bits} bits: {error}");
                }
            }
        }
    }

    #[test]
    fn every_level_is_the_centroid_of_its_cell() {
        for shape in [0.3, 0.6, 0.9, 1.3, 1.6, 3.0, 8.0, 16.0] {
            let half = HalfLine::new(shape);
            for bits in 1..=8 {
                let levels = levels(shape, bits);
                assert!(
                    levels.windows(2).all(|pair| pair[0] < pair[1]),
                    "{shape} {bits}"
                );
                let mut positive = levels[levels.len() / 2..].to_vec();
                let before = positive.clone();
                half.step(&mut positive);
                let highest = before[before.len() - 1];
                for (a, b) in positive.iter().zip(&before) {
                    let residual = (a - b).abs() / highest;
                    assert!(
                        residual < MAX_RESIDUAL,
                        "shape {shape}, {bits} bits: {residual}"
                    );
                }
            }
        }
    }
}
