//! Shapes of what operators give that stages know by their names alone.

use super::contents::Number;
use super::extents::{Shape, broadcast, known, pooled_globally, unknown};
use super::scope::Scope;
use crate::graph::{Attribute, Dim, Node};
use crate::op::{Convolution, ResizedAxis};

/// The shape of the first output; `None` where it cannot be told.
pub(super) fn named_shape(scope: &Scope, node: &Node) -> Option<Shape> {
    let input = |index| scope.input_shape(node, index).map(<[Dim]>::to_vec);
    match node.op_type.as_str() {
        "Max" | "Min" | "Mean" | "Sum" | "Where" | "And" | "Or" | "Xor" | "Equal" | "Greater"
        | "GreaterOrEqual" | "Less" | "LessOrEqual" => {
            let rest = 1..node.inputs.len();
            rest.fold(input(0), |shape, index| broadcast(shape, input(index)))
        }
        "Not" | "IsInf" | "IsNaN" | "CumSum" | "Trilu" => input(0),
        "GlobalLpPool" => input(0).map(pooled_globally),
        "DepthToSpace" => with_blocks(input(0)?, node, |channels, side, block| {
            let blocks = block.checked_mul(block)?;
            Some([channels.checked_div(blocks)?, side.checked_mul(block)?])
        }),
        "SpaceToDepth" => with_blocks(input(0)?, node, |channels, side, block| {
            let blocks = block.checked_mul(block)?;
            Some([channels.checked_mul(blocks)?, side.checked_div(block)?])
        }),
        "Tile" => {
            let (shape, repeats) = (input(0)?, known(scope, node, 1)?);
            if repeats.len() != shape.len() {
                return None;
            }
            let tiled = shape.into_iter().zip(repeats);
            Some(tiled.map(|(dim, count)| times(dim, count)).collect())
        }
        "Expand" => broadcast(input(0), extents_told(scope, node, 1)),
        "ConstantOfShape" => extents_told(scope, node, 0),
        "Resize" | "Upsample" => resized(scope, node),
        _ => None,
    }
}

/// The extents that an input lists.
fn extents_told(scope: &Scope, node: &Node, index: usize) -> Option<Shape> {
    let told = scope.input_contents(node, index)?.numbers.iter();
    let extents = told.map(|number| match number {
        Number::Known(extent) => usize::try_from(*extent).map_or_else(|_| unknown(), Dim::Fixed),
        Number::Extent(name) => Dim::Symbol(name.clone()),
    });
    Some(extents.collect())
}

/// An extent that is repeated.
fn times(dim: Dim, count: i64) -> Dim {
    match (dim, usize::try_from(count)) {
        (Dim::Fixed(extent), Ok(count)) => {
            extent.checked_mul(count).map_or_else(unknown, Dim::Fixed)
        }
        (dim, Ok(1)) => dim,
        _ => unknown(),
    }
}

/// `[batch, channels, height, width]` whose channels and sides change by blocks.
fn with_blocks(
    shape: Shape,
    node: &Node,
    change: impl Fn(usize, usize, usize) -> Option<[usize; 2]>,
) -> Option<Shape> {
    let [batch, channels, height, width] = <[Dim; 4]>::try_from(shape).ok()?;
    let block = usize::try_from(node.int("blocksize", 0)).ok()?;
    let changed = |side: &Dim| match (&channels, side) {
        (Dim::Fixed(channels), Dim::Fixed(side)) => change(*channels, *side, block),
        _ => None,
    };
    let [[channels, height], [_, width]] = [changed(&height)?, changed(&width)?];
    Some(
        [
            vec![batch],
            [channels, height, width].map(Dim::Fixed).to_vec(),
        ]
        .concat(),
    )
}

/// The extents after a resize by constants.
fn resized(scope: &Scope, node: &Node) -> Option<Shape> {
    let shape = scope.input_shape(node, 0)?;
    let crops = node.text("coordinate_transformation_mode", "") == "tf_crop_and_resize";
    if crops || ResizedAxis::keep_proportions(node) {
        return None;
    }
    let declared = match node.attributes.get("scales") {
        Some(Attribute::Floats(scales)) => Some(scales.as_slice()),
        _ => None,
    };
    let place = if node.inputs.len() > 2 { 2 } else { 1 };
    let scales = declared.or_else(|| scope.input_floats(node, place));
    let sizes = known(scope, node, 3);
    // Open extents stay open, unless a size says otherwise.
    let extents: Vec<usize> = shape
        .iter()
        .map(|dim| {
            if let Dim::Fixed(extent) = dim {
                *extent
            } else {
                1
            }
        })
        .collect();
    let axes = ResizedAxis::all(node, &extents, sizes.as_deref(), scales)?;
    let resized = shape.iter().zip(axes).map(|(dim, axis)| match dim {
        // Factors beyond all numbers end there.
        Dim::Fixed(_) if axis.to < usize::MAX => Dim::Fixed(axis.to),
        open if axis.scale == 1.0 && axis.to == 1 => open.clone(),
        _ => unknown(),
    });
    Some(resized.collect())
}

/// `[batch, filters, ..]` of a transposed convolution.
pub(super) fn transposed_conv(
    input: Option<Shape>,
    weights: Option<Shape>,
    conv: &Convolution,
) -> Option<Shape> {
    let (input, weights) = (input?, weights?);
    let rank = input.len().checked_sub(2)?;
    let filters = times(weights.get(1)?.clone(), conv.groups as i64);
    let along = |axis: usize| match (input.get(axis + 2), weights.get(axis + 2)) {
        (Some(&Dim::Fixed(extent)), Some(&Dim::Fixed(kernel))) => conv
            .transposed_along((axis, rank), extent, kernel)
            .map_or_else(unknown, |places| Dim::Fixed(places.count)),
        _ => unknown(),
    };
    let spatial = (0..rank).map(along);
    Some(
        [input[0].clone(), filters]
            .into_iter()
            .chain(spatial)
            .collect(),
    )
}
