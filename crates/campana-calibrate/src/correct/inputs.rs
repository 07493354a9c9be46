//! What a layer's weights are multiplied with, at some places of its output.

use std::ops::Range;
use std::sync::Arc;

use campana_ir::graph::Node;
use campana_ir::op::{AutoPad, Convolution, Op};
use campana_quantize::Error;
use campana_quantize::graph::unsupported;
use campana_tensor::Tensor;
use rayon::prelude::*;

use crate::correct::activation_cache::floats;
use crate::correct::images::Random;

/// Windows that are looked at, over all images: this many, or this many times
/// the weights of a row.
const WINDOWS: usize = 8192;
const WINDOWS_PER_WEIGHT: usize = 2;

/// The same for layers of few weights a row, as depthwise ones are.
const FEW_WEIGHTS: usize = 64;
const WINDOWS_OF_FEW: usize = 2048;

/// Most spatial axes of a convolution; fewer are counted as leading extents of 1.
const AXES: usize = 3;

/// Where a layer finds the inputs of its weights.
#[derive(Clone, Debug)]
pub(crate) enum Windows {
    /// The last axis is what a row of weights is multiplied with.
    Rows,
    /// Windows over the spatial axes of channels-first values.
    Spatial {
        groups: usize,
        kernel: [usize; AXES],
        strides: [usize; AXES],
        dilations: [usize; AXES],
        padding: Padding,
    },
    /// What a transposed convolution over the last spatial axes has of its
    /// input at each output: an element for the taps whose step leads to one.
    Transposed {
        convolution: Box<Convolution>,
        rank: usize,
        kernel: [usize; AXES],
    },
}

/// Zeros around the input of a convolution.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Padding {
    /// Before each axis, and after it.
    Explicit([[usize; 2]; AXES]),
    /// As many as the input's extents ask for.
    Same {
        /// Whether an odd one comes first.
        first: bool,
    },
}

impl Windows {
    /// The windows of a node of this opset whose weights have this shape; `None`
    /// for what is no Conv or ungrouped ConvTranspose over one to three spatial axes, Gemm or
    /// MatMul of common form.
    pub(crate) fn of(node: &Node, opset: i64, weights: &[usize]) -> Option<Self> {
        match Op::parse(node, opset).ok()? {
            Op::MatMul => (weights.len() == 2).then_some(Self::Rows),
            Op::Gemm(gemm) => (weights.len() == 2 && !gemm.transpose_a).then_some(Self::Rows),
            Op::Conv(convolution) => {
                let window = &convolution.window;
                let kernel = spatial(weights.get(2..)?, 1)?;
                let padding = match &window.padding {
                    AutoPad::SameUpper => Padding::Same { first: false },
                    AutoPad::SameLower => Padding::Same { first: true },
                    AutoPad::Explicit(pads) => {
                        let (before, after) = pads.split_at(pads.len() / 2);
                        let (before, after) = (spatial(before, 0)?, spatial(after, 0)?);
                        Padding::Explicit(std::array::from_fn(|axis| [before[axis], after[axis]]))
                    }
                };
                Some(Self::Spatial {
                    groups: convolution.groups,
                    kernel,
                    strides: spatial(&window.strides, 1)?,
                    dilations: spatial(&window.dilations, 1)?,
                    padding,
                })
            }
            Op::ConvTranspose(convolution) if convolution.groups == 1 => {
                let kernel = weights.get(2..)?;
                Some(Self::Transposed {
                    convolution: Box::new(convolution),
                    rank: kernel.len(),
                    kernel: spatial(kernel, 1)?,
                })
            }
            _ => None,
        }
    }

    /// Groups of output channels that see the same inputs.
    pub(crate) fn groups(&self) -> usize {
        match self {
            Self::Rows | Self::Transposed { .. } => 1,
            Self::Spatial { groups, .. } => *groups,
        }
    }
}

/// Extents of spatial axes behind leading ones of `neutral`; `None` where there
/// are too many.
fn spatial(extents: &[usize], neutral: usize) -> Option<[usize; AXES]> {
    let leading = AXES.checked_sub(extents.len())?;
    let mut all = [neutral; AXES];
    all[leading..].copy_from_slice(extents);
    Some(all)
}

/// Elements before an axis of this size, and places of the window on it.
fn places_on_axis(
    padding: Padding,
    axis: usize,
    size: usize,
    stride: usize,
    reach: usize,
) -> (usize, usize) {
    let (before, total) = match padding {
        Padding::Explicit(pads) => (pads[axis][0], pads[axis][0] + pads[axis][1]),
        Padding::Same { first } => {
            let outputs = size.div_ceil(stride);
            let total = (outputs.saturating_sub(1) * stride + reach).saturating_sub(size);
            let before = if first { total.div_ceil(2) } else { total / 2 };
            (before, total)
        }
    };
    let span = (size + total).checked_sub(reach);
    (before, span.map_or(0, |span| span / stride + 1))
}

