//! What a layer's weights are multiplied with, at some places of its output.

use std::sync::Arc;

use campana_ir::graph::{Attribute, Node};
use campana_quantize::Error;
use campana_quantize::graph::unsupported;
use campana_tensor::Tensor;
use rayon::prelude::*;

use crate::correct::images::Random;
use crate::correct::walk::floats;

/// Windows that are looked at, over all images: this many, or this many times
/// the weights of a row.
const WINDOWS: usize = 8192;
const WINDOWS_PER_WEIGHT: usize = 2;

/// The same for layers of few weights a row, as depthwise ones are.
const FEW_WEIGHTS: usize = 64;
const WINDOWS_OF_FEW: usize = 2048;

/// Where a layer finds the inputs of its weights.
#[derive(Clone, Debug)]
pub(crate) enum Windows {
    /// The last axis is what a row of weights is multiplied with.
    Rows,
    /// Windows over the rows and columns of channels-first images.
    Image {
        groups: usize,
        kernel: [usize; 2],
        strides: [usize; 2],
        dilations: [usize; 2],
        /// Rows above and columns to the left that are padded with zeros;
        /// `None` where only the input's size tells.
        pads: Option<[usize; 4]>,
        /// Whether the odd row or column of padding comes first.
        pad_first: bool,
    },
}

impl Windows {
    /// The windows of a node whose weights have this shape; `None` for what is
    /// no Conv over images, Gemm or MatMul of common form.
    pub(crate) fn of(node: &Node, weights: &[usize]) -> Option<Self> {
        match node.op_type.as_str() {
            "MatMul" | "Gemm" => (int(node, "transA", 0) == 0).then_some(Self::Rows),
            "Conv" => {
                let [_, _, height, width] = *weights else {
                    return None;
                };
                let pads = match node.attributes.get("auto_pad") {
                    Some(Attribute::String(text)) if text.starts_with(b"SAME") => None,
                    _ => Some(ints(node, "pads")),
                };
                let pads = match pads {
                    None => None,
                    Some(Some(pads)) => Some(pads.try_into().ok()?),
                    Some(None) => Some([0; 4]),
                };
                let pair = |name| match ints(node, name) {
                    Some(values) => <[usize; 2]>::try_from(values).ok(),
                    None => Some([1, 1]),
                };
                Some(Self::Image {
                    groups: usize::try_from(int(node, "group", 1)).ok()?,
                    kernel: [height, width],
                    strides: pair("strides")?,
                    dilations: pair("dilations")?,
                    pads,
                    pad_first: matches!(
                        node.attributes.get("auto_pad"),
                        Some(Attribute::String(text)) if text == b"SAME_LOWER"
                    ),
                })
            }
            _ => None,
        }
    }

    /// Groups of output channels that see the same inputs.
    pub(crate) fn groups(&self) -> usize {
        match self {
            Self::Rows => 1,
            Self::Image { groups, .. } => *groups,
        }
    }
}

fn int(node: &Node, name: &str, default: i64) -> i64 {
    match node.attributes.get(name) {
        Some(Attribute::Int(value)) => *value,
        _ => default,
    }
}

fn ints(node: &Node, name: &str) -> Option<Vec<usize>> {
    match node.attributes.get(name) {
        Some(Attribute::Ints(values)) => values.iter().map(|&v| usize::try_from(v).ok()).collect(),
        _ => None,
    }
}

/// Takes what a layer's weights are multiplied with from one batch after
/// another.
pub(super) struct Gatherer {
    windows: Windows,
    images: usize,
    random: Random,
}

impl Gatherer {
    /// Over `images` images to come.
    pub(super) fn new(windows: Windows, images: usize) -> Self {
        Self {
            windows,
            images: images.max(1),
            random: Random(0),
        }
    }

