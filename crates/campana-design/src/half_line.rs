//! Moments of a density over the cells of a quantizer's positive levels.

use crate::distribution::Family;
use crate::quadrature::Rule;

/// A cell's two halves: moments 0, 1 and 2 of the distance to its level, over
/// the standard member of a family, relative to the density at the level.
///
/// Each is a sum of positive terms and so precise to rounding.
pub(crate) struct Cell {
    pub(crate) below: [f64; 3],
    pub(crate) above: [f64; 3],
}

/// Positive levels with their cells. `spacings` are the first level and then
/// the distance of each level to the one below it; the first cell begins
/// `first_below` under its level, and the last one has no end.
pub(crate) fn cells(
    family: Family,
    spacings: &[f64],
    first_below: f64,
) -> impl Iterator<Item = (f64, Cell)> {
    let rule = Rule::get();
    let mut level = 0.0;
    (0..spacings.len()).map(move |i| {
        level += spacings[i];
        let y = level;
        let length = if i == 0 {
            first_below
        } else {
            0.5 * spacings[i]
        };
        let below = between(rule, length, |u| family.standard_pdf_ratio(y, -u));
        let above = match spacings.get(i + 1) {
            Some(next) => between(rule, 0.5 * next, |u| family.standard_pdf_ratio(y, u)),
            None => tail(family, y),
        };
        (y, Cell { below, above })
    })
}

/// Moments 0, 1 and 2 of `x - y` over all `x > y`, relative to the density at
/// `y`, which is positive.
pub(crate) fn tail(family: Family, y: f64) -> [f64; 3] {
    /// The Laplace tail reaches rounding after 40; faster ones before.
    const MAX_PANELS: usize = 100;
    let mut sums = [0.0; 3];
    for panel in 0..MAX_PANELS {
        let before = sums;
        let ratio = |u| family.standard_pdf_ratio(y, u);
        add_panel(&mut sums, Rule::get(), panel as f64, 1.0, ratio);
        if sums == before {
            break;
        }
    }
    sums
}

/// Moments over `0..length`, in panels of at most unit length.
fn between(rule: &Rule, length: f64, ratio: impl Fn(f64) -> f64) -> [f64; 3] {
    let panels = length.ceil().max(1.0);
    let width = length / panels;
    let mut sums = [0.0; 3];
    for panel in 0..panels as usize {
        add_panel(&mut sums, rule, panel as f64 * width, width, &ratio);
    }
    sums
}

fn add_panel(sums: &mut [f64; 3], rule: &Rule, from: f64, width: f64, ratio: impl Fn(f64) -> f64) {
    let [m0, m1, m2] = rule.moments(width, |u| ratio(from + u));
    sums[0] += m0;
    sums[1] += m1 + from * m0;
    sums[2] += m2 + 2.0 * from * m1 + from * from * m0;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_together_hold_half_the_mass_and_the_second_moment() {
        for family in Family::ALL {
            let (mut mass, mut second) = (0.0, 0.0);
            for (y, cell) in cells(family, &[0.3, 0.5, 1.7, 0.2], 0.3) {
                let density = family.standard_pdf(y);
                let [b, a] = [cell.below, cell.above].map(|m| m.map(|m| m * density));
                mass += a[0] + b[0];
                second += a[2] + b[2] + 2.0 * y * (a[1] - b[1]) + y * y * (a[0] + b[0]);
            }
            let variance = family.std_per_scale().powi(2);
            assert!((mass - 0.5).abs() < 1e-15, "{family} {mass}");
            assert!((second - 0.5 * variance).abs() < 1e-14, "{family} {second}");
        }
    }
}
