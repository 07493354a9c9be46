//! From a histogram of values to the range that codes cover.

use std::ops::Range;

use campana_quantize::RangeMethod;

/// Cells of a histogram: 8 for each code.
const CELLS: usize = 2048;

/// Codes of a range.
const CODES: usize = 256;

/// Share of the values that [`RangeMethod::Percentile`] leaves out on each side.
const LEFT_OUT: f64 = 1e-4;

/// Steps in which ranges are made smaller in search of the best; cells each.
const STEP: usize = CELLS / 128;

/// The share of the values, and their least number, that tell how the tail beyond the
/// seen ones falls.
const TAIL_SHARE: f64 = 0.01;
const TAIL_VALUES: u64 = 10;

/// How often values fall into cells of equal width.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    /// The least and the greatest value, zero included.
    bounds: [f32; 2],
    counts: Vec<u64>,
}

impl Histogram {
    /// An empty one between these bounds; without any where they are not ordered.
    pub(crate) fn new([low, high]: [f32; 2]) -> Self {
        let finite = |bound: f32| if bound.is_finite() { bound } else { 0.0 };
        Self {
            bounds: [finite(low).min(0.0), finite(high).max(0.0)],
            counts: vec![0; CELLS],
        }
    }

    pub(crate) fn add(&mut self, values: &[f32]) {
        let [low, high] = self.bounds;
        let per_value = CELLS as f32 / (high - low).max(f32::MIN_POSITIVE);
        for value in values {
            // Zeros of clamping activations are exact at any range.
            if *value != 0.0 {
                let cell = ((value - low) * per_value) as usize;
                self.counts[cell.min(CELLS - 1)] += 1;
            }
        }
    }

    /// The range to cover; zero is within.
    pub(crate) fn range(&self, method: RangeMethod) -> Range<f32> {
        let [low, high] = self.bounds;
        let zero = self.cell_of_zero();
        let cells = match method {
            RangeMethod::MinMax => 0..CELLS,
            RangeMethod::Percentile => self.percentile(),
            RangeMethod::Mse | RangeMethod::Auto => self.search(|cells| self.squared_error(cells)),
            RangeMethod::Entropy => self.search(|cells| self.divergence(cells)),
        };
        let width = (high - low) / CELLS as f32;
        let bound = |cell: usize| match cell {
            0 => low,
            CELLS => high,
            cell => low + cell as f32 * width,
        };
        bound(cells.start.min(zero)).min(0.0)..bound(cells.end.max(zero)).max(0.0)
    }

    /// A range with room for what further samples will bring, where values are so few
    /// that this is likely, as those of a pooled vector.
    ///
    /// Beyond the greatest of `n` values there are, in a tail of mean excess `t`, values
    /// of `2 t^2 / n` squared excess for each; `d` of room leaves `exp(-d / t)` of that,
    /// and makes steps larger. The sum of both errors is least where
    /// `n (range + d) = 12 * 255^2 t exp(-d / t)`.
    ///
    /// No end of the tail is estimated: the greatest values of an activation are often all
    /// those of a few channels, whose bulk looks bounded though their tails are not.
    pub(crate) fn with_room(&self, range: Range<f32>) -> Range<f32> {
        let [low, high] = self.bounds;
        let width = f64::from(high - low);
        let total: u64 = self.counts.iter().sum();
        let room = |tail: f64| -> f32 {
            let at = |room: f64| {
                let steps = 12.0 * ((CODES - 1) as f64).powi(2);
                tail * (steps * tail / (total as f64 * (width + room))).ln()
            };
            // A fixed point, from above and from below.
            let room = (0..8).fold(0.0, |room, _| 0.5 * (room + at(room).clamp(0.0, width)));
            if room.is_finite() { room as f32 } else { 0.0 }
        };
        let cell = f64::from(high - low) / CELLS as f64;
        let below = room(cell * self.mean_excess(self.counts.iter()));
        let above = room(cell * self.mean_excess(self.counts.iter().rev()));
        let start = match low < 0.0 && below > 0.0 {
            true => low - below,
            false => range.start,
        };
        let end = match high > 0.0 && above > 0.0 {
            true => high + above,
            false => range.end,
        };
        start..end
    }

