//! The steps of an integer network as calls of kernels, with where values lie.

use std::sync::Arc;

use campana_runtime::integer::{
    Averages, Block, Combination, Extents, IntegerNetwork, Operation, Product, Step, Sum,
};

use crate::arena::{self, Arena};
use crate::codes::PackedRows;
use crate::error::{Error, ErrorKind, Refusal};
use crate::fixed::{FixedMeans, FixedRounding, FixedSum};
use crate::strips::{self, Segment};

/// Axes of a block that is copied, at most (`CAMPANA_MAX_AXES`).
pub(crate) const MAX_AXES: usize = 6;

/// Bytes of a weight of the four filters that are decoded at once.
const DECODED_BYTES: usize = 8;

/// Elements that are multiplied at once: so many but one may be read behind a
/// run of others.
const RUN_MULTIPLE: usize = 4;

/// Channels of a depthwise convolution that are computed at once.
pub(crate) const DEPTHWISE_CHANNELS: usize = 16;

/// Output pixels for which filters are decoded once, at least, where the image
/// has as many.
const STRIP_PIXELS: usize = 64;

/// A step with its kernel.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    /// The place of the step among those of the network: strips of one share its
    /// weights.
    pub(crate) step: usize,
    /// The first row of its result, where it runs in strips of rows.
    pub(crate) strip: Option<usize>,
    pub(crate) node: String,
    pub(crate) op_type: String,
    pub(crate) reads: Vec<usize>,
    /// Bytes from where each value begins to where it is read.
    pub(crate) read_offsets: Vec<usize>,
    pub(crate) writes: usize,
    /// Bytes from where the value begins to where it is written.
    pub(crate) write_offset: usize,
    pub(crate) kernel: Kernel,
    /// Bytes of the arena that only this step needs.
    pub(crate) scratch_bytes: usize,
    pub(crate) multiply_accumulates: u64,
}

/// A kernel and its parameters.
#[derive(Clone, Debug)]
pub(crate) enum Kernel {
    Product(Arc<PackedProduct>),
    Sum(Sum, FixedSum),
    Map(Box<[u8; 256]>),
    Decode(Box<[f32; 256]>),
    MaxPool(Extents),
    Average(Averages, FixedMeans),
    Copy {
        fill: Option<u8>,
        blocks: Vec<Block>,
    },
    Combine(Box<Combination>),
}

/// A convolution or a dense layer as kernels read it.
#[derive(Debug)]
pub(crate) struct PackedProduct {
    pub(crate) product: Product,
    pub(crate) rounding: FixedRounding,
    pub(crate) rows: PackedRows,
    pub(crate) is_depthwise: bool,
    pub(crate) gives_floats: bool,
    pub(crate) strip_rows: usize,
    pub(crate) copies_input: bool,
}

/// Where a value lies while the network runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// What the caller gives.
    Input(usize),
    /// Where the caller wants an output.
    Output(usize),
    /// From here on in the arena.
    Arena(usize),
}

/// A network as calls of kernels.
#[derive(Clone, Debug)]
pub(crate) struct Firmware {
    pub(crate) network: IntegerNetwork,
    pub(crate) layers: Vec<Layer>,
    pub(crate) places: Vec<Place>,
    /// Where the scratch of each layer begins in the arena.
    pub(crate) scratch: Vec<usize>,
    pub(crate) arena_bytes: usize,
    /// Bytes of the arena that each layer's values and scratch take.
    pub(crate) live_bytes: Vec<usize>,
}

impl Firmware {
    /// # Errors
    ///
    /// Where a step has no kernel; names its node.
    pub(crate) fn new(mut network: IntegerNetwork) -> Result<Self, Error> {
        let steps = std::mem::take(&mut network.steps);
        let layers = steps.into_iter().enumerate().map(|(at, step)| {
            let (node, op_type) = (step.node.clone(), step.op_type.clone());
            layer(&network, at, step).map_err(|reason| {
                let message = format!("node '{node}' ({op_type}) {reason}");
                Error::new(ErrorKind::Unsupported, message)
            })
        });
        let layers: Vec<Layer> = layers.collect::<Result<_, _>>()?;
        let mut firmware = Self {
            network,
            layers,
            places: Vec::new(),
            scratch: Vec::new(),
            arena_bytes: 0,
            live_bytes: Vec::new(),
        };
        firmware.place_values();
        Ok(firmware)
    }

