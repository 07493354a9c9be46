//! What a network is shown while it is calibrated or corrected: the user's
//! data, or synthetic inputs of the shapes and types that the network declares.
//!
//! Inputs may be any number, rank and type. A symbolic first extent counts
//! samples; equal symbols get equal extents. Synthetic float inputs are
//! [dead leaves](dead_leaves) over the last axes (images, spectrograms, one-
//! dimensional signals alike); integers are 0 and booleans true, which are
//! valid as indices, lengths and masks, unless the network tells their range.

use campana_ir::graph::{Dim, Value};
use campana_quantize::Error;
use campana_quantize::graph::unsupported;
use campana_tensor::{ElementType, Tensor, TensorData};

use self::given::{InputBatches, floats_as, given, spread};
use self::shapes::Shapes;
use crate::correct::images::{Random, dead_leaves};

mod given;
mod shapes;

/// Samples that run at once.
pub(crate) const BATCH: usize = 16;

/// Positions (pixels, points in time) of all synthetic samples together, and
/// bounds of their number.
const SYNTHETIC_POSITIONS: usize = 1 << 21;
const SYNTHETIC_SAMPLES: [usize; 2] = [8, 256];

/// Elements of one synthetic sample above which the network is not for this
/// machine.
const MAX_SAMPLE_LEN: usize = 1 << 26;

/// Rows and columns of synthetic images where the model does not say.
const DEFAULT_SIZE: [usize; 2] = [224, 224];

/// Channels of images and volumes, likewise.
const DEFAULT_CHANNELS: usize = 3;

/// Extents of other open axes: points in time of a signal, and planes of a
/// volume.
const DEFAULT_LENGTH: usize = 512;
const DEFAULT_DEPTH: usize = 16;

/// Rows of a two-dimensional sample up to which these are channels of a signal.
const MOST_CHANNELS: usize = 16;

/// Mean and standard deviation of photographs on the scale from 0 to 1.
const PHOTOGRAPH: [f32; 2] = [0.45, 0.25];

/// What a network is shown.
#[derive(Clone, Debug)]
pub enum Samples {
    /// Synthetic inputs.
    Synthetic {
        /// Rows and columns of images, where the model leaves its own open.
        size: Option<[usize; 2]>,
        /// The scale of float inputs.
        scale: InputScale,
    },
    /// Preprocessed images for the only input, shape `[images, ..]`.
    Images {
        /// Extents, the number of images first.
        shape: Vec<usize>,
        /// The values, row-major.
        data: Vec<f32>,
    },
    /// One array for each input, by its name; the first axis counts samples, or
    /// runs where the input is fixed beside others whose number of samples is open.
    Arrays(Vec<(String, Tensor)>),
}

/// The scale of synthetic float inputs.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum InputScale {
    /// Nothing is known: mean 0 and deviation 1.
    #[default]
    Unknown,
    /// That of photographs on the scale from 0 to 1, normalized by a mean and
    /// a deviation for each channel.
    Normalized {
        /// Subtracted from each channel.
        mean: Vec<f32>,
        /// Divides each channel.
        std: Vec<f32>,
    },
    /// Between these values.
    Range([f32; 2]),
}

impl Samples {
    /// At most `count` samples of one array for each input, evenly spread.
    ///
    /// # Errors
    ///
    /// As [`Batches::new`].
    pub fn arrays(
        inputs: &[Value],
        arrays: Vec<(String, Tensor)>,
        count: usize,
    ) -> Result<Self, Error> {
        spread(inputs, arrays, count).map(Self::Arrays)
    }

    /// Whether a network of these inputs can be shown the samples, without
    /// making them.
    ///
    /// # Errors
    ///
    /// As [`Batches::new`].
    pub fn check(&self, inputs: &[Value]) -> Result<(), Error> {
        match self {
            Self::Synthetic { size, .. } => {
                let shapes = Shapes::new(inputs, BATCH);
                inputs.iter().try_for_each(|input| {
                    Sample::of(input, &shapes, *size)?;
                    match input.element_type {
                        Some(other) if !is_drawn(other) => neutral(other, 0)
                            .map(|_| ())
                            .ok_or_else(|| no_values(input, other)),
                        _ => Ok(()),
                    }
                })
            }
            Self::Images { .. } | Self::Arrays(_) => Batches::new(inputs, self).map(|_| ()),
        }
    }
}