    /// How far the outermost values lie, on average, beyond those that are not, in
    /// cells; counts come from the outside.
    fn mean_excess<'c>(&self, counts: impl Iterator<Item = &'c u64>) -> f64 {
        let total: u64 = self.counts.iter().sum();
        let wanted = ((TAIL_SHARE * total as f64) as u64).max(TAIL_VALUES);
        let (mut seen, mut sum) = (0, 0.0);
        for (place, &count) in counts.enumerate() {
            seen += count;
            sum += count as f64 * place as f64;
            if seen >= wanted {
                return place as f64 - sum / seen as f64;
            }
        }
        CELLS as f64 - sum / seen.max(1) as f64
    }

    fn cell_of_zero(&self) -> usize {
        let [low, high] = self.bounds;
        ((-low / (high - low).max(f32::MIN_POSITIVE) * CELLS as f32) as usize).min(CELLS)
    }

    fn percentile(&self) -> Range<usize> {
        let total: u64 = self.counts.iter().sum();
        let left_out = (total as f64 * LEFT_OUT) as u64;
        let place = |counts: &mut dyn Iterator<Item = &u64>| {
            let mut sum = 0;
            counts
                .take_while(|&&count| {
                    sum += count;
                    sum <= left_out
                })
                .count()
        };
        let start = place(&mut self.counts.iter());
        let end = CELLS - place(&mut self.counts.iter().rev());
        start.min(end)..end.max(start)
    }

    /// The range of least cost: first the upper end, then the lower, then the upper again.
    fn search(&self, cost: impl Fn(Range<usize>) -> f64) -> Range<usize> {
        let zero = self.cell_of_zero();
        let mut best = 0..CELLS;
        for side in [1, 0, 1] {
            let choices: Vec<Range<usize>> = if side == 1 {
                let first = (zero + STEP).min(CELLS);
                (first..=CELLS)
                    .step_by(STEP)
                    .map(|end| best.start..end)
                    .collect()
            } else {
                (0..=zero.saturating_sub(STEP))
                    .step_by(STEP)
                    .map(|start| start..best.end)
                    .collect()
            };
            let costs = choices
                .into_iter()
                .map(|cells| (cost(cells.clone()), cells));
            if let Some((_, cells)) = costs.min_by(|a, b| a.0.total_cmp(&b.0)) {
                best = cells;
            }
        }
        best
    }

    /// Squared error of all values, in squared cells: rounding inside, clipping outside.
    fn squared_error(&self, cells: Range<usize>) -> f64 {
        let step = cells.len() as f64 / (CODES - 1) as f64;
        let error = |cell: usize| -> f64 {
            let center = cell as f64 + 0.5;
            let outside = (cells.start as f64 - center).max(center - cells.end as f64);
            if outside > 0.0 {
                outside * outside
            } else {
                step * step / 12.0
            }
        };
        self.counts
            .iter()
            .enumerate()
            .map(|(cell, &count)| count as f64 * error(cell))
            .sum()
    }

    /// Divergence of what codes say of the distribution from it. Values outside
    /// count to the outermost cells of the one, but are not seen by the other.
    fn divergence(&self, cells: Range<usize>) -> f64 {
        if cells.len() < CODES {
            return f64::INFINITY;
        }
        let inside = &self.counts[cells.clone()];
        let mut clipped: Vec<f64> = inside.iter().map(|&count| count as f64).collect();
        let last = clipped.len() - 1;
        clipped[0] += self.counts[..cells.start].iter().sum::<u64>() as f64;
        clipped[last] += self.counts[cells.end..].iter().sum::<u64>() as f64;
        let mut coded = vec![0.0; inside.len()];
        for code in 0..CODES {
            let part = code * inside.len() / CODES..(code + 1) * inside.len() / CODES;
            let sum: u64 = inside[part.clone()].iter().sum();
            let used = inside[part.clone()]
                .iter()
                .filter(|&&count| count > 0)
                .count();
            for cell in part {
                if inside[cell] > 0 {
                    coded[cell] = sum as f64 / used as f64;
                }
            }
        }
        let [total, coded_total] = [&clipped, &coded].map(|counts| counts.iter().sum::<f64>());
        if total == 0.0 || coded_total == 0.0 {
            return f64::INFINITY;
        }
        // What the codes say is never is taken as this rare.
        const SMALLEST: f64 = 1e-9;
        let terms = clipped
            .iter()
            .zip(&coded)
            .filter(|(clipped, _)| **clipped > 0.0);
        terms
            .map(|(clipped, coded)| {
                let (p, q) = (clipped / total, (coded / coded_total).max(SMALLEST));
                p * (p / q).ln()
            })
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(values: &[f32]) -> Histogram {
        let bounds = values
            .iter()
            .fold([f32::INFINITY, f32::NEG_INFINITY], |[low, high], &v| {
                [low.min(v), high.max(v)]
            });
        let mut histogram = Histogram::new(bounds);
        histogram.add(values);
        histogram
    }

    /// Sums of uniform values: bells of deviation 1.
    fn bell(count: usize) -> Vec<f32> {
        let mut state = 1u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..count)
            .map(|_| (0..12).map(|_| uniform()).sum())
            .collect()
    }

    #[test]
    fn the_full_range_includes_zero() {
        assert_eq!(histogram(&[1.0, 3.0]).range(RangeMethod::MinMax), 0.0..3.0);
        assert_eq!(
            histogram(&[-1.0, -0.5]).range(RangeMethod::MinMax),
            -1.0..0.0
        );
        assert_eq!(histogram(&[]).range(RangeMethod::Mse), 0.0..0.0);
    }

    #[test]
    fn one_far_outlier_does_not_widen_clipping_ranges() {
        let mut values = bell(100_000);
        values.push(300.0);
        let histogram = histogram(&values);
        for method in [RangeMethod::Percentile, RangeMethod::Entropy] {
            let range = histogram.range(method);
            assert!((3.0..200.0).contains(&range.end), "{method}: {range:?}");
        }
        // Its squared error is as large as that of all other values together.
        let range = histogram.range(RangeMethod::Mse);
        assert!((200.0..300.0).contains(&range.end), "{range:?}");
    }

    #[test]
    fn few_values_leave_room_for_others() {
        let room = |values: &[f32]| {
            let histogram = histogram(values);
            let range = histogram.range(RangeMethod::MinMax);
            let wider = histogram.with_room(range.clone());
            [range.start - wider.start, wider.end - range.end]
        };
        // An exponential tail of mean 1, whose next value is at most 1 larger on average.
        let tail = |count: usize| -> Vec<f32> {
            let quantile = |at| -(1.0 - (at as f32 + 0.5) / count as f32).ln();
            (0..count).map(quantile).collect()
        };
        let [below, of_few] = room(&tail(500));
        assert_eq!(below, 0.0);
        assert!((1.0..6.0).contains(&of_few), "{of_few}");
        let [_, of_many] = room(&tail(300_000));
        assert!(of_many < 0.1, "{of_many}");
        // Nothing lies beyond a clamp.
        let mut clamped = tail(500);
        clamped.iter_mut().for_each(|value| *value = value.min(2.0));
        let [_, of_clamped] = room(&clamped);
        assert!(of_clamped < 0.01, "{of_clamped}");
    }

    #[test]
    fn the_range_of_least_error_beats_all_others() {
        let mut values = bell(50_000);
        values.extend([9.0, -8.0]);
        let histogram = histogram(&values);
        let error = |range: Range<f32>| -> f64 {
            let scale = (range.end - range.start) / 255.0;
            let squares = values.iter().map(|&v| {
                let code = ((v.clamp(range.start, range.end) - range.start) / scale).round();
                f64::from(code * scale + range.start - v).powi(2)
            });
            squares.sum()
        };
        let best = error(histogram.range(RangeMethod::Mse));
        for method in RangeMethod::ALL {
            // The search knows values to a cell only.
            assert!(best <= 1.02 * error(histogram.range(method)), "{method}");
        }
    }
}
