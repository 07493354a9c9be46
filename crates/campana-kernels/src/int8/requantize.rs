//! From 32-bit sums to what comes next.

use crate::aligned::AlignedBuffer;

/// How codes stand for values: `value = scale (code - zero point)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Affine {
    /// Distance of the values of neighbouring codes.
    pub scale: f32,
    /// The code of zero.
    pub zero_point: u8,
}

impl Affine {
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

/// What is done with the sum of each output channel:
/// `min(max(multiplier (initial + sum) + offset [+ factor residual], at_least), at_most)`,
/// each operation rounded. The result is a float, or a code where it is rounded
/// to a whole number (ties to even) of 0 to 255.
#[derive(Clone, Debug)]
pub struct Requantize {
    channels: usize,
    initial: Vec<i32>,
    multiplier: AlignedBuffer,
    offset: AlignedBuffer,
    /// Lower bound of the result.
    pub at_least: f32,
    /// Upper bound of the result.
    pub at_most: f32,
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
            at_least: f32::NEG_INFINITY,
            at_most: f32::INFINITY,
        };
        result.initial[..channels].copy_from_slice(initial);
        result.multiplier.as_mut_slice()[..channels].copy_from_slice(multiplier);
        result.offset.as_mut_slice()[..channels].copy_from_slice(offset);
        result
    }

    /// The same with these bounds.
    pub fn bounded(self, at_least: f32, at_most: f32) -> Self {
        Self {
            at_least,
            at_most,
            ..self
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

    /// The result for one channel's sum.
    pub(crate) fn apply(&self, channel: usize, sum: i32, residual: f32) -> f32 {
        let value = (self.initial[channel] + sum) as f32 * self.multiplier()[channel]
            + self.offset()[channel]
            + residual;
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
