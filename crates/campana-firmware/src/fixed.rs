//! Fixed-point numbers that agree with what the engine computes in float32.
//!
//! The engine multiplies sums with floats and rounds the results to codes. The
//! kernels do that in fixed point: `fixed = high(sum 2^shift, multiplier) +
//! offset`, in units of `2^-fraction_bits`, where `high` is the upper half of a
//! product of 32-bit numbers. Where `fixed` is further than a tolerance from the
//! middle between two codes, both round to the same code; elsewhere, about once
//! in some thousand results, the kernels repeat the engine's arithmetic exactly.
//!
//! The tolerance is the sum of both errors, for results of -1 to 256 (others are
//! held to the bounds by both):
//!
//! - fixed point: each `high` is below its product by less than 1; a multiplier
//!   is rounded by at most 1/2, which moves a product by at most 1/4 since its
//!   other factor is below `2^31`; the offset is rounded by at most 1/2;
//! - float32: half a unit in the last place of each result that is rounded.

use campana_runtime::integer::{Averages, ChannelParams, Product, Sum};

use crate::error::Refusal;

/// Bits behind the point at most: more make the tolerance no smaller, which
/// then is that of float32.
const MAX_FRACTION_BITS: i32 = 20;

/// Fixed-point results stay below this power of two.
const RESULT_BITS: i32 = 29;

/// Bits by which codes of 0 to 255 are shifted before they are multiplied.
const CODE_SHIFT: i32 = 23;

/// Results of which no bound changes anything are below this.
const LARGEST_RESULT: f64 = 257.0;

/// What becomes of the sums of a product, in fixed point and in float32.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FixedRounding {
    pub(crate) channels: Vec<FixedChannel>,
    /// Whether the float sums of each channel are biased.
    pub(crate) biased: Vec<bool>,
    pub(crate) sum_shift: i32,
    pub(crate) fraction_bits: i32,
    pub(crate) tolerance: i32,
    pub(crate) residual_multiplier: i32,
}

/// One channel of a [`FixedRounding`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FixedChannel {
    /// Added to sums of codes that are less by 128.
    pub(crate) initial: i32,
    pub(crate) multiplier: i32,
    pub(crate) offset: i32,
    pub(crate) float_multiplier: f32,
    pub(crate) float_offset: f32,
}

/// Half a unit in the last place of float32 numbers up to this magnitude.
fn half_ulp(magnitude: f64) -> f64 {
    let exponent = magnitude.max(f64::MIN_POSITIVE).log2().floor() as i32;
    2f64.powi(exponent - 24)
}

/// Bits that a magnitude may be shifted up by to stay below a power of two.
fn headroom(magnitude: f64, bits: i32) -> i32 {
    let used = magnitude.max(f64::MIN_POSITIVE).log2().floor() as i32 + 1;
    bits - used
}

fn check_float(value: f32) -> Result<(), Refusal> {
    match value == 0.0 || value.is_normal() {
        true => Ok(()),
        false => Err(format!(
            "has the factor or offset {value:e}, which is no normal number"
        )),
    }
}

/// The sum of codes that a channel's products reach at most, either way, with
/// codes as the distance from the code of zero.
fn largest_sum(weights: &[i8], zero_point: u8) -> i64 {
    let (mut positive, mut negative) = (0i64, 0i64);
    for &weight in weights {
        match weight {
            0.. => positive += i64::from(weight),
            _ => negative -= i64::from(weight),
        }
    }
    let (below, above) = (i64::from(zero_point), 255 - i64::from(zero_point));
    (positive * above + negative * below).max(positive * below + negative * above)
}

/// What results in codes are of results in the engine's floats: `gain x + zero`.
#[derive(Clone, Copy)]
struct Unit {
    gain: f64,
    zero: f64,
}

impl Unit {
    fn of(product: &Product) -> Self {
        match product.encoding {
            Some(encoding) => Self {
                gain: f64::from(encoding.inverse_scale),
                zero: f64::from(encoding.zero_point),
            },
            None => Self {
                gain: 1.0,
                zero: 0.0,
            },
        }
    }

    fn factor(self, factor: f32) -> f64 {
        f64::from(factor) * self.gain
    }

    /// The offset that a channel's sum really gets: a biased sum is multiplied
    /// with its bias.
    fn offset(self, channel: &ChannelParams) -> f64 {
        let bias = f64::from(channel.bias) * f64::from(channel.multiplier);
        (bias + f64::from(channel.offset)) * self.gain + self.zero
    }
}

