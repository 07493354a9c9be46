//! The rule of each operator.

mod binary;
mod convolution;
mod linear;
mod movement;
mod normalization;
mod pooling;
mod reduction;
mod unary;

use campana_ir::network::Network;
use campana_ir::op::Op;

use crate::error::Fault;
use crate::rule::Rule;

/// The rule of a node.
///
/// # Errors
///
/// Where its operator has none.
pub(crate) fn of(network: &Network<'_>, node: usize) -> Result<Box<dyn Rule>, Fault> {
    let found = network.node(node);
    let opset = network.graph().opset();
    let name = found.op_type.as_str();
    Ok(match network.op(node) {
        Op::Conv(convolution) => Box::new(convolution::Conv(convolution.clone())),
        Op::ConvTranspose(convolution) => {
            Box::new(convolution::ConvTranspose::new(convolution, found)?)
        }
        Op::Gemm(gemm) => Box::new(linear::Gemm(*gemm)),
        Op::MatMul => Box::new(linear::MatMul),
        Op::BatchNormalization(normalization) if !normalization.training => {
            Box::new(normalization::Batch(*normalization))
        }
        Op::MaxPool(pool) if found.outputs.len() == 1 => Box::new(pooling::Max(pool.clone())),
        Op::AveragePool(pool) => Box::new(pooling::Average::new(pool.clone())?),
        Op::GlobalAveragePool => Box::new(reduction::Reduction::global_mean()),
        Op::GlobalMaxPool => Box::new(reduction::Reduction::global_max()),
        Op::Reduce(reduce) => Box::new(reduction::Reduction::of(name, reduce)?),
        Op::Unary(_) => Box::new(unary::of(name)?),
        Op::Binary(_) => Box::new(binary::of(name)?),
        Op::Normalization => normalization::of(name, opset)?,
        Op::Cast(_) => Box::new(movement::Same),
        Op::Reshape(_) => Box::new(movement::Same),
        Op::Transpose { .. }
        | Op::Concat { .. }
        | Op::Slice
        | Op::Split { .. }
        | Op::Gather { .. }
        | Op::Pad => Box::new(movement::Moved::new(network, node)),
        _ => match name {
            "Max" | "Min" | "Sum" | "Mean" | "Where" => Box::new(binary::of(name)?),
            "DepthToSpace" | "SpaceToDepth" | "Expand" | "Tile" | "GatherElements" | "GatherND" => {
                Box::new(movement::Moved::new(network, node))
            }
            _ => return Err(Fault::no_gradient()),
        },
    })
}
