//! Attributes of operators that slide a window over spatial axes.

use super::OpError;
use super::attributes::{Attributes, extent};

/// How padding is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AutoPad {
    /// As given: elements before each spatial axis, then after each; empty for none.
    Explicit(Vec<usize>),
    /// So that the output has `ceil(input / stride)` elements, an odd one at the end.
    SameUpper,
    /// The same, an odd one at the beginning.
    SameLower,
}

/// A window that slides over the spatial axes; lists are empty where the
/// defaults (1, no padding, the weights' extents) apply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Extents of the window.
    pub kernel: Vec<usize>,
    /// Distance of neighbouring windows.
    pub strides: Vec<usize>,
    /// Distance of neighbouring elements in a window.
    pub dilations: Vec<usize>,
    /// Elements around the input.
    pub padding: AutoPad,
}

/// Where windows lie along a spatial axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowPlaces {
    /// Elements of padding before the input.
    pub before: usize,
    /// Elements of padding behind it.
    pub after: usize,
    /// Number of windows.
    pub count: usize,
    /// Elements behind the input that windows reach: less than the padding where
    /// strides leave some of it out, more where the last window ends outside.
    pub reached: usize,
}

/// Attributes of `Conv` and `ConvTranspose`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Convolution {
    /// The window; its kernel may be empty, then the weights have it.
    pub window: Window,
    /// Groups of channels that do not see each other; at least 1.
    pub groups: usize,
    /// `output_padding` of a `ConvTranspose`: elements behind what its windows
    /// reach; empty for none.
    pub output_padding: Vec<usize>,
    /// `output_shape` of a `ConvTranspose`, which may have batch and channels
    /// before its spatial extents; empty where padding tells it.
    pub output_shape: Vec<usize>,
}

/// Where the results of a transposed convolution lie along a spatial axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransposedPlaces {
    /// Elements that its windows reach.
    pub reached: usize,
    /// Of these, elements that are cut off before the output.
    pub before: usize,
    /// Elements of the output; more than windows reach are zeros or biases.
    pub count: usize,
}

/// Attributes of the pools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The window.
    pub window: Window,
    /// Whether a last window may begin inside and end outside of the input.
    pub ceil: bool,
    /// Whether padding counts in a mean.
    pub count_padding: bool,
}

impl Window {
    pub(super) fn parse(attributes: &Attributes<'_>) -> Result<Self, OpError> {
        let padding = match attributes.string("auto_pad")?.unwrap_or("NOTSET") {
            "NOTSET" | "" => AutoPad::Explicit(attributes.extents("pads", 0)?.unwrap_or_default()),
            "VALID" => AutoPad::Explicit(Vec::new()),
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            other => return Err(OpError(format!("attribute auto_pad is {other:?}"))),
        };
        Ok(Self {
            kernel: attributes.extents("kernel_shape", 1)?.unwrap_or_default(),
            strides: attributes.extents("strides", 1)?.unwrap_or_default(),
            dilations: attributes.extents("dilations", 1)?.unwrap_or_default(),
            padding,
        })
    }

    /// The stride along a spatial axis.
    pub fn stride(&self, axis: usize) -> usize {
        self.strides.get(axis).copied().unwrap_or(1)
    }

    /// The dilation along a spatial axis.
    pub fn dilation(&self, axis: usize) -> usize {
        self.dilations.get(axis).copied().unwrap_or(1)
    }