    /// Runs layers in strips of rows until the arena is not larger than this, or
    /// nothing makes it smaller any more.
    pub(crate) fn fit_arena(&mut self, limit_bytes: usize) {
        let whole = self.clone();
        let mut segments: Vec<Segment> = Vec::new();
        while self.arena_bytes > limit_bytes {
            let peak = (0..self.layers.len()).max_by_key(|&at| self.live_bytes[at]);
            let Some(peak) = peak.map(|at| self.layers[at].step) else {
                return;
            };
            let candidates = strips::segments(&whole.layers, &whole.network.outputs, peak);
            let tried = candidates.into_iter().filter_map(|candidate| {
                let kept = segments
                    .iter()
                    .copied()
                    .filter(|other| !other.meets(candidate));
                let segments: Vec<Segment> = kept.chain([candidate]).collect();
                Some((whole.with_strips(&segments)?, segments))
            });
            // The fewest operations among those that fit, else the least memory.
            let best = tried.min_by_key(|(split, _)| {
                let products: u64 = split.layers.iter().map(|l| l.multiply_accumulates).sum();
                let excess = split.arena_bytes.saturating_sub(limit_bytes);
                (excess, products)
            });
            match best.filter(|(best, _)| best.arena_bytes < self.arena_bytes) {
                Some((best, chosen)) => (*self, segments) = (best, chosen),
                None => return,
            }
        }
    }

    /// The same network with segments in strips, where that can be.
    fn with_strips(&self, segments: &[Segment]) -> Option<Self> {
        let mut firmware = self.clone();
        let mut segments = segments.to_vec();
        // From the last on, so that those before stay where they are.
        segments.sort_by_key(|segment| std::cmp::Reverse(segment.first));
        for segment in segments {
            let split = strips::split(&firmware.layers, &firmware.network.values, segment);
            (firmware.layers, firmware.network.values) = split.ok()??;
        }
        firmware.place_values();
        Some(firmware)
    }

    /// Bytes of a value.
    pub(crate) fn value_bytes(&self, value: usize) -> usize {
        let value = &self.network.values[value];
        match value.codes {
            Some(_) => value.len(),
            None => value.len() * size_of::<f32>(),
        }
    }

    /// Where the caller's memory is used as it is: inputs, and outputs that no
    /// step reads.
    fn fixed_place(&self, value: usize) -> Option<Place> {
        let network = &self.network;
        if let Some(input) = network.inputs.iter().position(|&found| found == value) {
            return Some(Place::Input(input));
        }
        let output = network.outputs.iter().position(|&found| found == value)?;
        let is_read = self.layers.iter().any(|layer| layer.reads.contains(&value));
        (!is_read).then_some(Place::Output(output))
    }

    /// The value whose memory a layer may write its result over.
    fn overwritten(&self, layer: usize) -> Option<usize> {
        let Layer {
            kernel,
            reads,
            writes,
            ..
        } = &self.layers[layer];
        if self.layers[layer].strip.is_some() {
            return None;
        }
        let candidates = match kernel {
            Kernel::Sum(..) | Kernel::Map(_) => &reads[..],
            Kernel::Product(_) => reads.get(1..).unwrap_or_default(),
            _ => &[],
        };
        let later = &self.layers[layer + 1..];
        let is_free = |&&value: &&usize| {
            let is_read = later.iter().any(|layer| layer.reads.contains(&value));
            let is_output = self.network.outputs.contains(&value);
            let others = reads.iter().filter(|&&read| read == value).count();
            let is_product = matches!(kernel, Kernel::Product(_));
            !is_read
                && !is_output
                && (others == 1 || !is_product)
                && self.fixed_place(value).is_none()
                && self.value_bytes(value) == self.value_bytes(*writes)
        };
        candidates.iter().find(is_free).copied()
    }