/// Takes what a layer's weights are multiplied with from one batch after
/// another.
pub(crate) struct Gatherer {
    windows: Windows,
    images: usize,
    random: Random,
    /// The inputs of a row of weights that are looked at; all where not given.
    part: Option<Range<usize>>,
}

impl Gatherer {
    /// Over `images` images to come.
    pub(crate) fn new(windows: Windows, images: usize) -> Self {
        Self {
            windows,
            images: images.max(1),
            random: Random::new(0),
            part: None,
        }
    }

    /// The same for a part of the inputs of a row of weights.
    pub(super) fn of_part(self, part: Range<usize>) -> Self {
        Self {
            part: Some(part),
            ..self
        }
    }

    /// The inputs that are looked at, of so many that a row of weights has.
    fn inputs(&self, row_len: usize) -> Result<Range<usize>, Error> {
        match &self.part {
            Some(part) if part.end > row_len => {
                Err(unsupported("a layer's inputs change their size"))
            }
            Some(part) => Ok(part.clone()),
            None => Ok(0..row_len),
        }
    }

    /// Of each batch, all of equal shapes, the same places; for each group of
    /// channels.
    pub(super) fn gather(&mut self, batches: [&Tensor; 2]) -> Result<[Vec<Gathered>; 2], Error> {
        let before = self.random.clone();
        let [first, second] = batches.map(|batch| {
            self.random = before.clone();
            let (values, shape) = (floats(batch)?, batch.shape());
            match self.windows {
                Windows::Rows => self.rows(values, shape),
                Windows::Spatial { .. } => self.windows(values, shape),
                Windows::Transposed { .. } => self.transposed(values, shape),
            }
        });
        Ok([first?, second?])
    }

    /// The last axis of a value, at places of the others.
    fn rows(&mut self, values: &[f32], shape: &[usize]) -> Result<Vec<Gathered>, Error> {
        let Some(&len) = shape.last().filter(|&&len| len > 0) else {
            return Err(unsupported(format!(
                "a product of inputs of shape {shape:?}"
            )));
        };
        let all = values.len() / len;
        let images = shape[0].max(1);
        let inputs = self.inputs(len)?;
        let target = (windows_wanted(inputs.len()) * images).div_ceil(self.images);
        let count = target.min(all);
        let rows: Vec<usize> = (0..count)
            .map(|part| self.random.one_of_part(part, count, all))
            .collect();
        let mut columns = vec![0f32; inputs.len() * count];
        columns
            .par_chunks_exact_mut(count.max(1))
            .zip(inputs)
            .for_each(|(values_of, input)| {
                for (value, row) in values_of.iter_mut().zip(&rows) {
                    *value = values[row * len + input];
                }
            });
        Ok(vec![Gathered {
            count,
            columns,
            places: Arc::default(),
            extent: [0; AXES],
        }])
    }

    /// Windows of each sample, spread at random, for each group of channels.
    fn windows(&mut self, values: &[f32], shape: &[usize]) -> Result<Vec<Gathered>, Error> {
        let Windows::Spatial {
            groups,
            kernel,
            strides,
            dilations,
            padding,
        } = self.windows
        else {
            unreachable!("only spatial axes have windows");
        };
        let (images, channels, size) = extents_of(shape)?;
        let on_axis = |axis: usize| {
            let reach = kernel[axis].saturating_sub(1) * dilations[axis] + 1;
            places_on_axis(padding, axis, size[axis], strides[axis], reach)
        };
        let before: [usize; AXES] = std::array::from_fn(|axis| on_axis(axis).0);
        let extent: [usize; AXES] = std::array::from_fn(|axis| on_axis(axis).1);
        let own = channels / groups.max(1);
        let taps: usize = kernel.iter().product();
        let row_len = own * taps;
        let inputs = self.inputs(row_len)?;
        let places = self.places(images, inputs.len(), extent);
        let count = places.len();
        let corners: Vec<Corner> = places
            .iter()
            .map(|place| {
                let corner = std::array::from_fn(|axis| {
                    (place.at[axis] * strides[axis]).wrapping_sub(before[axis])
                });
                Corner {
                    corner,
                    position: ravel(place.image * channels, corner, size),
                }
            })
            .collect();
        // The only element of a window lies in its plane where none is in the padding.
        let is_padded_behind =
            |axis: usize| extent[axis].saturating_sub(1) * strides[axis] >= size[axis];
        let are_inside = taps == 1 && before == [0; AXES] && !(0..AXES).any(is_padded_behind);
        let gather = |group: usize| {
            let mut columns = vec![0f32; inputs.len() * count];
            let parts = columns.par_chunks_exact_mut(count.max(1));
            parts.zip(inputs.clone()).for_each(|(column, at)| {
                let channel = group * own + at / taps;
                let tap = unravel(at % taps, kernel);
                let offset: [usize; AXES] = std::array::from_fn(|axis| tap[axis] * dilations[axis]);
                let ahead = ravel(channel, offset, size);
                for (value, corner) in column.iter_mut().zip(&corners) {
                    let is_inside =
                        |axis: usize| corner.corner[axis].wrapping_add(offset[axis]) < size[axis];
                    if are_inside || (0..AXES).all(is_inside) {
                        *value = values[corner.position.wrapping_add(ahead)];
                    }
                }
            });
            Gathered {
                count,
                columns,
                places: places.clone(),
                extent,
            }
        };
        Ok((0..groups).into_par_iter().map(gather).collect())
    }