/// The samples of all inputs of a network, in batches.
#[derive(Clone, Debug)]
pub struct Batches {
    inputs: InputBatches,
    samples: usize,
}

impl Batches {
    /// The samples in batches that a network of these inputs takes.
    ///
    /// # Errors
    ///
    /// Of kind `Unsupported` where an input's rank is not known, the data do not
    /// fit it or are fewer than a batch, or samples are too large to be made.
    pub fn new(inputs: &[Value], samples: &Samples) -> Result<Self, Error> {
        Self::of_length(inputs, samples, BATCH)
    }

    /// As [`new`](Self::new), at most `len` samples a batch where the network
    /// leaves their number open.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn of_length(inputs: &[Value], samples: &Samples, len: usize) -> Result<Self, Error> {
        match samples {
            Samples::Synthetic { size, scale } => synthetic(inputs, *size, scale, len),
            Samples::Images { shape, data } => {
                let [input] = inputs else {
                    let count = inputs.len();
                    return Err(unsupported(format!(
                        "the network has {count} inputs, images are data for one: give arrays (.npz) by the \
                         inputs' names"
                    )));
                };
                let tensor = Tensor::new(shape.clone(), TensorData::F32(data.clone()));
                let tensor = tensor.ok_or_else(|| unsupported("images of different sizes"))?;
                Self::of_arrays(inputs, &[(input.name.clone(), tensor)], len)
            }
            Samples::Arrays(arrays) => Self::of_arrays(inputs, arrays, len),
        }
    }

    fn of_arrays(inputs: &[Value], arrays: &[(String, Tensor)], len: usize) -> Result<Self, Error> {
        let (inputs, samples) = given(inputs, arrays, len)?;
        Ok(Self { inputs, samples })
    }

    /// Number of batches.
    pub fn len(&self) -> usize {
        self.inputs.first().map_or(1, |(_, batches)| batches.len())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of samples in all batches.
    pub fn samples(&self) -> usize {
        self.samples
    }

    /// Elements of one sample of all inputs together.
    pub(crate) fn sample_len(&self) -> usize {
        let elements = self
            .inputs
            .iter()
            .flat_map(|(_, batches)| batches)
            .map(Tensor::len);
        elements.sum::<usize>() / self.samples.max(1)
    }

    /// One batch: each input's name and tensor.
    pub fn batch(&self, index: usize) -> impl Iterator<Item = (&str, &Tensor)> {
        let inputs = self.inputs.iter();
        inputs.map(move |(name, batches)| (name.as_str(), &batches[index]))
    }

    /// The names of the inputs.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.inputs.iter().map(|(name, _)| name.as_str())
    }

    /// Elements of the first axis of a batch, which counts samples where their
    /// number is open.
    pub(crate) fn batch_len(&self, index: usize) -> usize {
        let first = self.inputs.first().map(|(_, batches)| &batches[index]);
        first
            .and_then(|tensor| tensor.shape().first().copied())
            .unwrap_or(1)
    }

    /// Whether two batches have the same extents.
    pub(crate) fn are_alike(&self, one: usize, other: usize) -> bool {
        let mut inputs = self.inputs.iter();
        inputs.all(|(_, batches)| batches[one].shape() == batches[other].shape())
    }

    /// Samples of a float32 input, each by its batch and its place there, one
    /// after another along the first axis; `None` where there is no such input or
    /// sample.
    pub(crate) fn gathered(&self, input: &str, samples: &[[usize; 2]]) -> Option<Tensor> {
        let (_, batches) = self.inputs.iter().find(|(name, _)| name == input)?;
        let mut shape = batches.first()?.shape().to_vec();
        let len: usize = shape.iter().skip(1).product();
        let mut values = Vec::with_capacity(samples.len() * len);
        for &[batch, sample] in samples {
            let TensorData::F32(all) = batches.get(batch)?.data() else {
                return None;
            };
            values.extend_from_slice(all.get(sample * len..(sample + 1) * len)?);
        }
        *shape.first_mut()? = samples.len();
        Tensor::new(shape, TensorData::F32(values))
    }

    /// The batches of which this holds.
    pub(crate) fn filtered(&self, holds: impl Fn(usize) -> bool) -> Self {
        let kept: Vec<usize> = (0..self.len()).filter(|&batch| holds(batch)).collect();
        let of_kept: usize = kept.iter().map(|&batch| self.batch_len(batch)).sum();
        let of_all: usize = (0..self.len()).map(|batch| self.batch_len(batch)).sum();
        let inputs = self.inputs.iter().map(|(name, batches)| {
            let batches = kept.iter().map(|&batch| batches[batch].clone());
            (name.clone(), batches.collect())
        });
        Self {
            inputs: inputs.collect(),
            samples: self.samples * of_kept / of_all.max(1),
        }
    }

    /// The first batch alone.
    pub(crate) fn first(&self) -> Self {
        self.clone().step_by(self.len().max(1))
    }

    /// Every `stride`-th batch.
    pub(crate) fn step_by(mut self, stride: usize) -> Self {
        let all = self.len();
        for (_, batches) in &mut self.inputs {
            *batches = std::mem::take(batches)
                .into_iter()
                .step_by(stride)
                .collect();
        }
        self.samples = self.samples * self.len() / all.max(1);
        self
    }

    /// Brings an input's float32 values `x` to `factor * x + offset`.
    pub(crate) fn rescale(&mut self, input: &str, [factor, offset]: [f32; 2]) {
        let own = self.inputs.iter_mut().filter(|(name, _)| name == input);
        for tensor in own.flat_map(|(_, batches)| batches) {
            let TensorData::F32(values) = tensor.data() else {
                continue;
            };
            let values = values.iter().map(|value| factor * value + offset).collect();
            if let Some(rescaled) = Tensor::new(tensor.shape().to_vec(), TensorData::F32(values)) {
                *tensor = rescaled;
            }
        }
    }

    /// Makes an integer input indices below `rows`, all alike likely.
    pub(crate) fn draw_indices(&mut self, input: &str, rows: usize) {
        let Some(at) = self.inputs.iter().position(|(name, _)| name == input) else {
            return;
        };
        let mut random = Random::new(rows as u64 + ((at as u64) << 32));
        for tensor in &mut self.inputs[at].1 {
            let len = tensor.len();
            let drawn = (0..len).map(|_| ((random.uniform() * rows as f64) as usize).min(rows - 1));
            let data = match tensor.data() {
                TensorData::I64(_) => TensorData::I64(drawn.map(|index| index as i64).collect()),
                TensorData::I32(_) => TensorData::I32(drawn.map(|index| index as i32).collect()),
                _ => continue,
            };
            if let Some(indices) = Tensor::new(tensor.shape().to_vec(), data) {
                *tensor = indices;
            }
        }
    }

    /// The batches of each input, by its name.
    pub(crate) fn into_inputs(self) -> InputBatches {
        self.inputs
    }
}

