//! Windows over spatial axes, and the padding around them.

use campana_ir::op::{AutoPad, Window};

use crate::error::Converted;

/// Windows over one to three spatial axes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Windows {
    pub(super) kernel: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    /// Elements before and after each axis that windows reach or ask for.
    pub(super) pads: Vec<[usize; 2]>,
    pub(super) outputs: Vec<usize>,
}

impl Windows {
    /// The windows over spatial extents.
    pub(super) fn new(
        window: &Window,
        input: &[usize],
        kernel: &[usize],
        ceil: bool,
    ) -> Converted<Self> {
        if !matches!(input.len(), 1..=3) || kernel.len() != input.len() {
            let axes = input.len();
            return Err(format!(
                "slides a window over {axes} axes, Core ML's over one to three"
            ));
        }
        if kernel.contains(&0) || input.contains(&0) {
            return Err("slides a window over nothing".to_owned());
        }
        let axes = 0..input.len();
        let mut windows = Self {
            kernel: kernel.to_vec(),
            strides: axes.clone().map(|axis| window.stride(axis)).collect(),
            dilations: axes.clone().map(|axis| window.dilation(axis)).collect(),
            pads: Vec::new(),
            outputs: Vec::new(),
        };
        for axis in axes {
            let (pads, outputs) = windows.along(axis, input[axis], &window.padding, ceil)?;
            windows.pads.push(pads);
            windows.outputs.push(outputs);
        }
        Ok(windows)
    }

    /// Padding and number of windows along an axis.
    fn along(
        &self,
        axis: usize,
        input: usize,
        padding: &AutoPad,
        ceil: bool,
    ) -> Converted<([usize; 2], usize)> {
        let stride = self.strides[axis];
        let span = (self.kernel[axis] - 1) * self.dilations[axis] + 1;
        let reached = |outputs: usize| (outputs - 1) * stride + span;
        let (before, after, outputs) = match padding {
            AutoPad::Explicit(pads) => {
                let pad = |at: usize| pads.get(at).copied().unwrap_or(0);
                let (before, after) = (pad(axis), pad(axis + pads.len() / 2));
                let rest = (input + before + after).checked_sub(span);
                let rest = rest.ok_or("has a window that is larger than its input")?;
                let mut outputs = rest / stride + 1;
                // A last window may end outside, but not begin there.
                if ceil && rest % stride != 0 && outputs * stride < input + before {
                    outputs += 1;
                }
                let after = after.max(reached(outputs).saturating_sub(input + before));
                (before, after, outputs)
            }
            AutoPad::SameUpper | AutoPad::SameLower => {
                let outputs = input.div_ceil(stride);
                let total = reached(outputs).saturating_sub(input);
                let before = match padding {
                    AutoPad::SameLower => total.div_ceil(2),
                    _ => total / 2,
                };
                (before, total - before, outputs)
            }
        };
        Ok(([before, after], outputs))
    }

    /// The padding as Core ML has it: before and after each axis.
    pub(super) fn border(&self) -> Vec<usize> {
        self.pads.concat()
    }

    pub(super) fn is_padded(&self) -> bool {
        self.border().iter().any(|&pad| pad > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(padding: AutoPad, input: usize, stride: usize, ceil: bool) -> Windows {
        let window = Window {
            kernel: vec![3],
            strides: vec![stride],
            dilations: Vec::new(),
            padding,
        };
        Windows::new(&window, &[input], &[3], ceil).unwrap()
    }

    #[test]
    fn padding_that_finds_itself_is_written_out() {
        let upper = windows(AutoPad::SameUpper, 8, 2, false);
        assert_eq!(
            (&upper.pads[..], &upper.outputs[..]),
            (&[[0, 1]][..], &[4][..])
        );
        assert_eq!(windows(AutoPad::SameLower, 8, 2, false).pads, [[1, 0]]);
    }

    #[test]
    fn a_last_window_that_ends_outside_is_padding() {
        let ceil = windows(AutoPad::Explicit(vec![0, 0]), 8, 2, true);
        assert_eq!(
            (&ceil.pads[..], &ceil.outputs[..]),
            (&[[0, 1]][..], &[4][..])
        );
        assert_eq!(
            windows(AutoPad::Explicit(vec![0, 0]), 8, 2, false).outputs,
            [3]
        );
    }
}
