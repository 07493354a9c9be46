//! Uniform quantizers: the step of least mean squared error for a family, and
//! ACIQ's analytic clipping range.
//!
//! # References
//!
//! J. Max, "Quantizing for minimum distortion", IRE Trans. Inf. Theory 6(1),
//! 1960, doi:10.1109/TIT.1960.1057548. R. Banner, Y. Nahshan, D. Soudry,
//! "Post training 4-bit quantization of convolutional networks for
//! rapid-deployment", NeurIPS 2019, arXiv:1810.05723 (ACIQ).

use std::sync::OnceLock;

use crate::distribution::Family;
use crate::half_line::{cells, tail};
use crate::lloyd_max::MAX_BITS;

/// Halvings of a bracket: to the last bit of any step within it.
const HALVINGS: usize = 64;

/// The uniform quantizer of least mean squared error for the member of a family
/// that has mean 0 and variance 1.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct UniformTable {
    /// The family.
    pub family: Family,
    /// Number of levels, symmetric about 0.
    pub level_count: usize,
    /// Distance between neighbouring levels.
    pub step: f64,
    /// Mean squared error, relative to the variance.
    pub mse: f64,
}

impl UniformTable {
    /// The end of the outermost cell, were it as wide as the others.
    pub fn clip(&self) -> f64 {
        0.5 * self.level_count as f64 * self.step
    }

    /// The highest level.
    pub fn highest_level(&self) -> f64 {
        0.5 * (self.level_count - 1) as f64 * self.step
    }
}

/// The mid-rise quantizer of `2^bits` levels, none of them 0.
///
/// # Panics
///
/// If `bits` is not in 1 to [`MAX_BITS`].
pub fn mid_rise(family: Family, bits: u8) -> &'static UniformTable {
    static TABLES: Tables = new_tables();
    cached(&TABLES, family, bits, || solve(family, 1 << bits))
}

/// The mid-tread quantizer of `2^bits - 1` levels, one of them 0; a single
/// level, 0, for 1 bit.
///
/// # Panics
///
/// If `bits` is not in 1 to [`MAX_BITS`].
pub fn mid_tread(family: Family, bits: u8) -> &'static UniformTable {
    static TABLES: Tables = new_tables();
    cached(&TABLES, family, bits, || solve(family, (1 << bits) - 1))
}

/// ACIQ's clipping range is `-clip..clip`; this is that `clip` in standard
/// deviations.
///
/// ACIQ takes the error inside the range for that of a uniform density,
/// `clip^2 / (3 * 4^bits)`, and adds the exact error of clipping. Where their
/// derivatives cancel,
///
/// ```text
/// 4 * integral over x > clip of (x - clip) p(x) dx = 2 * clip / (3 * 4^bits)
/// ```
///
/// # Panics
///
/// If `bits` is not in 1 to [`MAX_BITS`].
pub fn aciq_clip(family: Family, bits: u8) -> f64 {
    static CLIPS: [[OnceLock<f64>; MAX_BITS as usize]; Family::ALL.len()] =
        [const { [const { OnceLock::new() }; MAX_BITS as usize] }; Family::ALL.len()];
    assert_bits(bits);
    *CLIPS[family as usize][usize::from(bits) - 1].get_or_init(|| {
        let granular = 2.0 / (3.0 * 4f64.powi(i32::from(bits)));
        let clip = bisect(0.0, 40.0, |clip| {
            4.0 * family.standard_pdf(clip) * tail(family, clip)[1] > granular * clip
        });
        clip / family.std_per_scale()
    })
}

type Tables = [[OnceLock<UniformTable>; MAX_BITS as usize]; Family::ALL.len()];

const fn new_tables() -> Tables {
    [const { [const { OnceLock::new() }; MAX_BITS as usize] }; Family::ALL.len()]
}

fn cached(
    tables: &'static Tables,
    family: Family,
    bits: u8,
    solve: impl FnOnce() -> UniformTable,
) -> &'static UniformTable {
    assert_bits(bits);
    tables[family as usize][usize::from(bits) - 1].get_or_init(solve)
}

fn assert_bits(bits: u8) {
    assert!(
        (1..=MAX_BITS).contains(&bits),
        "bits must be 1 to {MAX_BITS}, not {bits}"
    );
}