/// The extents of each input for a run of `batch` samples, where the network
/// leaves their number open; `size` of images whose size it leaves open.
///
/// # Errors
///
/// Of kind `Unsupported` where an input's rank is not known, the network fixes
/// another number of samples, or they are too large to be made.
pub fn run_shapes(
    inputs: &[Value],
    batch: usize,
    size: Option<[usize; 2]>,
) -> Result<Vec<Vec<usize>>, Error> {
    let shapes = Shapes::new(inputs, batch);
    if batch > 1 && shapes.batch != batch {
        let fixed = shapes.batch;
        return Err(unsupported(format!(
            "the network takes {fixed} samples at once, not {batch}"
        )));
    }
    let samples = inputs.iter().map(|input| Sample::of(input, &shapes, size));
    samples.map(|sample| Ok(sample?.shape)).collect()
}

fn declared(input: &Value) -> Result<&[Dim], Error> {
    input.shape.as_deref().ok_or_else(|| {
        let name = &input.name;
        unsupported(format!(
            "the network does not say what shape its input '{name}' has; give it with --shape, or data \
             with --calibrate"
        ))
    })
}

fn synthetic(
    inputs: &[Value],
    size: Option<[usize; 2]>,
    scale: &InputScale,
    len: usize,
) -> Result<Batches, Error> {
    let shapes = Shapes::new(inputs, len);
    let samples: Vec<Sample> = inputs
        .iter()
        .map(|input| Sample::of(input, &shapes, size))
        .collect::<Result<_, _>>()?;
    let positions = samples.iter().map(|sample| sample.rows * sample.columns);
    let [fewest, most] = SYNTHETIC_SAMPLES;
    let target = SYNTHETIC_POSITIONS / positions.max().unwrap_or(1).max(1);
    let target = target.clamp(fewest, most);
    if target < len {
        // Of large samples there are less than a batch.
        return synthetic(inputs, size, scale, target);
    }
    let count = target.div_ceil(shapes.batch);
    // What compares two inputs would find the same in both.
    let made = inputs
        .iter()
        .zip(&samples)
        .zip(0..)
        .map(|((input, sample), series)| {
            let batches = sample.batches(input, series, count, scale)?;
            Ok((input.name.clone(), batches))
        });
    Ok(Batches {
        inputs: made.collect::<Result<_, Error>>()?,
        samples: count * shapes.batch,
    })
}