impl FixedRounding {
    /// For a product whose results are codes, or floats, which need no fixed
    /// point.
    ///
    /// # Errors
    ///
    /// Where sums do not fit in 32 bits or a parameter is no normal float.
    pub(crate) fn of(product: &Product, gives_floats: bool) -> Result<Self, Refusal> {
        let rounding = &product.rounding;
        let len = product.weights.len() / product.filters.max(1);
        let rows: Vec<&[i8]> = product.weights.chunks_exact(len.max(1)).collect();
        let zero_point = product.input.zero_point;
        let sums: Vec<i64> = rows
            .iter()
            .map(|row| largest_sum(row, zero_point))
            .collect();
        let largest = sums.iter().copied().max().unwrap_or(0);
        let raw = rows.iter().map(|row| {
            let magnitudes = row.iter().map(|&w| i64::from(w).abs());
            128 * magnitudes.sum::<i64>()
        });
        if largest.max(raw.max().unwrap_or(0)) >= 1 << 31 {
            return Err("has sums that do not fit in 32 bits".to_owned());
        }
        let mut fixed = Self {
            channels: Vec::with_capacity(rows.len()),
            biased: rounding.channels.iter().map(|c| c.bias != 0.0).collect(),
            sum_shift: headroom(largest as f64, 31).min(24),
            fraction_bits: 0,
            tolerance: 0,
            residual_multiplier: 0,
        };
        if !gives_floats {
            fixed.scale(product, &sums)?;
        }
        let unit = Unit::of(product);
        for ((channel, row), &largest) in rounding.channels.iter().zip(&rows).zip(&sums) {
            check_float(channel.multiplier)?;
            check_float(channel.offset)?;
            let sum: i32 = row.iter().map(|&w| i32::from(w)).sum();
            fixed.channels.push(FixedChannel {
                initial: channel.initial + 128 * sum,
                // Where all sums are zero, their factor is of no account.
                multiplier: match gives_floats || largest == 0 {
                    true => 0,
                    false => fixed.multiplier(unit.factor(channel.multiplier)),
                },
                offset: match gives_floats {
                    true => 0,
                    false => {
                        let offset = fixed.units(unit.offset(channel)).round() as i32;
                        offset + fixed.rounding_offset()
                    }
                },
                float_multiplier: channel.multiplier,
                float_offset: channel.offset,
            });
        }
        Ok(fixed)
    }

    /// Chooses the bits behind the point and the tolerance.
    fn scale(&mut self, product: &Product, sums: &[i64]) -> Result<(), Refusal> {
        let unit = Unit::of(product);
        let residual = product.residual.unwrap_or(0.0);
        check_float(residual)?;
        check_float(
            product
                .encoding
                .map_or(0.0, |encoding| encoding.inverse_scale),
        )?;
        let factor = unit.factor(residual);
        let mut fraction_bits = MAX_FRACTION_BITS;
        let (mut float_error, mut largest_multiplier) = (0f64, 0f64);
        for (channel, &sum) in product.rounding.channels.iter().zip(sums) {
            let multiplier = unit.factor(channel.multiplier).abs();
            let product = multiplier * sum as f64;
            let result = product + unit.offset(channel).abs() + 255.0 * factor.abs();
            fraction_bits = fraction_bits.min(headroom(result, RESULT_BITS));
            if sum > 0 {
                largest_multiplier = largest_multiplier.max(multiplier);
            }
            // A sum of more than 24 bits is rounded itself.
            if channel.bias == 0.0 && sum > 1 << 24 {
                float_error = float_error.max(multiplier * half_ulp(sum as f64));
            }
        }
        let shift = 32 - self.sum_shift;
        fraction_bits = fraction_bits.min(headroom(largest_multiplier, 31) - shift);
        let mut fixed_error = 1.0 + 0.25 + 0.5;
        float_error += half_ulp(LARGEST_RESULT);
        let mut largest_float = LARGEST_RESULT;
        if product.encoding.is_some() {
            // The float, and its product with the inverse scale.
            largest_float += 255.0;
            float_error += 2.0 * half_ulp(largest_float);
        }
        if product.residual.is_some() {
            fraction_bits = fraction_bits.min(headroom(factor.abs(), 31) - (32 - CODE_SHIFT));
            fixed_error += 1.0 + 0.25;
            float_error += half_ulp(largest_float + 255.0 * factor.abs());
        }
        self.fraction_bits = checked_bits(fraction_bits)?;
        self.tolerance = (fixed_error + self.units(float_error)).ceil() as i32 + 1;
        self.residual_multiplier = (self.units(factor) * 2f64.powi(32 - CODE_SHIFT)).round() as i32;
        Ok(())
    }

