//! From 32-bit sums to what comes next.

use super::vector::Int8;
use crate::aligned::AlignedBuffer;
use crate::vector::Vector;

/// How codes stand for values: `value = scale (code - zero point)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantParams {
    /// Distance of the values of neighbouring codes.
    pub scale: f32,
    /// The code of zero.
    pub zero_point: u8,
}

impl QuantParams {
    /// The value of a code.
    pub fn value(self, code: u8) -> f32 {
        self.scale * (i32::from(code) - i32::from(self.zero_point)) as f32
    }

    /// The code nearest to a value; NaN gives 0.
    pub fn code(self, value: f32) -> u8 {
        (value * (1.0 / self.scale) + f32::from(self.zero_point))
            .round_ties_even()
            .clamp(0.0, 255.0) as u8
    }
}

/// Columns that parameters are padded to a multiple of: the widest panel.
pub(crate) const PARAMETER_MULTIPLE: usize = 64;

/// Sums that are smaller than this in magnitude need no conversion to floats.
const LARGEST_BIASED: u64 = 1 << 22;

/// `BIAS + sum` has the bits of `BIAS_BITS + sum`, for sums smaller than [`LARGEST_BIASED`].
const BIAS: f32 = 1.5 * (1 << 23) as f32;
const BIAS_BITS: i32 = BIAS.to_bits().cast_signed();

/// What is done with the sum of each output channel:
/// `min(max(multiplier (initial + sum) + offset [+ factor residual], at_least), at_most)`,
/// each multiplication and addition rounded together. The result is a float, or
/// a code where it is rounded to a whole number (ties to even) of 0 to 255.
///
/// Where sums are known to be small ([`within`](Self::within)) they start at
/// the bits of a large float, so that their own are those of a float that is as
/// much larger, and the offset takes that back: one instruction instead of two.
#[derive(Clone, Debug)]
pub struct Requantize {
    channels: usize,
    initial: Vec<i32>,
    multiplier: AlignedBuffer,
    offset: AlignedBuffer,
    is_biased: bool,
    /// Lower bound of the result.
    pub at_least: f32,
    /// Upper bound of the result.
    pub at_most: f32,
}

/// What [`Requantize`] does with the sums of one channel:
/// `multiplier (bias + (initial + sum)) + offset`, rounded once, where
/// `initial + sum` becomes a float first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelParams {
    /// Added to the sum of products.
    pub initial: i32,
    /// Added to both as a float; 0 or so large that the float is exact.
    pub bias: f32,
    /// Factor of the sum as a float.
    pub multiplier: f32,
    /// Added to the product.
    pub offset: f32,
}

/// What [`Requantize`] makes of a vector of sums, before residuals and bounds.
#[inline(always)]
pub(crate) fn scaled<V: Int8>(
    sums: V::Sums,
    is_biased: bool,
    multiplier: V::Floats,
    offset: V::Floats,
) -> V::Floats {
    let sums = match is_biased {
        true => V::as_floats(sums),
        false => V::to_floats(sums),
    };
    sums.fused(multiplier, offset)
}

impl Requantize {
    /// Without bounds, from what each channel has.
    ///
    /// # Panics
    ///
    /// Where the slices differ in length.
    pub fn new(initial: &[i32], multiplier: &[f32], offset: &[f32]) -> Self {
        assert_eq!(initial.len(), multiplier.len(), "one multiplier a channel");
        assert_eq!(initial.len(), offset.len(), "one offset a channel");
        let channels = initial.len();
        let padded = channels.next_multiple_of(PARAMETER_MULTIPLE);
        let mut result = Self {
            channels,
            initial: vec![0; padded],
            multiplier: AlignedBuffer::zeros(padded),
            offset: AlignedBuffer::zeros(padded),
            is_biased: false,
            at_least: f32::NEG_INFINITY,
            at_most: f32::INFINITY,
        };
        result.initial[..channels].copy_from_slice(initial);
        result.multiplier.as_mut_slice()[..channels].copy_from_slice(multiplier);
        result.offset.as_mut_slice()[..channels].copy_from_slice(offset);
        result
    }

    /// The same for sums of which no `initial + sum` exceeds `largest` in
    /// magnitude. Offsets then are rounded to about a multiplier: what one code of
    /// the input more makes of the smallest weight.
    pub fn within(mut self, largest: u64) -> Self {
        if self.is_biased || largest >= LARGEST_BIASED {
            return self;
        }
        let multiplier = self.multiplier.as_slice();
        self.is_biased = true;
        for initial in &mut self.initial {
            *initial = initial.wrapping_add(BIAS_BITS);
        }
        for (offset, &multiplier) in self.offset.as_mut_slice().iter_mut().zip(multiplier) {
            *offset = (f64::from(*offset) - f64::from(BIAS) * f64::from(multiplier)) as f32;
        }
        self
    }

    /// The same with these bounds.
    pub fn bounded(self, at_least: f32, at_most: f32) -> Self {
        Self {
            at_least,
            at_most,
            ..self
        }
    }

    /// What is done with one channel's sums.
    ///
    /// # Panics
    ///
    /// Where there is no such channel.
    pub fn channel(&self, channel: usize) -> ChannelParams {
        assert!(channel < self.channels, "a channel of these");
        let initial = self.initial[channel];
        ChannelParams {
            initial: match self.is_biased {
                true => initial.wrapping_sub(BIAS_BITS),
                false => initial,
            },
            multiplier: self.multiplier()[channel],
            offset: self.offset()[channel],
            bias: if self.is_biased { BIAS } else { 0.0 },
        }
    }

    /// Number of channels.
    #[inline]
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Bytes in memory.
    pub fn len_bytes(&self) -> usize {
        size_of_val(self.initial.as_slice()) + self.multiplier.len_bytes() + self.offset.len_bytes()
    }

    #[inline]
    pub(crate) fn initial(&self) -> &[i32] {
        &self.initial
    }

    #[inline]
    pub(crate) fn multiplier(&self) -> &[f32] {
        self.multiplier.as_slice()
    }

    #[inline]
    pub(crate) fn offset(&self) -> &[f32] {
        self.offset.as_slice()
    }

    /// Whether the sums' bits are those of floats.
    #[inline]
    pub(crate) fn is_biased(&self) -> bool {
        self.is_biased
    }

    /// The result for one channel's sum, with a residual and its factor.
    pub(crate) fn apply(&self, channel: usize, sum: i32, residual: Option<(u8, f32)>) -> f32 {
        let sum = self.initial[channel] + sum;
        let sum = match self.is_biased {
            true => f32::from_bits(sum.cast_unsigned()),
            false => sum as f32,
        };
        let mut value = sum.mul_add(self.multiplier()[channel], self.offset()[channel]);
        if let Some((code, factor)) = residual {
            value = f32::from(code).mul_add(factor, value);
        }
        let value = if value < self.at_least {
            self.at_least
        } else {
            value
        };
        if value > self.at_most {
            self.at_most
        } else {
            value
        }
    }
}
