//! Newton's method for the two Lloyd–Max conditions.

use super::quantizer::Table;
use crate::distribution::Family;
use crate::half_line::cells;

/// Limit on the steps; 5 to 8 are taken.
const MAX_STEPS: usize = 1000;

/// A step below this fraction of the range is the last: the next one would be
/// its square.
const LAST_STEP: f64 = 1e-10;

pub(super) fn solve(family: Family, bits: u8) -> Table {
    // By symmetry the half line suffices. Everything below is in units of the
    // family's scale; unit variance comes in at the end.
    let count = 1usize << (bits - 1);
    let mut spacings = start(family, count);
    for _ in 0..MAX_STEPS {
        let system = System::at(family, &spacings);
        if step(system, &mut spacings) <= LAST_STEP {
            break;
        }
    }
    table(family, bits, &spacings)
}

/// First level, then the distance of each level to the one below it, of the
/// quantizer that is optimal in the limit of many levels: levels at equal
/// steps of the integral of the cube root of the density (Panter and Dite,
/// 1951, doi:10.1109/JRPROC.1951.230419). Quantiles `i / (levels + 1)` put the
/// outermost level nearer to its place than the usual `(i - 1/2) / levels`,
/// from which Newton's method fails at 5 bits and more.
fn start(family: Family, count: usize) -> Vec<f64> {
    // The cube root of either density is a member of its family.
    let stretch = match family {
        Family::Gaussian => 3f64.sqrt(),
        Family::Laplace => 3.0,
    };
    let mut below = 0.0;
    (0..count)
        .map(|i| {
            let tail = (count - i) as f64 / (2 * count + 1) as f64;
            let level = -stretch * family.standard_quantile(tail);
            level - std::mem::replace(&mut below, level)
        })
        .collect()
}

/// The centroid conditions and their derivatives by the levels, a tridiagonal
/// matrix; each row is divided by the density at its level.
struct System {
    lower: Vec<f64>,
    diagonal: Vec<f64>,
    upper: Vec<f64>,
    residual: Vec<f64>,
    mass: Vec<f64>,
}

impl System {
    fn at(family: Family, spacings: &[f64]) -> Self {
        let count = spacings.len();
        let mut system = Self {
            lower: vec![0.0; count],
            diagonal: vec![0.0; count],
            upper: vec![0.0; count],
            residual: vec![0.0; count],
            mass: vec![0.0; count],
        };
        for (i, (y, cell)) in cells(family, spacings, spacings[0]).enumerate() {
            system.residual[i] = cell.above[1] - cell.below[1];
            system.mass[i] = cell.below[0] + cell.above[0];
            // A threshold moves by half of what its neighbours do; the one at
            // 0 stays.
            if i > 0 {
                let a = 0.5 * spacings[i];
                system.lower[i] = 0.5 * a * family.standard_pdf_ratio(y, -a);
            }
            if i + 1 < count {
                let b = 0.5 * spacings[i + 1];
                system.upper[i] = 0.5 * b * family.standard_pdf_ratio(y, b);
            }
            system.diagonal[i] = system.lower[i] + system.upper[i] - system.mass[i];
        }
        system
    }

    /// Newton's step, by Gaussian elimination without pivoting: near the
    /// solution minus the matrix is diagonally dominant for log-concave
    /// densities (Fleischer 1964).
    fn solve(mut self) -> Vec<f64> {
        let count = self.diagonal.len();
        for i in 1..count {
            let factor = self.lower[i] / self.diagonal[i - 1];
            self.diagonal[i] -= factor * self.upper[i - 1];
            self.residual[i] -= factor * self.residual[i - 1];
        }
        let mut solution: Vec<f64> = self.residual.iter().map(|residual| -residual).collect();
        for i in (0..count).rev() {
            let above = if i + 1 < count {
                self.upper[i] * solution[i + 1]
            } else {
                0.0
            };
            solution[i] = (solution[i] - above) / self.diagonal[i];
        }
        solution
    }
}

/// Takes a step and returns its greatest change of a level, relative to the
/// highest level.
///
/// Where Newton's step would move a threshold across half a cell, it takes a
/// step of Lloyd's (level = centroid), which never increases the error.
fn step(system: System, spacings: &mut [f64]) -> f64 {
    let by_spacing =
        |changes: &[f64], i: usize| changes[i] - if i > 0 { changes[i - 1] } else { 0.0 };
    let lloyd = system
        .residual
        .iter()
        .zip(&system.mass)
        .map(|(first, mass)| first / mass);
    let mut changes: Vec<f64> = lloyd.collect();
    let newton = system.solve();
    if spacings
        .iter()
        .enumerate()
        .all(|(i, &spacing)| by_spacing(&newton, i) > -0.5 * spacing)
    {
        changes = newton;
    }
    for (i, spacing) in spacings.iter_mut().enumerate() {
        *spacing += by_spacing(&changes, i);
    }
    let highest: f64 = spacings.iter().sum();
    changes
        .iter()
        .fold(0.0, |greatest: f64, change| greatest.max(change.abs()))
        / highest
}

/// The table of the solved half line, mirrored and scaled to unit variance.
fn table(family: Family, bits: u8, spacings: &[f64]) -> Table {
    let unit = 1.0 / family.std_per_scale();
    let mut positive_levels = Vec::with_capacity(spacings.len());
    let mut positive_thresholds = Vec::with_capacity(spacings.len());
    let (mut granular, mut overload, mut entropy) = (0.0, 0.0, 0.0);
    for (i, (y, cell)) in cells(family, spacings, spacings[0]).enumerate() {
        if i > 0 {
            positive_thresholds.push((y - 0.5 * spacings[i]) * unit);
        }
        positive_levels.push(y * unit);
        // Both half lines.
        let density = 2.0 * family.standard_pdf(y);
        granular += density * cell.below[2];
        if i + 1 < spacings.len() {
            granular += density * cell.above[2];
        } else {
            overload = density * cell.above[2];
        }
        let mass = density * (cell.below[0] + cell.above[0]);
        entropy -= mass * (0.5 * mass).log2();
    }
    let mirrored = |positive: &[f64]| -> Vec<f64> { positive.iter().rev().map(|x| -x).collect() };
    let mut levels = mirrored(&positive_levels);
    levels.append(&mut positive_levels);
    let mut thresholds = mirrored(&positive_thresholds);
    thresholds.push(0.0);
    thresholds.append(&mut positive_thresholds);
    let (granular_mse, overload_mse) = (granular * unit * unit, overload * unit * unit);
    Table {
        family,
        bits,
        levels,
        thresholds,
        mse: granular_mse + overload_mse,
        granular_mse,
        overload_mse,
        entropy_bits: entropy,
    }
}
