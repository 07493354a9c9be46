//! Laying out constant weights for the kernels.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use campana_codebook::QuantizedTensor;
use campana_kernels::depthwise::PackedFilters;
use campana_kernels::gemm::PackedMatrix;
use campana_tensor::{Tensor, TensorData};

use super::coded::{self, MatrixOf};
use super::int8::Int8Layer;
use super::{Constants, PlannedNode, constant_call};
use crate::error::PlanError;

/// Weights as a kernel reads them.
#[derive(Clone, Debug)]
pub(crate) enum Packed {
    /// One matrix for each group; rows are window taps, then channels (or, where
    /// `planar`, channels, then taps: for inputs that are channels-first).
    Conv {
        groups: Arc<Vec<PackedMatrix>>,
        planar: bool,
        shape: Vec<usize>,
    },
    /// One filter for each channel.
    Depthwise {
        filters: Arc<PackedFilters>,
        shape: Vec<usize>,
    },
    /// The right side of a matrix product.
    Dense(Arc<PackedMatrix>),
    /// For inputs that are codes.
    Int8(Arc<Int8Layer>),
}

impl Packed {
    pub(super) fn len_bytes(&self) -> usize {
        match self {
            Self::Conv { groups, .. } => groups.iter().map(PackedMatrix::len_bytes).sum(),
            Self::Depthwise { filters, .. } => filters.len_bytes(),
            Self::Dense(matrix) => matrix.len_bytes(),
            Self::Int8(layer) => layer.len_bytes(),
        }
    }
}

/// Channels of an input that is read channels-first rather than turned around.
const MAX_PLANAR_CHANNELS: usize = 4;

/// Weights that are known beforehand.
enum Weights<'a> {
    Floats(&'a [f32]),
    Codes(&'a QuantizedTensor, Vec<u8>),
}

impl Weights<'_> {
    /// The matrix of these weights, each column multiplied with its factor,
    /// unless there are none.
    fn matrix(&self, matrix: &MatrixOf<'_>, factors: &[f32]) -> Option<PackedMatrix> {
        let (rows, columns) = (matrix.row_offsets.len(), matrix.columns);
        match self {
            Self::Floats(values) => {
                let factor = |column: usize| factors.get(column).copied().unwrap_or(1.0);
                Some(PackedMatrix::pack(rows, columns, |r, c| {
                    values[matrix.position(r, c)] * factor(c)
                }))
            }
            Self::Codes(tensor, codes) => {
                let decoding = coded::decoding(tensor, matrix)?;
                let code = |r, c| codes[matrix.position(r, c)];
                let packed = PackedMatrix::pack_codes(rows, columns, decoding, code);
                Some(if factors.is_empty() {
                    packed
                } else {
                    packed.with_column_scale(factors)
                })
            }
        }
    }

    /// A filter `[channels, 1, kh, kw]` for each channel, as in `matrix`.
    fn filters(
        &self,
        window: [usize; 2],
        channels: usize,
        factors: &[f32],
        bias: &[f32],
    ) -> Option<PackedFilters> {
        let taps = window[0] * window[1];
        let bias = |channel: usize| bias[channel];
        Some(match self {
            Self::Floats(values) => {
                let factor = |channel: usize| factors.get(channel).copied().unwrap_or(1.0);
                let value = |ky, kx, c| values[c * taps + ky * window[1] + kx] * factor(c);
                PackedFilters::pack(window, channels, value, bias)
            }
            Self::Codes(tensor, codes) => {
                let row_offsets: Vec<usize> = (0..taps).collect();
                let matrix = MatrixOf {
                    row_offsets: &row_offsets,
                    first_column: 0,
                    columns: channels,
                    column_stride: taps,
                };
                let decoding = coded::decoding(tensor, &matrix)?;
                let code = |ky, kx, c| codes[c * taps + ky * window[1] + kx];
                PackedFilters::pack_codes(window, channels, decoding, factors, code, bias)
            }
        })
    }
}

