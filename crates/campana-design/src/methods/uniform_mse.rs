//! `mse`: the uniform levels of least squared error for the weights at hand.
//!
//! Four forms compete: levels symmetric about 0 without a level 0, the grid of
//! two's complement with a level 0 and one more level below it, its mirror
//! image, and, where it pays, evenly spaced levels anywhere.

use super::scale::{self, Fitted};
use super::{Levels, TableCache, UnitTable, mid_rise_table};
use crate::summary::Summary;

/// The error that a shift has to save to be worth storing, as a fraction.
const MIN_SHIFT_GAIN: f64 = 0.01;

pub(super) fn levels(group: &Summary<'_>, bits: u8) -> Levels {
    let moments = group.moments();
    let mid_rise = mid_rise_table(bits);
    if moments.is_constant() {
        return Levels::affine(&mid_rise, 0.0, f64::from(moments.min));
    }
    let candidates = [mid_rise.clone(), twos_complement(bits), mirrored(bits)].map(|table| {
        let fitted = scale::best_scale(group, &table);
        (table, fitted)
    });
    let symmetric = candidates[0].1;
    let Some((table, best)) = candidates
        .into_iter()
        .min_by(|a, b| a.1.error.total_cmp(&b.1.error))
    else {
        unreachable!("there are three candidates")
    };
    let shifted = best_shifted(group, &mid_rise, symmetric);
    if shifted.error < best.error * (1.0 - MIN_SHIFT_GAIN) {
        return Levels::affine(&mid_rise, shifted.scale, shifted.shift);
    }
    Levels::affine(&table, best.scale, 0.0)
}

/// The best of descents from the symmetric optimum, the same about the mean,
/// and the whole range.
fn best_shifted(group: &Summary<'_>, table: &[f64], symmetric: Fitted) -> Fitted {
    let moments = group.moments();
    let empirical = group.empirical();
    let (min, max) = (f64::from(moments.min), f64::from(moments.max));
    let steps = (table.len() - 1) as f64;
    let starts = [
        symmetric,
        scale::fitted(empirical, table, symmetric.scale, moments.mean),
        scale::fitted(empirical, table, (max - min) / steps, 0.5 * (max + min)),
        scale::fitted(empirical, table, 0.5 * (max - min) / steps, moments.mean),
    ];
    starts
        .map(|start| scale::refine_affine(empirical, table, start))
        .into_iter()
        .fold(
            symmetric,
            |best, next| if next.error < best.error { next } else { best },
        )
}

/// Integers from `-2^(bits - 1)` to `2^(bits - 1) - 1`.
fn twos_complement(bits: u8) -> UnitTable {
    static TABLES: TableCache = TableCache::new();
    TABLES.get(bits, || {
        let half = 1i32 << (bits - 1);
        (-half..half).map(f64::from).collect()
    })
}

/// Their negatives.
fn mirrored(bits: u8) -> UnitTable {
    static TABLES: TableCache = TableCache::new();
    TABLES.get(bits, || {
        let half = 1i32 << (bits - 1);
        (1 - half..=half).map(f64::from).collect()
    })
}
