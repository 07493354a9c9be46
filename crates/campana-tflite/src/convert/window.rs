//! Windows over two spatial axes, and the padding around them.

use campana_ir::op::Window;

use crate::error::Converted;
use crate::schema::Padding;

/// Windows over `[height, width]`; one spatial axis is the width of images of
/// height 1.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Windows {
    pub(super) input: [usize; 2],
    pub(super) kernel: [usize; 2],
    pub(super) strides: [usize; 2],
    pub(super) dilations: [usize; 2],
    /// Elements before and after each axis that windows reach.
    pub(super) pads: [[usize; 2]; 2],
    pub(super) outputs: [usize; 2],
}

impl Windows {
    /// The windows over spatial extents.
    pub(super) fn new(
        window: &Window,
        input: &[usize],
        kernel: &[usize],
        ceil: bool,
    ) -> Converted<Self> {
        if !matches!(input.len(), 1 | 2) || kernel.len() != input.len() {
            let axes = input.len();
            return Err(format!(
                "slides a window over {axes} axes, TFLite's over one or two"
            ));
        }
        if kernel.contains(&0) || input.contains(&0) {
            return Err("slides a window over nothing".to_owned());
        }
        let mut windows = Self {
            input: [1; 2],
            kernel: [1; 2],
            strides: [1; 2],
            dilations: [1; 2],
            pads: [[0; 2]; 2],
            outputs: [1; 2],
        };
        for axis in 0..input.len() {
            let at = axis + 2 - input.len();
            windows.input[at] = input[axis];
            windows.kernel[at] = kernel[axis];
            windows.strides[at] = window.stride(axis);
            windows.dilations[at] = window.dilation(axis);
            let places = window.along(axis, input[axis], kernel[axis], ceil);
            let places = places.ok_or("has a window that is larger than its input")?;
            windows.pads[at] = [places.before, places.reached];
            windows.outputs[at] = places.count;
        }
        Ok(windows)
    }

    /// Extent of a window with its dilation.
    fn span(&self, at: usize) -> usize {
        (self.kernel[at] - 1) * self.dilations[at] + 1
    }

    /// The padding of each axis of `[batch, height, width, channels]`.
    pub(super) fn border(&self) -> [[usize; 2]; 4] {
        let [rows, columns] = self.pads;
        [[0, 0], rows, columns, [0, 0]]
    }

    /// The padding that the operator has of its own, where it has this one.
    pub(super) fn own_padding(&self) -> Option<Padding> {
        if self.pads == [[0; 2]; 2] {
            return Some(Padding::Valid);
        }
        let is_same = (0..2).all(|at| {
            let outputs = self.input[at].div_ceil(self.strides[at]);
            let reached = (outputs - 1) * self.strides[at] + self.span(at);
            let total = reached.saturating_sub(self.input[at]);
            self.outputs[at] == outputs && self.pads[at] == [total / 2, total - total / 2]
        });
        is_same.then_some(Padding::Same)
    }
}

#[cfg(test)]
mod tests {
    use campana_ir::op::AutoPad;

    use super::*;

    fn window(strides: usize, pads: [usize; 2]) -> Window {
        Window {
            kernel: vec![3, 3],
            strides: vec![strides; 2],
            dilations: Vec::new(),
            padding: AutoPad::Explicit([pads, pads].map(|[a, b]| [a, b]).concat()),
        }
    }

    fn windows(strides: usize, before: usize, after: usize) -> Windows {
        let mut window = window(strides, [0, 0]);
        window.padding = AutoPad::Explicit(vec![before, before, after, after]);
        Windows::new(&window, &[32, 32], &[3, 3], false).unwrap()
    }

    #[test]
    fn padding_that_tflite_has_is_recognized() {
        assert_eq!(windows(1, 0, 0).own_padding(), Some(Padding::Valid));
        assert_eq!(windows(1, 1, 1).own_padding(), Some(Padding::Same));
        assert_eq!(windows(2, 0, 1).own_padding(), Some(Padding::Same));
        // As PyTorch pads: an odd element at the beginning.
        assert_eq!(windows(2, 1, 1).own_padding(), None);
        assert_eq!(windows(2, 1, 1).pads, [[1, 0]; 2]);
    }

    #[test]
    fn what_no_window_reaches_is_no_padding() {
        assert_eq!(windows(4, 0, 1).pads, [[0, 0]; 2]);
        assert_eq!(windows(4, 0, 1).own_padding(), Some(Padding::Valid));
    }
}