    /// Places of each image's output that are looked at, for rows of so many weights.
    fn places(&mut self, images: usize, row_len: usize, extent: [usize; AXES]) -> Arc<[Place]> {
        let all: usize = extent.iter().product();
        let per_image = windows_wanted(row_len).div_ceil(self.images).min(all);
        (0..images)
            .flat_map(|image| (0..per_image).map(move |part| [image, part]))
            .map(|[image, part]| {
                let place = self.random.one_of_part(part, per_image, all);
                Place {
                    image,
                    at: unravel(place, extent),
                }
            })
            .collect()
    }

    /// What the weights of a transposed convolution meet at outputs of each sample: an
    /// element of the input where the distance to the tap is a whole number of strides.
    fn transposed(&mut self, values: &[f32], shape: &[usize]) -> Result<Vec<Gathered>, Error> {
        let Windows::Transposed {
            ref convolution,
            rank,
            kernel,
        } = self.windows
        else {
            unreachable!("only these are transposed");
        };
        let (images, channels, size) = extents_of(shape)?;
        // Axes before those of the convolution have one element.
        let own_axis = |axis: usize| axis.checked_sub(AXES - rank);
        let on_axis = |axis: usize| match own_axis(axis) {
            None => Some((0, 1)),
            Some(own) => convolution
                .transposed_along((own, rank), size[axis], kernel[axis])
                .map(|places| (places.before, places.count)),
        };
        let step = |axis: usize| match own_axis(axis) {
            None => [1, 1],
            Some(own) => [
                convolution.window.stride(own),
                convolution.window.dilation(own),
            ],
        };
        let mut before = [0; AXES];
        let mut extent = [0; AXES];
        let mut steps = [[1; 2]; AXES];
        for axis in 0..AXES {
            (before[axis], extent[axis]) = on_axis(axis).ok_or_else(|| {
                unsupported(format!("a transposed convolution over shape {shape:?}"))
            })?;
            steps[axis] = step(axis);
        }
        let taps: usize = kernel.iter().product();
        let inputs = self.inputs(channels * taps)?;
        let places = self.places(images, inputs.len(), extent);
        let count = places.len();
        let mut columns = vec![0f32; inputs.len() * count];
        let parts = columns.par_chunks_exact_mut(count.max(1));
        parts.zip(inputs).for_each(|(column, at)| {
            let (channel, tap) = (at / taps, unravel(at % taps, kernel));
            let source = |place: &Place| {
                let mut source = [0; AXES];
                for axis in 0..AXES {
                    let [stride, dilation] = steps[axis];
                    let reached = place.at[axis] + before[axis];
                    let distance = reached.checked_sub(tap[axis] * dilation)?;
                    source[axis] = distance / stride;
                    if !distance.is_multiple_of(stride) || source[axis] >= size[axis] {
                        return None;
                    }
                }
                Some(ravel(place.image * channels + channel, source, size))
            };
            for (value, place) in column.iter_mut().zip(places.iter()) {
                if let Some(source) = source(place) {
                    *value = values[source];
                }
            }
        });
        Ok(vec![Gathered {
            count,
            columns,
            places,
            extent,
        }])
    }
}