    /// Where windows of `kernel` elements lie along a spatial axis of `input`; where
    /// `ceil`, a last one may end outside of the input and its padding, but not
    /// begin there. `None` where a window is larger than both.
    pub fn along(
        &self,
        axis: usize,
        input: usize,
        kernel: usize,
        ceil: bool,
    ) -> Option<WindowPlaces> {
        let stride = self.stride(axis);
        let span = kernel.checked_sub(1)? * self.dilation(axis) + 1;
        let reach = |count: usize| count.saturating_sub(1) * stride + span;
        let (before, after, count) = match &self.padding {
            AutoPad::Explicit(pads) => {
                let pad = |at: usize| pads.get(at).copied().unwrap_or(0);
                let (before, after) = (pad(axis), pad(axis + pads.len() / 2));
                let rest = (input + before + after).checked_sub(span)?;
                let mut count = rest / stride + 1;
                if ceil && rest % stride != 0 && count * stride < input + before {
                    count += 1;
                }
                (before, after, count)
            }
            same => {
                let count = input.div_ceil(stride);
                let total = reach(count).saturating_sub(input);
                let before = match same {
                    AutoPad::SameLower => total.div_ceil(2),
                    _ => total / 2,
                };
                (before, total - before, count)
            }
        };
        Some(WindowPlaces {
            before,
            after,
            count,
            reached: reach(count).saturating_sub(input + before),
        })
    }

    /// Whether elements of a window are apart from each other.
    pub fn is_dilated(&self) -> bool {
        self.dilations.iter().any(|&dilation| dilation > 1)
    }
}

impl Convolution {
    pub(super) fn parse(attributes: &Attributes<'_>) -> Result<Self, OpError> {
        Ok(Self {
            window: Window::parse(attributes)?,
            groups: extent("group", attributes.int("group", 1)?, 1)?,
            output_padding: attributes.extents("output_padding", 0)?.unwrap_or_default(),
            output_shape: attributes.extents("output_shape", 0)?.unwrap_or_default(),
        })
    }

    /// Where the results of a `ConvTranspose` lie along a spatial axis of `input`
    /// elements, one of `rank`, for a window of `kernel` elements. `None` where
    /// padding cuts off more than windows reach, or a window is empty.
    ///
    /// # References
    ///
    /// ONNX operator `ConvTranspose`, <https://onnx.ai/onnx/operators/onnx__ConvTranspose.html>.
    pub fn transposed_along(
        &self,
        (axis, rank): (usize, usize),
        input: usize,
        kernel: usize,
    ) -> Option<TransposedPlaces> {
        let window = &self.window;
        let span = kernel.checked_sub(1)? * window.dilation(axis) + 1;
        let steps = input.max(1) - 1;
        let reached = steps.checked_mul(window.stride(axis))?.checked_add(span)?;
        let full = reached + self.output_padding.get(axis).copied().unwrap_or(0);
        let first = self.output_shape.len().saturating_sub(rank);
        let declared = self.output_shape.get(first + axis).copied();
        let (before, count) = match (&window.padding, declared) {
            (AutoPad::Explicit(pads), None) => {
                let pad = |at: usize| pads.get(at).copied().unwrap_or(0);
                let (before, after) = (pad(axis), pad(axis + pads.len() / 2));
                (before, full.checked_sub(before + after)?)
            }
            (padding, declared) => {
                let count = match declared {
                    Some(count) => count,
                    None => input.checked_mul(window.stride(axis))?,
                };
                let total = full.saturating_sub(count);
                let before = match padding {
                    AutoPad::SameUpper => total / 2,
                    _ => total.div_ceil(2),
                };
                (before, count)
            }
        };
        Some(TransposedPlaces {
            reached,
            before,
            count,
        })
    }

    /// Whether weights of this shape give each output channel one input channel
    /// of several: a depthwise convolution, with any multiplier. A grouped
    /// convolution of wider groups is none, and neither is one over a single
    /// channel.
    pub fn is_depthwise(&self, weights: &[usize]) -> bool {
        self.groups > 1 && weights.get(1) == Some(&1)
    }
}

impl Pool {
    pub(super) fn parse(attributes: &Attributes<'_>) -> Result<Self, OpError> {
        Ok(Self {
            window: Window::parse(attributes)?,
            ceil: attributes.flag("ceil_mode", false)?,
            count_padding: attributes.flag("count_include_pad", false)?,
        })
    }
}
