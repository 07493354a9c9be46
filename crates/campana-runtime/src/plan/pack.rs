//! Laying out constant weights for the kernels.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use campana_kernels::depthwise::PackedFilters;
use campana_kernels::gemm::PackedMatrix;
use campana_tensor::{Tensor, TensorData};

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
}

impl Packed {
    pub(super) fn len_bytes(&self) -> usize {
        match self {
            Self::Conv { groups, .. } => groups.iter().map(PackedMatrix::len_bytes).sum(),
            Self::Depthwise { filters, .. } => filters.len_bytes(),
            Self::Dense(matrix) => matrix.len_bytes(),
        }
    }
}

/// Channels of an input that is read channels-first rather than turned around.
const MAX_PLANAR_CHANNELS: usize = 4;

/// The packed weights of a node with constant ones, and which inputs they replace.
pub(super) fn pack(
    planned: &PlannedNode,
    constants: &Constants<'_>,
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
    let has_bias = node.inputs.get(2).is_some_and(|name| !name.is_empty());
    let Some(weights) = constant(1) else {
        return Ok(None);
    };
    let TensorData::F32(values) = weights.data() else {
        return Ok(None);
    };
    let shape = weights.shape().to_vec();
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
            if groups > 1 && channels == 1 && filters == groups {
                let filters = PackedFilters::pack(
                    [kh, kw],
                    filters,
                    |ky, kx, c| values[(c * kh + ky) * kw + kx],
                    |c| bias[c],
                );
                let filters = Arc::new(filters);
                return Ok(Some((Packed::Depthwise { filters, shape }, vec![1, 2])));
            }
            let planar = groups == 1
                && channels <= MAX_PLANAR_CHANNELS
                && graph_inputs.contains(node.inputs[0].as_str());
            let group_filters = filters / groups;
            let matrices = (0..groups)
                .map(|group| {
                    let value = |row: usize, column: usize| {
                        let (tap, channel) = if planar {
                            (row % (kh * kw), row / (kh * kw))
                        } else {
                            (row / channels, row % channels)
                        };
                        let filter = group * group_filters + column;
                        values[(filter * channels + channel) * kh * kw + tap]
                    };
                    PackedMatrix::pack(kh * kw * channels, group_filters, value)
                        .with_bias(&bias[group * group_filters..][..group_filters])
                })
                .collect();
            let groups = Arc::new(matrices);
            Ok(Some((
                Packed::Conv {
                    groups,
                    planar,
                    shape,
                },
                vec![1, 2],
            )))
        }
        "Gemm" => {
            let &[rows, columns] = &shape[..] else {
                return Ok(None);
            };
            let trans_a = call.int("transA", 0).map_err(fault)? != 0;
            let trans_b = call.int("transB", 0).map_err(fault)? != 0;
            let alpha = call.float("alpha", 1.0).map_err(fault)?;
            let beta = call.float("beta", 1.0).map_err(fault)?;
            let (depth, columns) = if trans_b {
                (columns, rows)
            } else {
                (rows, columns)
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
            let value = |r: usize, c: usize| {
                alpha
                    * if trans_b {
                        values[c * depth + r]
                    } else {
                        values[r * columns + c]
                    }
            };
            let matrix = PackedMatrix::pack(depth, columns, value).with_bias(&bias);
            Ok(Some((Packed::Dense(Arc::new(matrix)), vec![1, 2])))
        }
        "MatMul" => {
            let &[depth, columns] = &shape[..] else {
                return Ok(None);
            };
            let matrix = PackedMatrix::pack(depth, columns, |r, c| values[r * columns + c]);
            Ok(Some((Packed::Dense(Arc::new(matrix)), vec![1])))
        }
        _ => Ok(None),
    }
}