    /// Of each batch, all of equal shapes, the same places; for each group of
    /// channels.
    pub(super) fn gather(&mut self, batches: [&Tensor; 2]) -> Result<[Vec<Gathered>; 2], Error> {
        let before = self.random.0;
        let [first, second] = batches.map(|batch| {
            self.random.0 = before;
            let (values, shape) = (floats(batch)?, batch.shape());
            match self.windows {
                Windows::Rows => self.rows(values, shape),
                Windows::Image { .. } => self.windows(values, shape),
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
        let wanted = (windows_wanted(len) * images).div_ceil(self.images);
        let count = wanted.min(all);
        let rows: Vec<usize> = (0..count)
            .map(|part| self.random.one_of_part(part, count, all))
            .collect();
        let mut columns = vec![0f32; len * count];
        columns
            .par_chunks_exact_mut(count.max(1))
            .enumerate()
            .for_each(|(column, values_of)| {
                for (value, row) in values_of.iter_mut().zip(&rows) {
                    *value = values[row * len + column];
                }
            });
        Ok(vec![Gathered {
            count,
            columns,
            places: Arc::default(),
            extent: [0; 2],
        }])
    }

    /// Windows of each image, spread at random, for each group of channels.
    fn windows(&mut self, values: &[f32], shape: &[usize]) -> Result<Vec<Gathered>, Error> {
        let Windows::Image {
            groups,
            kernel,
            strides,
            dilations,
            pads,
            pad_first,
        } = self.windows
        else {
            unreachable!("only images have windows");
        };
        let [images, channels, height, width] = *shape else {
            return Err(unsupported(format!("a convolution over shape {shape:?}")));
        };
        let size = [height, width];
        let reach = [0, 1].map(|a| (kernel[a] - 1) * dilations[a] + 1);
        let mut before = [0; 2];
        let mut extent = [0; 2];
        for axis in 0..2 {
            let total = match pads {
                Some(pads) => {
                    before[axis] = pads[axis];
                    pads[axis] + pads[axis + 2]
                }
                None => {
                    let outputs = size[axis].div_ceil(strides[axis]);
                    let total =
                        ((outputs - 1) * strides[axis] + reach[axis]).saturating_sub(size[axis]);
                    before[axis] = if pad_first {
                        total.div_ceil(2)
                    } else {
                        total / 2
                    };
                    total
                }
            };
            extent[axis] = (size[axis] + total)
                .checked_sub(reach[axis])
                .map_or(0, |span| span / strides[axis] + 1);
        }
        let own = channels / groups.max(1);
        let row_len = own * kernel[0] * kernel[1];
        let all = extent[0] * extent[1];
        let per_image = windows_wanted(row_len).div_ceil(self.images).min(all);
        let places: Arc<[[usize; 3]]> = (0..images)
            .flat_map(|image| (0..per_image).map(move |part| [image, part]))
            .map(|[image, part]| {
                let place = self.random.one_of_part(part, per_image, all);
                [image, place / extent[1], place % extent[1]]
            })
            .collect();
        let count = places.len();
        let gather = |group: usize| {
            let mut columns = vec![0f32; row_len * count];
            let parts = columns.par_chunks_exact_mut(count.max(1)).enumerate();
            parts.for_each(|(at, column)| {
                let channel = group * own + at / (kernel[0] * kernel[1]);
                let offset = [
                    at / kernel[1] % kernel[0] * dilations[0],
                    at % kernel[1] * dilations[1],
                ];
                for (value, &[image, y, x]) in column.iter_mut().zip(&*places) {
                    let y = (y * strides[0] + offset[0]).wrapping_sub(before[0]);
                    let x = (x * strides[1] + offset[1]).wrapping_sub(before[1]);
                    if y < height && x < width {
                        *value = values[((image * channels + channel) * height + y) * width + x];
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
pub(super) fn lack_at(
    gathered: &Gathered,
    [float, quantized]: [&Tensor; 2],
) -> Result<Option<Vec<f32>>, Error> {
    let places = &gathered.places;
    let images = places.last().map_or(0, |[image, ..]| image + 1);
    let [height, width] = gathered.extent;
    let channels = match *float.shape() {
        [n, channels, h, w] if n == images && [h, w] == gathered.extent => channels,
        _ => return Ok(None),
    };
    if quantized.shape() != float.shape() {
        return Ok(None);
    }
    let (float, quantized) = (floats(float)?, floats(quantized)?);
    let mut lack = vec![0f32; channels * places.len()];
    for (channel, lack) in lack.chunks_exact_mut(places.len().max(1)).enumerate() {
        for (lack, &[image, y, x]) in lack.iter_mut().zip(places.iter()) {
            let at = ((image * channels + channel) * height + y) * width + x;
            *lack = float[at] - quantized[at];
        }
        let mean = lack.iter().sum::<f32>() / lack.len() as f32;
        lack.iter_mut().for_each(|lack| *lack -= mean);
    }
    Ok(Some(lack))
}

/// Inputs of one group: for each weight of a row the values that it meets,
/// shape `[row_len, count]`.
pub(super) struct Gathered {
    pub(super) count: usize,
    pub(super) columns: Vec<f32>,
    /// Image, row and column of each output, the same in all groups.
    places: Arc<[[usize; 3]]>,
    /// Rows and columns of the layer's output.
    extent: [usize; 2],
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_tensor::TensorData;

    fn gathered(extent: [usize; 2], places: Vec<[usize; 3]>) -> Gathered {
        Gathered {
            count: places.len(),
            columns: Vec::new(),
            places: places.into(),
            extent,
        }
    }

    #[test]
    fn what_a_sum_lacks_is_read_at_the_places_of_outputs() {
        let tensor =
            |values: Vec<f32>| Tensor::new(vec![1, 2, 1, 3], TensorData::F32(values)).unwrap();
        let float = tensor(vec![5.0, 1.0, 2.0, 4.0, 4.0, 4.0]);
        let quantized = tensor(vec![1.0, 1.0, 0.0, 3.0, 3.0, 3.0]);
        let at = gathered([1, 3], vec![[0, 0, 0], [0, 0, 2]]);
        let lack = lack_at(&at, [&float, &quantized]).unwrap();
        // Channel 0 lacks 4 and 2, about their mean; channel 1 lacks 1 always.
        assert_eq!(lack, Some(vec![1.0, -1.0, 0.0, 0.0]));
        let elsewhere = gathered([2, 3], vec![[0, 1, 0]]);
        assert_eq!(lack_at(&elsewhere, [&float, &quantized]).unwrap(), None);
    }
}
