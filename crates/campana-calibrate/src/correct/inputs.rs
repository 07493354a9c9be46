//! Second moments of what a layer's weights are multiplied with.

use std::sync::Arc;

use campana_ir::graph::{Attribute, Node};
use campana_kernels::gemm::{Epilogue, Grid, PackedMatrix, RowRuns, gemm};
use campana_kernels::{Level, ThreadPool};
use campana_quantize::Error;
use campana_quantize::graph::unsupported;
use campana_rounding::SecondMoment;
use campana_tensor::Tensor;
use rayon::prelude::*;

use crate::correct::images::Random;
use crate::correct::walk::floats;

/// Windows that are looked at, over all images: this many, or this many times
/// the weights of a row.
const WINDOWS: usize = 8192;
const WINDOWS_PER_WEIGHT: usize = 4;

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

/// What moments are taken about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The mean: its error is corrected behind the layer.
    Mean,
    /// Zero: it is not.
    Zero,
}

/// Moments of the inputs of each group in the quantized network, and with
/// those in the float network, gathered batch by batch.
pub(crate) struct InputMoments {
    windows: Windows,
    images: usize,
    random: Random,
    count: usize,
    groups: Vec<GroupMoments>,
    /// Sums of the products of what the other side of an addition lacks, at
    /// the same places, with the inputs; shape `[outputs, weights]`.
    lack: Vec<f64>,
}

/// Sums over windows of what lies beyond the first batch's means.
struct GroupMoments {
    quantized: Beyond,
    float: Beyond,
    /// `[weights, weights]`, quantized with quantized.
    own: Vec<f64>,
    /// The same, float with quantized.
    cross: Vec<f64>,
}

/// Values relative to an origin.
struct Beyond {
    origin: Vec<f32>,
    sums: Vec<f64>,
}

/// The moments of one group.
pub(crate) struct Moments {
    /// Of the inputs in the quantized network.
    pub(crate) own: SecondMoment,
    /// `E[x_float x_quantized^T]`, shape `[weights, weights]`.
    pub(crate) cross: Vec<f64>,
    /// `E[(s_float - s_quantized) x_quantized^T]` where the layer's outputs are
    /// added to `s`, shape `[outputs, weights]`; else empty.
    pub(crate) lack: Vec<f64>,
}

impl Moments {
    /// Multiplies by this share the moments of different channels, which
    /// `block` weights each meet, and those with what another value lacks.
    pub(crate) fn believe(&mut self, share: f64, block: usize) {
        let n = self.own.inputs();
        self.own = self.own.with_share_between(block, share);
        for (i, row) in self.cross.chunks_exact_mut(n.max(1)).enumerate() {
            for (j, value) in row.iter_mut().enumerate() {
                if i / block != j / block {
                    *value *= share;
                }
            }
        }
        self.lack.iter_mut().for_each(|lack| *lack *= share);
    }
}

impl InputMoments {
    /// No inputs yet of `images` images to come.
    pub(crate) fn new(windows: Windows, images: usize) -> Self {
        Self {
            windows,
            images: images.max(1),
            random: Random(0),
            count: 0,
            groups: Vec::new(),
            lack: Vec::new(),
        }
    }

    /// Adds a batch of inputs in the float and the quantized network, and of
    /// what the outputs are added to in both.
    pub(crate) fn add(
        &mut self,
        batches: [&Tensor; 2],
        others: Option<[&Tensor; 2]>,
        pool: &ThreadPool,
    ) -> Result<(), Error> {
        let before = self.random.0;
        let [float, quantized] = batches.map(|batch| {
            // The same windows in both.
            self.random.0 = before;
            let (values, shape) = (floats(batch)?, batch.shape());
            match self.windows {
                Windows::Rows => gather_rows(values, shape),
                Windows::Image { .. } => self.gather_windows(values, shape),
            }
        });
        let (float, quantized) = (float?, quantized?);
        let lack = match others {
            Some(others) => match quantized.first() {
                Some(gathered) => lack_at(gathered, others)?,
                None => None,
            },
            None => None,
        };
        self.count += quantized.first().map_or(0, |gathered| gathered.count);
        for (group, (float, quantized)) in float.into_iter().zip(quantized).enumerate() {
            if self.groups.len() == group {
                self.groups.push(GroupMoments::new(&float, &quantized));
            }
            self.groups[group].add(float, quantized, lack.as_deref(), &mut self.lack, pool);
        }
        Ok(())
    }