/// The extents of one input, and how its elements lie in planes of rows and
/// columns.
struct Sample {
    /// As the network takes it, a whole batch.
    shape: Vec<usize>,
    /// Samples in it.
    count: usize,
    channels: usize,
    rows: usize,
    columns: usize,
    /// Whether the channels are the last axis.
    channels_last: bool,
}

impl Sample {
    fn of(input: &Value, shapes: &Shapes<'_>, size: Option<[usize; 2]>) -> Result<Self, Error> {
        let dims = declared(input)?;
        let rank = dims.len();
        let channels_last = rank > 3 && are_channels(&dims[rank - 1]) && !are_channels(&dims[1]);
        let spatial = match channels_last {
            true => 1..rank - 1,
            false => 2.min(rank)..rank,
        };
        let [height, width] = size.unwrap_or(DEFAULT_SIZE);
        let mut open = match spatial.len() {
            2 => vec![width, height],
            3 => vec![width, height, DEFAULT_DEPTH],
            _ => Vec::new(),
        };
        let mut shape = vec![1; rank];
        for axis in (0..rank).rev() {
            let default = match spatial.contains(&axis) {
                true if !open.is_empty() => open.remove(0),
                false if axis > 0 && rank > 3 => DEFAULT_CHANNELS,
                _ => DEFAULT_LENGTH,
            };
            shape[axis] = match &dims[axis] {
                Dim::Fixed(extent) => *extent,
                Dim::Symbol(_) if shapes.batch_axis(input) == Some(axis) => shapes.batch,
                Dim::Symbol(name) => shapes
                    .symbols
                    .get(name.as_str())
                    .copied()
                    .unwrap_or(default),
            };
        }
        let count = shape.first().copied().filter(|_| rank > 1).unwrap_or(1);
        let (channels, rows, columns) = planes(shape.get(1..).unwrap_or(&shape), channels_last);
        let elements = channels.saturating_mul(rows).saturating_mul(columns);
        if elements == 0 || elements.saturating_mul(count) > MAX_SAMPLE_LEN {
            let name = &input.name;
            return Err(unsupported(format!(
                "samples of shape {shape:?} for the input '{name}' cannot be made"
            )));
        }
        Ok(Self {
            shape,
            count,
            channels,
            rows,
            columns,
            channels_last,
        })
    }

    /// Batches of synthetic values of the input's type, others for each `series`.
    fn batches(
        &self,
        input: &Value,
        series: u64,
        batches: usize,
        scale: &InputScale,
    ) -> Result<Vec<Tensor>, Error> {
        let element_type = input.element_type.unwrap_or(ElementType::F32);
        let len = self.shape.iter().product::<usize>();
        let data: Vec<TensorData> = match element_type {
            _ if element_type.is_float() => {
                let values = self.floats(series, batches * self.count, scale);
                let values = values.chunks(len.max(1)).map(<[f32]>::to_vec);
                values
                    .map(|values| floats_as(element_type, values))
                    .collect()
            }
            ElementType::U8 => {
                let range = InputScale::Range([0.0, 255.0]);
                let values = self.floats(series, batches * self.count, &range);
                let bytes = values.chunks(len.max(1)).map(|values| {
                    let bytes = values.iter().map(|value| value.round() as u8);
                    TensorData::U8(bytes.collect())
                });
                bytes.collect()
            }
            other => {
                let neutral = neutral(other, len).ok_or_else(|| no_values(input, other))?;
                vec![neutral; batches]
            }
        };
        let tensors = data.into_iter().map(|data| {
            Tensor::new(self.shape.clone(), data)
                .ok_or_else(|| unsupported("a sample of another size"))
        });
        tensors.collect()
    }