    fn place_values(&mut self) {
        let count = self.network.values.len();
        // Values that share memory, by the block that they are part of.
        let mut blocks: Vec<arena::Block> = Vec::new();
        let mut block_of: Vec<Option<usize>> = vec![None; count];
        let last_read = |value: usize| {
            let is_output = self.network.outputs.contains(&value);
            let read = self.layers.iter().rposition(|l| l.reads.contains(&value));
            match is_output {
                true => Some(self.layers.len()),
                false => read,
            }
        };
        for (at, layer) in self.layers.iter().enumerate() {
            let written = layer.writes;
            if self.fixed_place(written).is_some() || block_of[written].is_some() {
                continue;
            }
            let last = last_read(written).unwrap_or(at).max(at);
            let shared = self.overwritten(at).and_then(|value| block_of[value]);
            block_of[written] = Some(match shared {
                Some(block) => {
                    blocks[block].last = last;
                    block
                }
                None => {
                    blocks.push(arena::Block {
                        len_bytes: self.value_bytes(written),
                        first: at,
                        last,
                    });
                    blocks.len() - 1
                }
            });
        }
        let values = blocks.len();
        blocks.extend(
            self.layers
                .iter()
                .enumerate()
                .map(|(at, layer)| arena::Block {
                    len_bytes: layer.scratch_bytes,
                    first: at,
                    last: at,
                }),
        );
        let Arena { offsets, len_bytes } = arena::place(&blocks);
        let places = (0..count).map(|value| match (self.fixed_place(value), block_of[value]) {
            (Some(place), _) => place,
            (None, block) => Place::Arena(block.map_or(0, |block| offsets[block])),
        });
        self.places = places.collect();
        self.scratch = offsets[values..].to_vec();
        self.arena_bytes = len_bytes;
        let live = (0..self.layers.len()).map(|at| {
            let blocks = blocks
                .iter()
                .filter(|block| block.first <= at && at <= block.last);
            blocks.map(|block| block.len_bytes).sum()
        });
        self.live_bytes = live.collect();
    }
}

fn layer(network: &IntegerNetwork, at: usize, step: Step) -> Result<Layer, Refusal> {
    let gives_floats = network.values[step.writes].codes.is_none();
    let mut scratch_bytes = 0;
    let mut multiply_accumulates = 0;
    let kernel = match step.operation {
        Operation::Product(product) => {
            multiply_accumulates = product.multiply_accumulates();
            let packed = packed_product(*product, gives_floats)?;
            scratch_bytes = packed.scratch_bytes();
            Kernel::Product(Arc::new(packed))
        }
        Operation::Sum(sum) => Kernel::Sum(sum, FixedSum::of(&sum)?),
        Operation::Map(table) => Kernel::Map(table),
        Operation::Decode(table) => Kernel::Decode(table),
        Operation::MaxPool(extents) => {
            check_extents(&extents, 0)?;
            Kernel::MaxPool(extents)
        }
        Operation::Average(averages) => {
            check_extents(&averages.extents, 0)?;
            let fixed = FixedMeans::of(&averages)?;
            Kernel::Average(averages, fixed)
        }
        Operation::Copy { fill, blocks } => {
            let len = network.values[step.writes].len();
            let blocks: Vec<Block> = blocks.into_iter().map(merged).collect();
            if blocks.iter().any(|block| block.dims.len() > MAX_AXES) {
                return Err(format!("moves blocks of more than {MAX_AXES} axes"));
            }
            let written = blocks
                .iter()
                .map(|block| block.dims.iter().product::<usize>());
            let covers = written.sum::<usize>() == len;
            Kernel::Copy {
                fill: (!covers).then_some(fill),
                blocks,
            }
        }
        Operation::Combine(combination) => {
            if combination.dims.len() > MAX_AXES {
                return Err(format!("broadcasts over more than {MAX_AXES} axes"));
            }
            Kernel::Combine(combination)
        }
        _ => return Err("has no kernel".to_owned()),
    };
    Ok(Layer {
        step: at,
        strip: None,
        node: step.node,
        op_type: step.op_type,
        read_offsets: vec![0; step.reads.len()],
        reads: step.reads,
        writes: step.writes,
        write_offset: 0,
        kernel,
        scratch_bytes,
        multiply_accumulates,
    })
}

/// A block in which axes that follow each other without gaps on both sides are
/// one.
fn merged(block: Block) -> Block {
    let mut result = Block {
        dims: Vec::new(),
        from_strides: Vec::new(),
        to_strides: Vec::new(),
        ..block
    };
    for axis in 0..block.dims.len() {
        let dim = block.dims[axis];
        let (from, to) = (block.from_strides[axis], block.to_strides[axis]);
        if dim == 1 {
            continue;
        }
        let last = result.dims.len().wrapping_sub(1);
        let continues = result.from_strides.last() == Some(&(from * dim as isize))
            && result.to_strides.last() == Some(&(to * dim));
        if continues {
            result.dims[last] *= dim;
            result.from_strides[last] = from;
            result.to_strides[last] = to;
        } else {
            result.dims.push(dim);
            result.from_strides.push(from);
            result.to_strides.push(to);
        }
    }
    result
}

