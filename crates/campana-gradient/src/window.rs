//! Windows that slide over one to three spatial axes.

use campana_ir::op::Window;

use crate::error::Fault;

/// Spatial axes; fewer are seen as the last of these.
const AXES: usize = 3;

/// How a window lies over the elements of one plane.
#[derive(Clone, Debug)]
pub(crate) struct Windows {
    /// Elements of a plane of the input, of the window, and of a plane of the output.
    pub(crate) input: usize,
    pub(crate) taps: usize,
    pub(crate) output: usize,
    /// From one output to the next on the last axis, in the input.
    pub(crate) stride: usize,
    pub(crate) spans: Vec<Span>,
}

/// Neighbouring outputs on the last axis, and what one tap of their windows sees.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) tap: usize,
    /// Where the first output and the element that it sees lie in their planes.
    pub(crate) output: usize,
    pub(crate) input: usize,
    pub(crate) len: usize,
}

impl Span {
    /// The elements that the outputs see.
    pub(crate) fn inputs(&self, stride: usize) -> impl Iterator<Item = usize> + use<> {
        (self.input..).step_by(stride).take(self.len)
    }

    pub(crate) fn outputs(&self) -> std::ops::Range<usize> {
        self.output..self.output + self.len
    }
}

impl Windows {
    /// Of a window of these extents between planes of these extents.
    pub(crate) fn new(
        window: &Window,
        kernel: &[usize],
        input: &[usize],
        output: &[usize],
    ) -> Result<Self, Fault> {
        let rank = input.len();
        if rank > AXES || kernel.len() != rank || output.len() != rank {
            return Err(Fault::unsupported(format!("{rank} spatial axes")));
        }
        let missing = AXES - rank;
        let whole = |extents: &[usize]| -> [usize; AXES] {
            std::array::from_fn(|axis| axis.checked_sub(missing).map_or(1, |axis| extents[axis]))
        };
        let (kernel, input, output) = (whole(kernel), whole(input), whole(output));
        let of = |get: &dyn Fn(usize) -> usize, default: usize| -> [usize; AXES] {
            std::array::from_fn(|axis| axis.checked_sub(missing).map_or(default, get))
        };
        let strides = of(&|axis| window.stride(axis), 1);
        let dilations = of(&|axis| window.dilation(axis), 1);
        let mut before = [0; AXES];
        for axis in 0..rank {
            let at = axis + missing;
            // How many windows there are, the output says.
            let places = window.along(axis, input[at], kernel[at], false);
            let places = places.ok_or_else(|| Fault::invalid("a window larger than its input"))?;
            before[at] = places.before;
        }
        Ok(Self {
            input: input.iter().product(),
            taps: kernel.iter().product(),
            output: output.iter().product(),
            stride: strides[AXES - 1],
            spans: spans(kernel, input, output, strides, dilations, before),
        })
    }

    /// What each tap of each window sees, shape `[channels, taps, outputs]`
    /// (im2col); zeros where that is padding.
    pub(crate) fn columns(&self, planes: &[f32]) -> Vec<f32> {
        let channels = planes.len() / self.input.max(1);
        let mut columns = vec![0.0; channels * self.taps * self.output];
        let own = columns.chunks_exact_mut((self.taps * self.output).max(1));
        for (plane, columns) in planes.chunks_exact(self.input.max(1)).zip(own) {
            for span in &self.spans {
                let outputs = &mut columns[span.tap * self.output..][span.outputs()];
                if self.stride == 1 {
                    outputs.copy_from_slice(&plane[span.input..span.input + span.len]);
                } else {
                    for (output, at) in outputs.iter_mut().zip(span.inputs(self.stride)) {
                        *output = plane[at];
                    }
                }
            }
        }
        columns
    }

    /// Adds to each element what all windows that see it have for it (col2im).
    pub(crate) fn scatter(&self, columns: &[f32], planes: &mut [f32]) {
        let own = columns.chunks_exact((self.taps * self.output).max(1));
        for (plane, columns) in planes.chunks_exact_mut(self.input.max(1)).zip(own) {
            for span in &self.spans {
                let outputs = &columns[span.tap * self.output..][span.outputs()];
                self.add_span(span, plane, outputs, 1.0);
            }
        }
    }

    /// Adds outputs times a factor to the elements that a span sees.
    pub(crate) fn add_span(&self, span: &Span, plane: &mut [f32], outputs: &[f32], factor: f32) {
        if self.stride == 1 {
            let plane = &mut plane[span.input..span.input + span.len];
            for (value, output) in plane.iter_mut().zip(outputs) {
                *value += factor * output;
            }
        } else {
            for (at, output) in span.inputs(self.stride).zip(outputs) {
                plane[at] += factor * output;
            }
        }
    }

    /// Whether each output sees the element at its own place alone.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.taps == 1 && self.input == self.output && self.stride == 1
    }
}

fn spans(
    kernel: [usize; AXES],
    input: [usize; AXES],
    output: [usize; AXES],
    strides: [usize; AXES],
    dilations: [usize; AXES],
    before: [usize; AXES],
) -> Vec<Span> {
    let place = |axis: usize, at: usize, tap: usize| {
        let place = (at * strides[axis] + tap * dilations[axis]).checked_sub(before[axis])?;
        (place < input[axis]).then_some(place)
    };
    let mut spans = Vec::new();
    for tap in 0..kernel.iter().product() {
        let taps = [
            tap / kernel[2] / kernel[1],
            tap / kernel[2] % kernel[1],
            tap % kernel[2],
        ];
        // The outputs of a row whose element is no padding are neighbours.
        let seen = |at: &usize| place(2, *at, taps[2]).is_some();
        let Some(first) = (0..output[2]).find(seen) else {
            continue;
        };
        let len = (first..output[2]).take_while(seen).count();
        for z in 0..output[0] {
            for y in 0..output[1] {
                let (Some(in_z), Some(in_y), Some(in_x)) = (
                    place(0, z, taps[0]),
                    place(1, y, taps[1]),
                    place(2, first, taps[2]),
                ) else {
                    continue;
                };
                spans.push(Span {
                    tap,
                    output: (z * output[1] + y) * output[2] + first,
                    input: (in_z * input[1] + in_y) * input[2] + in_x,
                    len,
                });
            }
        }
    }
    spans
}
