//! The best scale, or scale and shift, of a table for a group of weights.

use super::{Levels, UnitTable};
use crate::empirical::Empirical;
use crate::summary::Summary;

/// The lowest scale tried, relative to the one that brings the table's
/// outermost level to the outermost weight.
const LOWEST: f64 = 0.02;

/// The highest, as above: powers of two, whose outermost cell reaches down to
/// three quarters of its level, may want to exceed the weights by a third.
const HIGHEST: f64 = 1.4;

/// Limit on steps of refinement, each of which lowers the error.
const MAX_STEPS: usize = 40;

/// Relative drop of the error that is worth another step.
const MIN_GAIN: f64 = 1e-5;

/// A scaled and shifted table with its squared error.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fitted {
    pub(super) scale: f64,
    pub(super) shift: f64,
    pub(super) error: f64,
}

/// Levels at the best scale of a table symmetric about 0 that holds 1: equal
/// weights are then a level.
pub(super) fn best_scaled(group: &Summary<'_>, table: &UnitTable) -> Levels {
    if group.moments().is_constant() {
        return Levels::affine(table, f64::from(group.moments().max_abs()), 0.0);
    }
    Levels::affine(table, best_scale(group, table).scale, 0.0)
}

/// The scale of least squared error, of a group that is not constant.
///
/// The error has several local minima: a grid and golden section find the
/// lowest one, then assignment and least squares alternate, which never raises
/// the error.
pub(super) fn best_scale(group: &Summary<'_>, table: &[f64]) -> Fitted {
    let reach = table
        .iter()
        .fold(0.0, |reach: f64, entry| reach.max(entry.abs()));
    let unit = f64::from(group.moments().max_abs()) / reach;
    let empirical = group.empirical();
    let (scale, error) = empirical.best_scale(table, 0.0, LOWEST * unit, HIGHEST * unit);
    refine(
        empirical,
        table,
        Fitted {
            scale,
            shift: 0.0,
            error,
        },
        |sums| (sums.entry_value / sums.entry_square, 0.0),
    )
}

/// Alternates assignment and the least-squares scale and shift.
pub(super) fn refine_affine(empirical: &Empirical, table: &[f64], start: Fitted) -> Fitted {
    refine(empirical, table, start, |sums| {
        let (n, t) = (sums.count, sums.entry);
        let scale = (sums.entry_value - t * sums.value / n) / (sums.entry_square - t * t / n);
        (scale, (sums.value - scale * t) / n)
    })
}

/// The error of a scaled and shifted table.
pub(super) fn fitted(empirical: &Empirical, table: &[f64], scale: f64, shift: f64) -> Fitted {
    Fitted {
        scale,
        shift,
        error: empirical.sse(&scaled(table, scale, shift)),
    }
}

fn scaled(table: &[f64], scale: f64, shift: f64) -> Vec<f64> {
    table.iter().map(|entry| entry * scale + shift).collect()
}

fn refine(
    empirical: &Empirical,
    table: &[f64],
    start: Fitted,
    fit: impl Fn(&Sums) -> (f64, f64),
) -> Fitted {
    let mut best = start;
    for _ in 0..MAX_STEPS {
        let sums = Sums::of(empirical, table, &scaled(table, best.scale, best.shift));
        let (scale, shift) = fit(&sums);
        if !(scale > 0.0 && scale.is_finite() && shift.is_finite()) {
            break;
        }
        let next = fitted(empirical, table, scale, shift);
        let gained = best.error - next.error;
        if gained > 0.0 {
            best = next;
        }
        if gained <= MIN_GAIN * best.error {
            break;
        }
    }
    best
}

/// Sums over all weights of 1, the weight, its table entry and their products.
#[derive(Default)]
struct Sums {
    count: f64,
    value: f64,
    entry: f64,
    entry_square: f64,
    entry_value: f64,
}

impl Sums {
    fn of(empirical: &Empirical, table: &[f64], levels: &[f64]) -> Self {
        let (counts, centred_sums) = empirical.prefix_sums();
        let mut sums = Self::default();
        let mut first = 0;
        for (i, &entry) in table.iter().enumerate() {
            let end = match levels.get(i + 1) {
                Some(next) => empirical.position_of(0.5 * (levels[i] + next)),
                None => empirical.len(),
            };
            let count = counts[end] - counts[first];
            let value = centred_sums[end] - centred_sums[first] + empirical.centre() * count;
            sums.count += count;
            sums.value += value;
            sums.entry += count * entry;
            sums.entry_square += count * entry * entry;
            sums.entry_value += entry * value;
            first = end;
        }
        sums
    }
}