/// Images, channels and spatial extents of a value.
fn extents_of(shape: &[usize]) -> Result<(usize, usize, [usize; AXES]), Error> {
    let found = match *shape {
        [images, channels, ref size @ ..] if !size.is_empty() => {
            spatial(size, 1).map(|size| (images, channels, size))
        }
        _ => None,
    };
    found.ok_or_else(|| unsupported(format!("a convolution over shape {shape:?}")))
}

/// Coordinates of a place in row-major order.
fn unravel(place: usize, [_, height, width]: [usize; AXES]) -> [usize; AXES] {
    [
        place / width / height,
        place / width % height,
        place % width,
    ]
}

/// Where the element at these coordinates of a plane of this size lies, modulo
/// 2^64: coordinates before the plane, in the padding, may be added up with
/// others that lead back into it.
fn ravel(plane: usize, [z, y, x]: [usize; AXES], [depth, height, width]: [usize; AXES]) -> usize {
    let row = (plane * depth)
        .wrapping_add(z)
        .wrapping_mul(height)
        .wrapping_add(y);
    row.wrapping_mul(width).wrapping_add(x)
}

/// Where a window begins, which is before the image where padding is.
struct Corner {
    corner: [usize; AXES],
    /// In the values, of the first channel.
    position: usize,
}

/// Places that are looked at over all images, for rows of so many weights.
fn windows_wanted(row_len: usize) -> usize {
    if row_len <= FEW_WEIGHTS {
        WINDOWS_OF_FEW
    } else {
        WINDOWS.max(WINDOWS_PER_WEIGHT * row_len)
    }
}

/// What the second of two values lacks to the first at the places of outputs,
/// about the mean of each channel; shape `[channels, places]`. `None` where
/// the values are not one for each output.
pub(super) fn addend_error_at(
    gathered: &Gathered,
    [float, quantized]: [&Tensor; 2],
) -> Result<Option<Vec<f32>>, Error> {
    let places = &gathered.places;
    let images = places.last().map_or(0, |place| place.image + 1);
    let channels = match *float.shape() {
        [n, channels, ref size @ ..]
            if n == images && spatial(size, 1) == Some(gathered.extent) =>
        {
            channels
        }
        _ => return Ok(None),
    };
    if quantized.shape() != float.shape() {
        return Ok(None);
    }
    let (float, quantized) = (floats(float)?, floats(quantized)?);
    let mut addend_error = vec![0f32; channels * places.len()];
    for (channel, addend_error) in addend_error
        .chunks_exact_mut(places.len().max(1))
        .enumerate()
    {
        for (addend_error, place) in addend_error.iter_mut().zip(places.iter()) {
            let at = ravel(place.image * channels + channel, place.at, gathered.extent);
            *addend_error = float[at] - quantized[at];
        }
        let mean = addend_error.iter().sum::<f32>() / addend_error.len() as f32;
        addend_error
            .iter_mut()
            .for_each(|addend_error| *addend_error -= mean);
    }
    Ok(Some(addend_error))
}

/// Inputs of one group: for each weight of a row the values that it meets,
/// shape `[inputs, count]`.
pub(super) struct Gathered {
    pub(super) count: usize,
    pub(super) columns: Vec<f32>,
    /// Where each output lies, the same in all groups.
    places: Arc<[Place]>,
    /// Spatial extents of the layer's output.
    extent: [usize; AXES],
}

/// An output of a convolution.
#[derive(Clone, Copy, Debug)]
struct Place {
    image: usize,
    at: [usize; AXES],
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_ir::graph::Attribute;
    use campana_tensor::TensorData;

    fn gathered(extent: [usize; AXES], at: Vec<[usize; AXES]>) -> Gathered {
        let places = at.into_iter().map(|at| Place { image: 0, at });
        Gathered {
            count: places.len(),
            columns: Vec::new(),
            places: places.collect(),
            extent,
        }
    }

