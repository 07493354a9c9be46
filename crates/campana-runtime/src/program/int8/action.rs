//! What steps on codes do, and what they need for it.

use std::sync::Arc;

use campana_kernels::depthwise::Sliding;
use campana_kernels::gemm::Grid;
use campana_kernels::int8::{GroupOffsets, PackedTaps, QuantParams, Requantize};
use campana_kernels::pooling::Pooling;

use crate::ops::ConvGeometry;
use crate::plan::{Int8Layer, Int8Weights};
use crate::program::step::Border;
use crate::strided::Region;

/// What a step on codes does.
#[derive(Debug)]
pub(crate) enum Int8Action {
    /// Floats to codes; with `[batch, channels, pixels]` where channels come first.
    Quantize {
        to: QuantParams,
        turn: Option<[usize; 3]>,
        len: usize,
    },
    Dequantize(QuantParams),
    Requantize {
        from: QuantParams,
        to: QuantParams,
        bounds: [u8; 2],
        len: usize,
    },
    Add {
        scales: [QuantParams; 2],
        to: QuantParams,
        bounds: [u8; 2],
        len: usize,
    },
    Conv(Box<Int8Conv>),
    Depthwise(Box<Int8Depthwise>),
    MaxPool(PoolExtents),
    AveragePool {
        extents: PoolExtents,
        pooling: Pooling,
        from: QuantParams,
        to: Option<QuantParams>,
    },
    /// As [`Action::Copy`], on `len` codes.
    Copy {
        fill: Option<u8>,
        regions: Vec<Region>,
        len: usize,
    },
}

impl Int8Action {
    /// Multiplications of weights with codes.
    pub(crate) fn products(&self) -> usize {
        match self {
            Self::Conv(conv) => match &conv.layer.weights {
                Int8Weights::Groups { groups, .. } => {
                    let weights: usize = groups.iter().map(|m| m.rows() * m.columns()).sum();
                    conv.batch * conv.output[0] * conv.output[1] * weights
                }
                Int8Weights::Depthwise(_) => 0,
            },
            Self::Depthwise(conv) => conv.batch * conv.output_len * conv.taps,
            _ => 0,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct PoolExtents {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) window: [usize; 2],
    pub(crate) sliding: Sliding,
}

/// A convolution or a dense layer as products of codes.
#[derive(Debug)]
pub(crate) struct Int8Conv {
    pub(crate) geometry: ConvGeometry,
    pub(crate) batch: usize,
    pub(crate) layer: Arc<Int8Layer>,
    pub(crate) requantize: Vec<Requantize>,
    pub(crate) offsets: Vec<GroupOffsets>,
    pub(crate) border: Option<Border>,
    /// Codes of one input image, before padding.
    pub(crate) input_len: usize,
    pub(crate) input_grid: Grid,
    pub(crate) group_stride: usize,
    /// Height, width and channels of the output.
    pub(crate) output: [usize; 3],
    /// What a residual is multiplied with.
    pub(crate) residual: Option<f32>,
    /// Whether the results are codes.
    pub(crate) gives_codes: bool,
}

#[derive(Debug)]
pub(crate) struct Int8Depthwise {
    pub(crate) geometry: ConvGeometry,
    pub(crate) layer: Arc<Int8Layer>,
    pub(crate) requantize: Requantize,
    pub(crate) batch: usize,
    pub(crate) filters: PackedTaps,
    /// Weights of each channel.
    pub(crate) taps: usize,
    pub(crate) fill: u8,
    pub(crate) input_len: usize,
    pub(crate) output_len: usize,
}