/// The packed weights of a node with constant ones, and which inputs they replace.
pub(super) fn pack(
    planned: &PlannedNode,
    constants: &Constants<'_>,
    coded: Option<&QuantizedTensor>,
    graph_inputs: &HashSet<&str>,
    opset: i64,
) -> Result<Option<(Packed, Vec<usize>)>, PlanError> {
    let node = &planned.node;
    let constant = |index: usize| -> Option<&Tensor> {
        constants.get(node.inputs.get(index)?).map(Cow::as_ref)
    };
    let floats = |tensor: &'_ Tensor| match tensor.data() {
        TensorData::F32(values) => Some(values.clone()),
        _ => None,
    };
    let is_packed = matches!(node.op_type.as_str(), "Conv" | "Gemm" | "MatMul");
    let Some(name) = node.inputs.get(1).filter(|_| is_packed) else {
        return Ok(None);
    };
    let (shape, weights) = match (coded, constants.get(name)) {
        (Some(tensor), _) => (tensor.shape.clone(), Weights::Codes(tensor, tensor.codes())),
        (None, Some(tensor)) => match tensor.data() {
            TensorData::F32(values) => (tensor.shape().to_vec(), Weights::Floats(values)),
            _ => return Ok(None),
        },
        (None, None) => return Ok(None),
    };
    let has_bias = node.inputs.get(2).is_some_and(|name| !name.is_empty());
    let factors = planned.factors.as_slice();
    let call = constant_call(node, opset, |name| constants.get(name).map(Cow::as_ref));
    let fault = |fault| PlanError::at(node, fault);
    match node.op_type.as_str() {
        "Conv" => {
            let (filters, channels, kh, kw) = match shape[..] {
                [f, c, kw] => (f, c, 1, kw),
                [f, c, kh, kw] => (f, c, kh, kw),
                _ => return Ok(None),
            };
            let bias = if has_bias {
                match constant(2).and_then(floats) {
                    Some(bias) if bias.len() == filters => bias,
                    _ => return Ok(None),
                }
            } else {
                vec![0.0; filters]
            };
            let groups = usize::try_from(call.int("group", 1).map_err(fault)?).unwrap_or(0);
            if groups == 0 || !filters.is_multiple_of(groups) || kh * kw == 0 {
                return Ok(None);
            }
            let packed = if groups > 1 && channels == 1 && filters == groups {
                let filters = weights.filters([kh, kw], filters, factors, &bias);
                filters.map(|filters| Packed::Depthwise {
                    filters: Arc::new(filters),
                    shape,
                })
            } else {
                let planar = groups == 1
                    && channels <= MAX_PLANAR_CHANNELS
                    && graph_inputs.contains(node.inputs[0].as_str());
                let group_filters = filters / groups;
                let row_offsets: Vec<usize> = (0..kh * kw * channels)
                    .map(|row| {
                        let (tap, channel) = if planar {
                            (row % (kh * kw), row / (kh * kw))
                        } else {
                            (row / channels, row % channels)
                        };
                        channel * kh * kw + tap
                    })
                    .collect();
                let matrices: Option<Vec<PackedMatrix>> = (0..groups)
                    .map(|group| {
                        let columns = group * group_filters..(group + 1) * group_filters;
                        let matrix = MatrixOf {
                            row_offsets: &row_offsets,
                            first_column: columns.start,
                            columns: group_filters,
                            column_stride: channels * kh * kw,
                        };
                        let factors = factors.get(columns.clone()).unwrap_or(&[]);
                        let packed = weights.matrix(&matrix, factors)?;
                        Some(packed.with_bias(&bias[columns]))
                    })
                    .collect();
                matrices.map(|matrices| Packed::Conv {
                    groups: Arc::new(matrices),
                    planar,
                    shape,
                })
            };
            Ok(packed.map(|packed| (packed, vec![1, 2])))
        }
        "Gemm" => {
            let &[rows, columns] = &shape[..] else {
                return Ok(None);
            };
            let trans_a = call.int("transA", 0).map_err(fault)? != 0;
            let trans_b = call.int("transB", 0).map_err(fault)? != 0;
            let alpha = call.float("alpha", 1.0).map_err(fault)?;
            let beta = call.float("beta", 1.0).map_err(fault)?;
            let (depth, columns, row_stride, column_stride) = if trans_b {
                (columns, rows, 1, columns)
            } else {
                (rows, columns, columns, 1)
            };
            let bias = match constant(2) {
                None if has_bias => return Ok(None),
                None => vec![0.0; columns],
                Some(bias) => match (floats(bias), bias.shape()) {
                    (Some(values), [n] | [1, n]) if *n == columns => {
                        values.iter().map(|v| v * beta).collect()
                    }
                    (Some(values), _) if values.len() == 1 => vec![values[0] * beta; columns],
                    _ => return Ok(None),
                },
            };
            if trans_a {
                return Ok(None);
            }
            let row_offsets: Vec<usize> = (0..depth).map(|row| row * row_stride).collect();
            let matrix = MatrixOf {
                row_offsets: &row_offsets,
                first_column: 0,
                columns,
                column_stride,
            };
            let factors = if alpha == 1.0 {
                Vec::new()
            } else {
                vec![alpha; columns]
            };
            let packed = weights.matrix(&matrix, &factors);
            Ok(packed.map(|matrix| {
                let matrix = matrix.with_bias(&bias);
                (Packed::Dense(Arc::new(matrix)), vec![1, 2])
            }))
        }
        _ => {
            let &[depth, columns] = &shape[..] else {
                return Ok(None);
            };
            let row_offsets: Vec<usize> = (0..depth).map(|row| row * columns).collect();
            let matrix = MatrixOf {
                row_offsets: &row_offsets,
                first_column: 0,
                columns,
                column_stride: 1,
            };
            let packed = weights.matrix(&matrix, &[]);
            Ok(packed.map(|matrix| (Packed::Dense(Arc::new(matrix)), vec![1])))
        }
    }
}