    /// What makes the integer part of a result the code that is stored: a half,
    /// the tolerance, and 128 less. Fractions of at most twice the tolerance then
    /// are those near to the middle between two codes.
    fn rounding_offset(&self) -> i32 {
        (1 << (self.fraction_bits - 1)) + self.tolerance - (128 << self.fraction_bits)
    }

    fn units(&self, value: f64) -> f64 {
        value * 2f64.powi(self.fraction_bits)
    }

    fn multiplier(&self, factor: f64) -> i32 {
        let shift = 32 - self.sum_shift;
        (self.units(factor) * 2f64.powi(shift)).round() as i32
    }
}

/// Bits behind the point, where there are enough to tell codes apart.
fn checked_bits(bits: i32) -> Result<i32, Refusal> {
    match bits {
        4.. => Ok(bits),
        _ => Err("has results that are too large for 32 bits in fixed point".to_owned()),
    }
}

/// A sum of two values in fixed point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct FixedSum {
    pub(crate) multipliers: [i32; 2],
    pub(crate) offset: i32,
    pub(crate) tolerance: i32,
    pub(crate) fraction_bits: i32,
}

impl FixedSum {
    /// # Errors
    ///
    /// Where a parameter is no normal float or results are too large.
    pub(crate) fn of(sum: &Sum) -> Result<Self, Refusal> {
        for value in [sum.factors[0], sum.factors[1], sum.offset] {
            check_float(value)?;
        }
        let factors = sum.factors.map(|factor| f64::from(factor).abs());
        let products = factors.map(|factor| 255.0 * factor);
        let offset = f64::from(sum.offset);
        let largest = products[0] + products[1] + offset.abs();
        let bits = MAX_FRACTION_BITS
            .min(headroom(largest, RESULT_BITS))
            .min(headroom(factors[0].max(factors[1]), 31) - (32 - CODE_SHIFT));
        let bits = checked_bits(bits)?;
        let units = |value: f64| value * 2f64.powi(bits);
        let float_error = half_ulp(products[0])
            + half_ulp(products[1])
            + half_ulp(products[0] + products[1])
            + half_ulp(LARGEST_RESULT);
        let fixed_error = 2.0 * (1.0 + 0.25) + 0.5;
        let multiplier =
            |factor: f32| (units(f64::from(factor)) * 2f64.powi(32 - CODE_SHIFT)).round() as i32;
        Ok(Self {
            multipliers: sum.factors.map(multiplier),
            offset: units(offset).round() as i32,
            tolerance: (fixed_error + units(float_error)).ceil() as i32 + 1,
            fraction_bits: bits,
        })
    }
}

/// Means in fixed point.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FixedMeans {
    /// For each number of pixels.
    pub(crate) multipliers: Vec<i32>,
    pub(crate) offset: i32,
    pub(crate) tolerance: i32,
    pub(crate) sum_shift: i32,
    pub(crate) fraction_bits: i32,
}

impl FixedMeans {
    /// # Errors
    ///
    /// Where a parameter is no normal float or sums are too large.
    pub(crate) fn of(averages: &Averages) -> Result<Self, Refusal> {
        let pixels = averages.extents.window[0] * averages.extents.window[1];
        if pixels >= 1 << 16 {
            return Err("means over more pixels than the sums of float32 hold".to_owned());
        }
        let factors: Vec<f32> = (0..=pixels).map(|count| averages.factor(count)).collect();
        for &factor in &factors {
            check_float(factor)?;
        }
        let largest_factor = factors.iter().fold(0f64, |a, &b| a.max(f64::from(b)));
        let products = factors.iter().enumerate();
        let largest = products
            .map(|(count, &factor)| 255.0 * count as f64 * f64::from(factor))
            .fold(0f64, f64::max);
        let offset = f64::from(averages.offset());
        let sum_shift = headroom(255.0 * pixels as f64, 31).min(24);
        let bits = MAX_FRACTION_BITS
            .min(headroom(largest + offset, RESULT_BITS))
            .min(headroom(largest_factor, 31) - (32 - sum_shift));
        let bits = checked_bits(bits)?;
        let units = |value: f64| value * 2f64.powi(bits);
        let float_error = half_ulp(LARGEST_RESULT + offset) + half_ulp(LARGEST_RESULT);
        let multiplier =
            |factor: &f32| (units(f64::from(*factor)) * 2f64.powi(32 - sum_shift)).round() as i32;
        Ok(Self {
            multipliers: factors.iter().map(multiplier).collect(),
            offset: units(offset).round() as i32,
            tolerance: (1.0 + 0.25 + 0.5 + units(float_error)).ceil() as i32 + 1,
            sum_shift,
            fraction_bits: bits,
        })
    }
}