    /// Values of `count` samples in the order of the input's axes.
    fn floats(&self, series: u64, count: usize, scale: &InputScale) -> Vec<f32> {
        let extents = [count, self.channels, self.rows, self.columns];
        let mut values = dead_leaves(extents, series);
        let pixels = self.rows * self.columns;
        for (i, plane) in values.chunks_exact_mut(pixels.max(1)).enumerate() {
            rescale(plane, i % self.channels.max(1), scale);
        }
        if !self.channels_last {
            return values;
        }
        let channels = self.channels;
        let images = values.chunks_exact(channels * pixels);
        let turned = images.flat_map(|image| {
            (0..pixels * channels).map(move |i| image[i % channels * pixels + i / channels])
        });
        turned.collect()
    }
}

fn are_channels(dim: &Dim) -> bool {
    matches!(dim, Dim::Fixed(1..=4))
}

/// Channels, rows and columns of one sample.
fn planes(sample: &[usize], channels_last: bool) -> (usize, usize, usize) {
    let product = |extents: &[usize]| extents.iter().fold(1usize, |p, &e| p.saturating_mul(e));
    match *sample {
        [] => (1, 1, 1),
        [columns] => (1, 1, columns),
        // A signal of several channels, or one plane (a spectrogram).
        [channels, columns] if channels <= MOST_CHANNELS => (channels, 1, columns),
        [rows, columns] => (1, rows, columns),
        [ref outer @ .., columns, channels] if channels_last => (channels, product(outer), columns),
        [ref outer @ .., rows, columns] => (product(outer), rows, columns),
    }
}

/// Values of mean 0 and deviation 1 brought to a channel's scale.
fn rescale(values: &mut [f32], channel: usize, scale: &InputScale) {
    let [mean, std] = PHOTOGRAPH;
    let photograph = |value: f32| mean + std * value;
    match scale {
        InputScale::Unknown => {}
        InputScale::Normalized { mean, std } => {
            let of = |values: &[f32], default| {
                let last = values.last().copied();
                values.get(channel).copied().or(last).unwrap_or(default)
            };
            let (mean, std) = (of(mean, 0.0), of(std, 1.0));
            values
                .iter_mut()
                .for_each(|value| *value = (photograph(*value) - mean) / std);
        }
        InputScale::Range([low, high]) => {
            let span = high - low;
            values
                .iter_mut()
                .for_each(|value| *value = low + span * photograph(*value).clamp(0.0, 1.0));
        }
    }
}

/// Whether synthetic values of this type are drawn, rather than neutral.
fn is_drawn(element_type: ElementType) -> bool {
    use ElementType::{Bf16, F16, F32, F64, U8};
    matches!(element_type, F32 | F16 | Bf16 | F64 | U8)
}

fn no_values(input: &Value, element_type: ElementType) -> Error {
    let name = &input.name;
    unsupported(format!(
        "no values of {element_type} can be made for the input '{name}'; give data with --calibrate"
    ))
}

/// Values of an input's type: floats drawn from -1 to 1, bytes from 0 to 255;
/// other integers are 0 and booleans true, which are valid as indices, lengths
/// and masks. `draw` gives as many values as it is told in a range.
///
/// `None` for a type without such values.
pub fn typed_values(
    element_type: ElementType,
    len: usize,
    draw: impl FnOnce(usize, [f32; 2]) -> Vec<f32>,
) -> Option<TensorData> {
    match element_type {
        ElementType::U8 => {
            let bytes = draw(len, [0.0, 255.0]);
            Some(TensorData::U8(
                bytes.iter().map(|&value| value as u8).collect(),
            ))
        }
        drawn if is_drawn(drawn) => Some(floats_as(drawn, draw(len, [-1.0, 1.0]))),
        other => neutral(other, len),
    }
}

/// Values that are valid whatever they are for.
fn neutral(element_type: ElementType, len: usize) -> Option<TensorData> {
    Some(match element_type {
        ElementType::I64 => TensorData::I64(vec![0; len]),
        ElementType::I32 => TensorData::I32(vec![0; len]),
        ElementType::I16 => TensorData::I16(vec![0; len]),
        ElementType::I8 => TensorData::I8(vec![0; len]),
        ElementType::U16 => TensorData::U16(vec![0; len]),
        ElementType::U32 => TensorData::U32(vec![0; len]),
        ElementType::U64 => TensorData::U64(vec![0; len]),
        ElementType::Bool => TensorData::Bool(vec![true; len]),
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
