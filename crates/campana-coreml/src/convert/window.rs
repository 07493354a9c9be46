//! Windows over spatial axes, and the padding around them.

use campana_ir::op::Window;

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
            let places = window.along(axis, input[axis], kernel[axis], ceil);
            let places = places.ok_or("has a window that is larger than its input")?;
            let after = places.after.max(places.reached);
            windows.pads.push([places.before, after]);
            windows.outputs.push(places.count);
        }
        Ok(windows)
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
    use campana_ir::op::AutoPad;

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