    fn convolution(attributes: &[(&str, Attribute)], weights: &[usize]) -> Option<Windows> {
        let attributes = attributes
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()));
        let node = Node {
            op_type: "Conv".to_owned(),
            attributes: attributes.collect(),
            ..Node::default()
        };
        Windows::of(&node, 17, weights)
    }

    #[test]
    fn windows_of_a_signal_meet_its_padded_values() {
        let attributes = [
            ("pads", Attribute::Ints(vec![1, 0])),
            ("strides", Attribute::Ints(vec![2])),
        ];
        let windows = convolution(&attributes, &[4, 2, 3]).unwrap();
        let values = (1..=10).map(|value| value as f32).collect();
        let signal = Tensor::new(vec![1, 2, 5], TensorData::F32(values)).unwrap();
        let mut gatherer = Gatherer::new(windows, 1);
        let [found, _] = gatherer.gather([&signal, &signal]).unwrap();
        // Two places: (0, 1, 2) and (2, 3, 4) of the first channel, and so on.
        let rows: Vec<&[f32]> = found[0].columns.chunks_exact(2).collect();
        assert_eq!(
            rows,
            [
                [0.0, 2.0],
                [1.0, 3.0],
                [2.0, 4.0],
                [0.0, 7.0],
                [6.0, 8.0],
                [7.0, 9.0]
            ]
        );
    }

    #[test]
    fn windows_of_a_volume_have_depth_and_same_padding_puts_the_odd_one_last() {
        let attributes = [("auto_pad", Attribute::String(b"SAME_UPPER".to_vec()))];
        let windows = convolution(&attributes, &[1, 1, 2, 1, 1]).unwrap();
        let values = vec![1.0, 2.0, 3.0];
        let volume = Tensor::new(vec![1, 1, 3, 1, 1], TensorData::F32(values)).unwrap();
        let mut gatherer = Gatherer::new(windows, 1);
        let [found, _] = gatherer.gather([&volume, &volume]).unwrap();
        let rows: Vec<&[f32]> = found[0].columns.chunks_exact(3).collect();
        assert_eq!(rows, [[1.0, 2.0, 3.0], [2.0, 3.0, 0.0]]);
    }

    #[test]
    fn single_elements_in_the_padding_behind_are_zeros() {
        let attributes = [("pads", Attribute::Ints(vec![0, 2]))];
        let windows = convolution(&attributes, &[1, 1, 1]).unwrap();
        let signal = Tensor::new(vec![1, 1, 2], TensorData::F32(vec![1.0, 2.0])).unwrap();
        let mut gatherer = Gatherer::new(windows, 1);
        let [found, _] = gatherer.gather([&signal, &signal]).unwrap();
        assert_eq!(found[0].columns, [1.0, 2.0, 0.0, 0.0]);
    }

    #[test]
    fn outputs_of_a_transposed_signal_meet_the_elements_that_lead_to_them() {
        let node = Node {
            op_type: "ConvTranspose".to_owned(),
            attributes: [
                ("strides".to_owned(), Attribute::Ints(vec![2])),
                ("pads".to_owned(), Attribute::Ints(vec![1, 0])),
            ]
            .into(),
            ..Node::default()
        };
        let windows = Windows::of(&node, 17, &[2, 5, 3]).unwrap();
        let values = vec![1.0, 2.0, 10.0, 20.0];
        let signal = Tensor::new(vec![1, 2, 2], TensorData::F32(values)).unwrap();
        let mut gatherer = Gatherer::new(windows, 1);
        let [found, _] = gatherer.gather([&signal, &signal]).unwrap();
        // Of the sums x0 w0, x0 w1, x0 w2 + x1 w0, x1 w1, x1 w2 the first is cut off.
        let rows: Vec<&[f32]> = found[0].columns.chunks_exact(4).collect();
        assert_eq!(
            rows,
            [
                [0.0, 2.0, 0.0, 0.0],
                [1.0, 0.0, 2.0, 0.0],
                [0.0, 1.0, 0.0, 2.0],
                [0.0, 20.0, 0.0, 0.0],
                [10.0, 0.0, 20.0, 0.0],
                [0.0, 10.0, 0.0, 20.0]
            ]
        );
    }

    #[test]
    fn four_spatial_axes_have_no_windows() {
        assert!(convolution(&[], &[1, 1, 2, 2, 2, 2]).is_none());
        assert!(convolution(&[], &[8]).is_none());
    }

    #[test]
    fn what_a_sum_lacks_is_read_at_the_places_of_outputs() {
        let tensor =
            |values: Vec<f32>| Tensor::new(vec![1, 2, 1, 3], TensorData::F32(values)).unwrap();
        let float = tensor(vec![5.0, 1.0, 2.0, 4.0, 4.0, 4.0]);
        let quantized = tensor(vec![1.0, 1.0, 0.0, 3.0, 3.0, 3.0]);
        let at = gathered([1, 1, 3], vec![[0, 0, 0], [0, 0, 2]]);
        let addend_error = addend_error_at(&at, [&float, &quantized]).unwrap();
        // Channel 0 lacks 4 and 2, about their mean; channel 1 lacks 1 always.
        assert_eq!(addend_error, Some(vec![1.0, -1.0, 0.0, 0.0]));
        let elsewhere = gathered([1, 2, 3], vec![[0, 1, 0]]);
        assert_eq!(
            addend_error_at(&elsewhere, [&float, &quantized]).unwrap(),
            None
        );
    }
}