/// Extents that fit in the 16 bits that kernels have for each.
fn check_extents(extents: &Extents, filters: usize) -> Result<(), Refusal> {
    let Extents {
        batch,
        channels,
        input,
        output,
        window,
        strides,
        dilations,
        pads_begin,
    } = *extents;
    let all = [input, output, window, strides, dilations, pads_begin];
    let mut all = all.into_iter().flatten().chain([batch, channels, filters]);
    match all.find(|&extent| extent > usize::from(u16::MAX)) {
        Some(extent) => Err(format!("has the extent {extent}, more than kernels count")),
        None => Ok(()),
    }
}

pub(crate) fn packed_product(
    product: Product,
    gives_floats: bool,
) -> Result<PackedProduct, Refusal> {
    let extents = product.extents;
    check_extents(&extents, product.filters.max(product.groups))?;
    let is_depthwise = product.groups > 1
        && product.groups == extents.channels
        && product.filters == product.groups;
    let rounding = FixedRounding::of(&product, gives_floats)?;
    let taps: usize = extents.window.iter().product();
    let channels = extents.channels / product.groups.max(1);
    let rows = PackedRows::pack(&product.weights, channels, taps);
    let reaches = |axis: usize| {
        let last = (extents.output[axis].max(1) - 1) * extents.strides[axis];
        let window = (extents.window[axis] - 1) * extents.dilations[axis];
        extents.pads_begin[axis] > 0 || last + window >= extents.input[axis]
    };
    let is_odd = !run_len(&product).is_multiple_of(RUN_MULTIPLE);
    let copies_input = !is_depthwise && (reaches(0) || reaches(1) || is_odd);
    let strip_rows = match copies_input {
        true => STRIP_PIXELS.div_ceil(extents.output[1].max(1)),
        false => extents.output[0],
    };
    Ok(PackedProduct {
        product,
        rounding,
        rows,
        is_depthwise,
        gives_floats,
        strip_rows: strip_rows.clamp(1, extents.output[0].max(1)),
        copies_input,
    })
}

impl PackedProduct {
    /// Weights of a row.
    pub(crate) fn row_len(&self) -> usize {
        self.product.weights.len() / self.product.filters.max(1)
    }

    /// Bytes of decoded weights: those of four filters, and a row.
    pub(crate) fn copy_offset(&self) -> usize {
        let len = self.row_len();
        let run = run_len(&self.product);
        let padded = len / run.max(1) * run.next_multiple_of(RUN_MULTIPLE);
        (DECODED_BYTES * padded + len).next_multiple_of(RUN_MULTIPLE)
    }

    /// Bytes of decoded weights and of the strip of input rows with its border.
    pub(crate) fn scratch_bytes(&self) -> usize {
        let extents = &self.product.extents;
        if self.is_depthwise {
            return self.row_len() * DEPTHWISE_CHANNELS;
        }
        let decoded = self.copy_offset();
        if !self.copies_input {
            return decoded;
        }
        let span = |outputs: usize, axis: usize| {
            (outputs.max(1) - 1) * extents.strides[axis]
                + (extents.window[axis] - 1) * extents.dilations[axis]
                + 1
        };
        let rows = span(self.strip_rows, 0);
        decoded + rows * span(extents.output[1], 1) * extents.channels + RUN_MULTIPLE
    }
}

/// Elements of a window that follow each other in memory.
fn run_len(product: &Product) -> usize {
    let extents = &product.extents;
    let channels = extents.channels / product.groups.max(1);
    match product.groups == 1 && extents.dilations[1] == 1 {
        true => channels * extents.window[1],
        false => channels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_without_gaps_are_one() {
        let block = merged(Block {
            dims: vec![1, 4, 5, 6],
            from: 3,
            from_strides: vec![120, 30, 6, 1],
            to: 7,
            to_strides: vec![400, 100, 6, 1],
        });
        assert_eq!(block.dims, [4, 30]);
        assert_eq!(block.from_strides, [30, 1]);
        assert_eq!(block.to_strides, [100, 1]);
        assert_eq!((block.from, block.to), (3, 7));
    }
}