/// Halves `low..high` until they meet where `rising` turns from true to false.
fn bisect(mut low: f64, mut high: f64, rising: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..HALVINGS {
        let middle = 0.5 * (low + high);
        if rising(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    0.5 * (low + high)
}

/// Finds the step at which the derivative of the error changes its sign, in
/// units of the family's scale.
fn solve(family: Family, level_count: usize) -> UniformTable {
    let levels = level_count as f64;
    let step = if level_count > 1 {
        // The clipping range is between half and 12 of the scale.
        bisect(1.0 / levels, 24.0 / levels, |step| {
            too_small(family, level_count, step)
        })
    } else {
        0.0
    };
    let unit = 1.0 / family.std_per_scale();
    let mse = mse(family, level_count, step) * unit * unit;
    UniformTable {
        family,
        level_count,
        step: step * unit,
        mse,
    }
}

/// Spacings of the positive levels.
fn spacings(level_count: usize, step: f64) -> Vec<f64> {
    let mut spacings = vec![step; level_count / 2];
    if level_count.is_multiple_of(2) {
        spacings[0] *= 0.5;
    }
    spacings
}

/// Whether a larger step has a smaller error. The step moves each level in
/// proportion to its distance from 0; thresholds contribute nothing, since the
/// error is continuous there.
fn too_small(family: Family, level_count: usize, step: f64) -> bool {
    let pull: f64 = cells(family, &spacings(level_count, step), 0.5 * step)
        .map(|(y, cell)| y * family.standard_pdf(y) * (cell.above[1] - cell.below[1]))
        .sum();
    pull > 0.0
}

fn mse(family: Family, level_count: usize, step: f64) -> f64 {
    if level_count == 1 {
        return family.std_per_scale().powi(2);
    }
    let outer: f64 = cells(family, &spacings(level_count, step), 0.5 * step)
        .map(|(y, cell)| family.standard_pdf(y) * (cell.above[2] + cell.below[2]))
        .sum();
    let inner = if level_count.is_multiple_of(2) {
        0.0
    } else {
        // The cell of level 0.
        let rule = crate::quadrature::Rule::get();
        rule.moments(0.5 * step, |u| family.standard_pdf(u))[2]
    };
    2.0 * (outer + inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shared::reference_json;

    /// Largest relative error of steps, clips and distortions.
    const MAX_UNIFORM_ERROR: f64 = 1e-12;

    fn assert_close(found: f64, expected: f64, what: &str) {
        let error = (found - expected).abs();
        assert!(
            error <= MAX_UNIFORM_ERROR * expected,
            "{what}: {found} for {expected}"
        );
    }

    #[test]
    fn gaussian_steps_are_those_of_max() {
        // To more digits than Max's table II gives, from 50-digit arithmetic.
        assert_close(
            mid_rise(Family::Gaussian, 2).step,
            0.995_686_685_943_506_3,
            "2 bits",
        );
        assert_close(
            mid_rise(Family::Gaussian, 4).step,
            0.335_200_612_199_972_7,
            "4 bits",
        );
        assert_close(
            mid_rise(Family::Gaussian, 4).mse,
            0.011_542_884_431_350_9,
            "4 bits",
        );
        assert_close(
            mid_tread(Family::Laplace, 3).step,
            0.821_752_559_683_989,
            "7 levels",
        );
    }

    #[test]
    fn aciq_clips_are_those_of_the_paper() {
        // Banner et al. give 2.83, 3.89, 5.03 scales of a Laplace density.
        let scales = [
            2.830_682_989_370_233_8,
            3.897_229_464_945_102_7,
            5.028_640_136_236_213,
        ];
        for (bits, scales) in (2..).zip(scales) {
            let found = aciq_clip(Family::Laplace, bits) * std::f64::consts::SQRT_2;
            assert_close(found, scales, "Laplace");
        }
        assert_close(
            aciq_clip(Family::Gaussian, 4),
            2.559_136_461_975_177,
            "Gaussian",
        );
    }

    #[test]
    fn every_value_equals_the_shared_reference() {
        let Some(reference) = reference_json("uniform_aciq_reference.json") else {
            return;
        };
        let number = |value: &serde_json::Value| -> f64 {
            value
                .as_str()
                .expect("a decimal number")
                .parse()
                .expect("a decimal number")
        };
        for entry in reference["uniform"].as_array().expect("a list of tables") {
            let family = entry["family"]
                .as_str()
                .expect("a name")
                .parse()
                .expect("a family");
            let bits = entry["bits"].as_u64().expect("a width") as u8;
            let rise = mid_rise(family, bits);
            assert_close(rise.step, number(&entry["step"]), "step");
            assert_close(rise.clip(), number(&entry["clip"]), "clip");
            assert_close(rise.mse, number(&entry["mse"]), "mse");
            if let Some(levels) = entry["midtread_levels"].as_u64() {
                let tread = mid_tread(family, bits);
                assert_eq!(tread.level_count, levels as usize);
                assert_close(
                    tread.step,
                    number(&entry["midtread_step"]),
                    "mid-tread step",
                );
                let highest = number(&entry["midtread_maxlevel"]);
                assert_close(tread.highest_level(), highest, "highest level");
                assert_close(tread.mse, number(&entry["midtread_mse"]), "mid-tread mse");
            }
        }
        for entry in reference["aciq"].as_array().expect("a list of clips") {
            let bits = entry["bits"].as_u64().expect("a width") as u8;
            let laplace = number(&entry["laplace_clip_over_sigma"]);
            assert_close(aciq_clip(Family::Laplace, bits), laplace, "Laplace clip");
            let gaussian = number(&entry["gauss_clip_over_sigma"]);
            assert_close(aciq_clip(Family::Gaussian, bits), gaussian, "Gaussian clip");
        }
    }

    #[test]
    fn one_level_leaves_all_the_variance() {
        for family in Family::ALL {
            assert_close(mid_tread(family, 1).mse, 1.0, "one level");
        }
    }
}
