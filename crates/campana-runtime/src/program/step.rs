//! What a program does, one step after another.

use std::sync::Arc;

use campana_kernels::depthwise::{PackedFilters, Sliding};
use campana_kernels::elementwise::{Binary, Unary};
use campana_kernels::gemm::{Grid, PackedMatrix};
use campana_kernels::pooling::Pooling;

use super::Place;
use super::int8::Int8Action;
use crate::strided::{BroadcastPlan, Region};

/// One step: what it reads and writes, and what it does.
#[derive(Debug)]
pub(crate) struct Step {
    /// The node of the plan that it belongs to.
    pub(crate) node: usize,
    pub(crate) reads: Vec<Place>,
    /// The buffer that is written, and its length.
    pub(crate) write: Option<(usize, usize)>,
    /// A buffer for the step alone, and its length.
    pub(crate) scratch: Option<(usize, usize)>,
    /// Whether the first read may be overwritten when it is not needed later.
    pub(crate) in_place: bool,
    pub(crate) action: Action,
    /// Slots that nothing reads any more.
    pub(crate) frees: Vec<usize>,
}

#[derive(Debug)]
pub(crate) enum Action {
    Conv(Box<ConvStep>),
    Depthwise {
        batch: usize,
        filters: Arc<PackedFilters>,
        sliding: Sliding,
        bounds: [f32; 2],
    },
    /// `[rows, depth]` times a packed matrix.
    Dense {
        rows: usize,
        matrix: Arc<PackedMatrix>,
        bounds: [f32; 2],
    },
    Pool {
        batch: usize,
        channels: usize,
        pooling: Pooling,
        window: [usize; 2],
        sliding: Sliding,
    },
    /// The mean over all pixels of `[batch, pixels, channels]`.
    GlobalAverage {
        channels: usize,
        pixels: usize,
    },
    Unary(Unary),
    /// A function without a vector form.
    Function(fn(f64) -> f64),
    /// A function of two operands.
    Binary {
        op: Binary,
        plan: BroadcastPlan,
    },
    /// Copies of regions of the reads, one each, over a fill where they leave gaps.
    Copy {
        fill: Option<f32>,
        regions: Vec<Region>,
    },
    /// `batch` matrices `[rows, columns]` turned around.
    Transpose {
        batch: usize,
        rows: usize,
        columns: usize,
    },
    /// On codes.
    Int8(Int8Action),
    /// An operator by its reference fallback; outputs go to slots.
    Plain {
        /// The shape and place of each input; `None` where left out.
        inputs: Vec<Option<(Vec<usize>, Place)>>,
        slots: Vec<Option<usize>>,
    },
}

impl Action {
    /// Multiplications of weights with inputs.
    pub(crate) fn products(&self) -> u64 {
        let count = match self {
            Self::Conv(conv) => {
                let weights: usize = conv.groups.iter().map(|m| m.rows() * m.columns()).sum();
                conv.batch * conv.output[0] * conv.output[1] * weights
            }
            Self::Depthwise {
                batch,
                filters,
                sliding,
                ..
            } => batch * sliding.output[0] * sliding.output[1] * filters.weights(),
            Self::Dense { rows, matrix, .. } => rows * matrix.rows() * matrix.columns(),
            Self::Int8(action) => action.products(),
            _ => 0,
        };
        count as u64
    }

    /// Whether weights are multiplied with codes.
    pub(crate) fn multiplies_codes(&self) -> bool {
        matches!(self, Self::Int8(action) if action.products() > 0)
    }
}

/// A convolution as matrix products.
#[derive(Debug)]
pub(crate) struct ConvStep {
    pub(crate) batch: usize,
    pub(crate) groups: Arc<Vec<PackedMatrix>>,
    /// The border that a copy of the input gets, where it needs one.
    pub(crate) border: Option<Border>,
    /// Elements of one input image, before padding.
    pub(crate) input_len: usize,
    pub(crate) input_grid: Grid,
    /// Elements from one group's input to the next.
    pub(crate) group_stride: usize,
    pub(crate) offsets: Vec<usize>,
    pub(crate) run_len: usize,
    /// Height, width and channels of the output.
    pub(crate) output: [usize; 3],
    pub(crate) has_residual: bool,
    pub(crate) bounds: [f32; 2],
}

/// Zeros around images.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Border {
    /// Images that follow each other.
    pub(crate) planes: usize,
    /// Height, width and elements of a pixel.
    pub(crate) size: [usize; 3],
    pub(crate) before: [usize; 2],
    pub(crate) after: [usize; 2],
}
