//! The steps of an integer network as calls of kernels.

use std::sync::Arc;

use campana_runtime::integer::{
    Averages, Block, Combination, Extents, IntegerNetwork, Operation, Product, Step, Sum,
};

use crate::codes::PackedRows;
use crate::error::Refusal;
use crate::fixed::{FixedMeans, FixedRounding, FixedSum};

/// Axes of a block that is copied, at most (`CAMPANA_MAX_AXES`).
pub(crate) const MAX_AXES: usize = 6;

/// Filters that are decoded at once (`CAMPANA_FILTERS`).
const FILTERS_AT_ONCE: usize = 4;

/// Bytes of a weight of these as pairs of 16 bits.
const DECODED_BYTES: usize = 2 * FILTERS_AT_ONCE;

/// Weights of a vector of bytes.
const VECTOR: usize = 16;

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

/// The layer of a step, by its place among those of the network.
///
/// # Errors
///
/// Where it has no kernel.
pub(crate) fn layer(network: &IntegerNetwork, at: usize, step: Step) -> Result<Layer, Refusal> {
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
        let padded = |multiple: usize| len / run.max(1) * run.next_multiple_of(multiple);
        let pairs = DECODED_BYTES * padded(RUN_MULTIPLE);
        let vectors = FILTERS_AT_ONCE * padded(VECTOR);
        (pairs.max(vectors) + len).next_multiple_of(RUN_MULTIPLE)
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