    /// For each group the covariances, or second moments about zero, drawn
    /// towards their diagonal as far as the windows are too few for the number
    /// of weights.
    pub(crate) fn finish(self, about: About) -> Vec<Moments> {
        let count = self.count.max(1) as f64;
        let lack = self.lack;
        self.groups
            .into_iter()
            .map(|group| {
                let n = group.quantized.sums.len();
                let kept = count / (count + n as f64);
                let finish = |mut values: Vec<f64>, left: &Beyond| {
                    let right = &group.quantized;
                    for i in 0..n {
                        for j in 0..n {
                            let beyond = [left.sums[i] / count, right.sums[j] / count];
                            let covariance = values[i * n + j] / count - beyond[0] * beyond[1];
                            let value = match about {
                                About::Mean => covariance,
                                About::Zero => {
                                    let left = f64::from(left.origin[i]) + beyond[0];
                                    let right = f64::from(right.origin[j]) + beyond[1];
                                    covariance + left * right
                                }
                            };
                            values[i * n + j] = if i == j { value } else { value * kept };
                        }
                    }
                    values
                };
                // Relative to the first batch's means: what lacks on average is
                // no affair of the weights.
                let lack = lack.iter().map(|sum| sum / count * kept).collect();
                Moments {
                    lack,
                    own: SecondMoment::new(n, finish(group.own, &group.quantized)),
                    cross: finish(group.cross, &group.float),
                }
            })
            .collect()
    }

    /// Random windows of each image, for each group of channels.
    fn gather_windows(&mut self, values: &[f32], shape: &[usize]) -> Result<Vec<Gathered>, Error> {
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
        let wanted = if row_len <= FEW_WEIGHTS {
            WINDOWS_OF_FEW
        } else {
            WINDOWS.max(WINDOWS_PER_WEIGHT * row_len)
        };
        let per_image = wanted.div_ceil(self.images).min(extent[0] * extent[1]);
        let places: Arc<[[usize; 3]]> = (0..images)
            .flat_map(|image| (0..per_image).map(move |_| image))
            .map(|image| {
                let place = self.random.next() as usize % (extent[0] * extent[1]).max(1);
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

fn gather_rows(values: &[f32], shape: &[usize]) -> Result<Vec<Gathered>, Error> {
    let Some(&len) = shape.last().filter(|&&len| len > 0) else {
        return Err(unsupported(format!(
            "a product of inputs of shape {shape:?}"
        )));
    };
    let count = values.len() / len;
    let columns = (0..len)
        .flat_map(|column| (0..count).map(move |row| values[row * len + column]))
        .collect();
    Ok(vec![Gathered {
        count,
        columns,
        places: Arc::default(),
        extent: [0; 2],
    }])
}

/// What the second of two values lacks to the first at the places of outputs,
/// about the mean of each channel; shape `[channels, places]`. `None` where
/// the values are not one for each output.
fn lack_at(
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
struct Gathered {
    count: usize,
    columns: Vec<f32>,
    /// Image, row and column of each output, the same in all groups.
    places: Arc<[[usize; 3]]>,
    /// Rows and columns of the layer's output.
    extent: [usize; 2],
}

impl GroupMoments {
    fn new(float: &Gathered, quantized: &Gathered) -> Self {
        let n = quantized.columns.len() / quantized.count.max(1);
        Self {
            quantized: Beyond::new(quantized),
            float: Beyond::new(float),
            own: vec![0.0; n * n],
            cross: vec![0.0; n * n],
        }
    }

    fn add(
        &mut self,
        mut float: Gathered,
        mut quantized: Gathered,
        lack: Option<&[f32]>,
        lack_sums: &mut Vec<f64>,
        pool: &ThreadPool,
    ) {
        let count = quantized.count;
        if count == 0 {
            return;
        }
        self.quantized.take(&mut quantized);
        self.float.take(&mut float);
        let n = self.quantized.origin.len();
        let columns = &quantized.columns;
        let packed = PackedMatrix::pack(count, n, |row, column| columns[column * count + row]);
        lack_sums.resize(lack.map_or(0, |lack| lack.len() / count * n), 0.0);
        let lack = lack.map(|lack| (lack, lack_sums));
        for (left, sums) in [
            (&**columns, &mut self.own),
            (&*float.columns, &mut self.cross),
        ]
        .into_iter()
        .chain(lack)
        {
            let rows = left.len() / count;
            let mut products = vec![0f32; rows * n];
            gemm(
                Level::detect(),
                pool,
                left,
                Grid::rows(rows, count),
                RowRuns::contiguous(count),
                &packed,
                Epilogue::NONE,
                &mut products,
                Grid::rows(rows, n),
            );
            for (sum, product) in sums.iter_mut().zip(&products) {
                *sum += f64::from(*product);
            }
        }
    }
}

impl Beyond {
    /// Relative to the means of these.
    fn new(first: &Gathered) -> Self {
        let count = first.count.max(1);
        let columns = first.columns.chunks_exact(count);
        let origin: Vec<f32> = columns
            .map(|column| column.iter().sum::<f32>() / count as f32)
            .collect();
        Self {
            sums: vec![0.0; origin.len()],
            origin,
        }
    }

    /// Makes values relative to the origin, and adds them up.
    fn take(&mut self, gathered: &mut Gathered) {
        let columns = gathered.columns.chunks_exact_mut(gathered.count);
        for ((column, origin), sum) in columns.zip(&self.origin).zip(&mut self.sums) {
            column.iter_mut().for_each(|value| *value -= origin);
            *sum += column.iter().map(|&value| f64::from(value)).sum::<f64>();
        }
    }
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
