//! Whether the images of a batch can be run one after another.
//!
//! They are then: the activations of one image stay in the caches, memory is
//! that of a batch of one, and threads take an image each.
//!
//! Two programs of the same plan tell: that of the batch and that of one
//! image. Every value must be one of two kinds, and every operator must keep
//! them apart; what is not known to do so runs on the batch at once.

use std::collections::HashMap;

use campana_ir::graph::{Attribute, Node};
use campana_tensor::{Tensor, TensorData};

use super::Program;
use crate::ops::{shape_operands, unary_scalar};
use crate::plan::{Plan, PlannedNode};

/// How a value of the batch belongs to those of its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The images' values, one after another along the first axis.
    PerImage,
    /// The same for every image.
    Shared,
}

/// Whether running each image by itself (the program `single`) gives what
/// running the batch at once (`whole`) gives.
pub(crate) fn is_separable(plan: &Plan, whole: &Program, single: &Program, batch: usize) -> bool {
    if whole.mixes_batch || single.mixes_batch {
        return false;
    }
    let analysis = Analysis {
        plan,
        whole,
        kinds: kinds(plan, whole, single, batch),
    };
    let outputs = plan.outputs.iter();
    outputs
        .map(|value| analysis.kind(&value.name))
        .all(|kind| kind == Some(Kind::PerImage))
        && whole.shapes.len() == single.shapes.len()
        && whole
            .shapes
            .keys()
            .all(|name| analysis.kind(name) == Some(Kind::PerImage))
        && plan.nodes.iter().all(|planned| analysis.separates(planned))
}

/// The kind of every value that has one.
fn kinds<'p>(
    plan: &'p Plan,
    whole: &'p Program,
    single: &Program,
    batch: usize,
) -> HashMap<&'p str, Kind> {
    let constants = plan
        .constants
        .keys()
        .map(|name| (name.as_str(), Kind::Shared));
    let computed = whole.shapes.iter().filter_map(|(name, shape)| {
        let ([first, rest @ ..], [one, single @ ..]) =
            (shape.as_slice(), single.shapes.get(name)?.as_slice())
        else {
            return None;
        };
        let is_per_image = *first == batch && *one == 1 && rest == single;
        is_per_image.then_some((name.as_str(), Kind::PerImage))
    });
    let derived = whole.derived.iter().filter_map(|(name, tensor)| {
        let of_one = single.derived.get(name)?;
        if tensor == of_one {
            return Some((name.as_str(), Kind::Shared));
        }
        is_repeated(tensor, of_one, batch).then_some((name.as_str(), Kind::PerImage))
    });
    constants.chain(computed).chain(derived).collect()
}

/// Whether a tensor is another one, `times` times along the first axis.
fn is_repeated(tensor: &Tensor, one: &Tensor, times: usize) -> bool {
    let ([first, rest @ ..], [1, single @ ..]) = (tensor.shape(), one.shape()) else {
        return false;
    };
    macro_rules! repeats {
        ($($variant:ident),*) => {
            match (tensor.data(), one.data()) {
                $((TensorData::$variant(all), TensorData::$variant(one)) => {
                    !one.is_empty() && all.chunks(one.len()).all(|chunk| chunk == one)
                })*
                _ => false,
            }
        };
    }
    *first == times
        && rest == single
        && repeats!(F32, F64, I8, U8, I16, U16, I32, U32, I64, U64, Bool)
}

struct Analysis<'p> {
    plan: &'p Plan,
    whole: &'p Program,
    kinds: HashMap<&'p str, Kind>,
}

impl Analysis<'_> {
    fn kind(&self, name: &str) -> Option<Kind> {
        let known = self.whole.shapes.contains_key(name) || self.whole.derived.contains_key(name);
        match self.kinds.get(name) {
            // Constants that were laid out for a kernel are kept nowhere else.
            None if !known => Some(Kind::Shared),
            kind => kind.copied(),
        }
    }

    fn shape(&self, name: &str) -> Option<&[usize]> {
        let derived = || Some(self.whole.derived.get(name)?.shape());
        let constant = || Some(self.plan.constants.get(name)?.shape());
        let computed = self.whole.shapes.get(name).map(Vec::as_slice);
        computed.or_else(derived).or_else(constant)
    }

    fn rank(&self, name: &str) -> usize {
        self.shape(name).map_or(0, <[usize]>::len)
    }

    /// Whether a node's outputs of each image depend on that image alone.
    fn separates(&self, planned: &PlannedNode) -> bool {
        let node = &planned.node;
        let computes = node
            .outputs
            .iter()
            .any(|name| self.whole.shapes.contains_key(name));
        if !computes {
            // Known from shapes: its kind says all.
            return true;
        }
        // New extents may depend on the batch: the shapes they give have been compared.
        let extents: &[usize] = match node.op_type.as_str() {
            "Reshape" | "Resize" => shape_operands(&node.op_type),
            _ => &[],
        };
        let inputs = node.inputs.iter().enumerate();
        let inputs: Vec<&str> = inputs
            .filter(|(i, name)| !name.is_empty() && !extents.contains(i))
            .map(|(_, name)| name.as_str())
            .collect();
        let residual = planned.residual.as_deref();
        inputs
            .iter()
            .copied()
            .chain(residual)
            .all(|name| self.kind(name).is_some())
            && self.rule(planned, &inputs)
    }

    /// Whether an operator keeps images apart, given the kinds of its inputs.
    fn rule(&self, planned: &PlannedNode, inputs: &[&str]) -> bool {
        let node = &planned.node;
        let Some((&first, others)) = inputs.split_first() else {
            return false;
        };
        let rank = self.rank(first);
        let of_images = self.kind(first) == Some(Kind::PerImage);
        let others_shared = || {
            let mut kinds = others.iter().map(|name| self.kind(name));
            kinds.all(|kind| kind == Some(Kind::Shared))
        };
        // A second output of a pool counts places over the whole batch.
        let one_output = node.outputs.iter().filter(|name| !name.is_empty()).count() == 1;
        let by_first_axis = of_images && others_shared();
        match node.op_type.as_str() {
            name if unary_scalar(name).is_some() => of_images,
            "Relu" | "Clip" | "Sigmoid" | "HardSigmoid" | "HardSwish" | "LeakyRelu" | "Exp"
            | "Elu" | "Celu" | "Selu" | "Gelu" | "Swish" | "Shrink" | "ThresholdedRelu"
            | "Cast" | "Identity" | "Not" | "IsNaN" | "IsInf" | "QuantizeDequantize" => {
                by_first_axis
            }
            "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Min" | "Max" | "Sum" | "Mean" | "PRelu"
            | "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" | "And" | "Or"
            | "Xor" | "Where" => self.broadcasts(node),
            // Elements of an image stay in order, and its shape is checked.
            "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" => of_images,
            "Conv"
            | "ConvTranspose"
            | "BatchNormalization"
            | "LRN"
            | "InstanceNormalization"
            | "GroupNormalization"
            | "GlobalAveragePool"
            | "GlobalMaxPool"
            | "DepthToSpace"
            | "SpaceToDepth" => by_first_axis,
            "MaxPool" | "AveragePool" | "LpPool" | "Dropout" => by_first_axis && one_output,
            "Resize" => by_first_axis && !crops(node),
            "Transpose" => of_images && first_int(node, "perm").is_some_and(|axis| axis == 0),
            "Slice" => of_images && self.slices_within(node, first, rank),
            "Pad" => by_first_axis && self.pads_within(node, rank),
            "Concat" | "Split" | "Softmax" | "LogSoftmax" | "LayerNormalization"
            | "RMSNormalization" | "ArgMax" | "ArgMin" => self.along_axis(node, rank),
            name if name.starts_with("Reduce") => of_images && self.reduces_images(node, rank),
            "Gather" => {
                let axis = int(node, "axis").unwrap_or(0);
                by_first_axis && !is_first(axis, rank)
            }
            "Gemm" => {
                // Packed: the bias has been found to be one row.
                by_first_axis && int(node, "transA").unwrap_or(0) == 0 && planned.packed.is_some()
            }
            "MatMul" => of_images && self.multiplies(planned, rank, others),
            _ => false,
        }
    }

    /// Operands of images must have all axes of the result, shared ones none
    /// along the first.
    fn broadcasts(&self, node: &Node) -> bool {
        let ranks = node.inputs.iter().map(|name| self.rank(name));
        let rank = ranks.max().unwrap_or(0);
        node.inputs.iter().all(|name| match self.kind(name) {
            Some(Kind::PerImage) => self.rank(name) == rank,
            Some(Kind::Shared) => {
                let shape = self.shape(name).unwrap_or(&[]);
                shape.len() < rank || shape.first() == Some(&1)
            }
            None => false,
        })
    }

    /// Whether a Slice takes the whole first axis.
    fn slices_within(&self, node: &Node, first: &str, rank: usize) -> bool {
        let (Some(starts), Some(ends)) = (self.ints(node, 1, "starts"), self.ints(node, 2, "ends"))
        else {
            return false;
        };
        let axes = self.ints(node, 3, "axes");
        let axes = axes.unwrap_or_else(|| (0..starts.len() as i64).collect());
        let steps = self
            .ints(node, 4, "")
            .unwrap_or_else(|| vec![1; axes.len()]);
        let dim = self.shape(first).and_then(<[usize]>::first);
        let dim = dim.map_or(0, |&dim| dim as i64);
        (0..axes.len()).all(|i| {
            !is_first(axes[i], rank)
                || starts.get(i) == Some(&0)
                    && ends.get(i).is_some_and(|&end| end >= dim)
                    && steps.get(i) == Some(&1)
        })
    }

    /// Whether a Pad adds nothing to the first axis.
    fn pads_within(&self, node: &Node, rank: usize) -> bool {
        let pads = self.ints(node, 1, "pads");
        let Some(pads) = pads.or_else(|| self.ints(node, 1, "paddings")) else {
            return false;
        };
        let axes = self
            .ints(node, 3, "")
            .unwrap_or_else(|| (0..rank as i64).collect());
        pads.len() == 2 * axes.len()
            && (0..axes.len())
                .all(|i| !is_first(axes[i], rank) || (pads[i], pads[axes.len() + i]) == (0, 0))
    }

    /// Numbers that a node gets as an input known beforehand, or as an attribute.
    fn ints(&self, node: &Node, index: usize, attribute: &str) -> Option<Vec<i64>> {
        let name = node.inputs.get(index).map_or("", String::as_str);
        let derived = self.whole.derived.get(name);
        if let Some(tensor) = self.plan.constants.get(name).or(derived) {
            return crate::ops::whole_numbers(tensor).ok();
        }
        match node.attributes.get(attribute) {
            Some(Attribute::Ints(values)) => Some(values.clone()),
            _ => None,
        }
    }

    fn along_axis(&self, node: &Node, rank: usize) -> bool {
        let default = match node.op_type.as_str() {
            "Concat" => 1,
            "Softmax" | "LogSoftmax" if self.plan.opset < 13 => 1,
            "Split" | "ArgMax" | "ArgMin" => 0,
            _ => -1,
        };
        let axis = int(node, "axis").unwrap_or(default);
        let parameters = match node.op_type.as_str() {
            "Concat" => Kind::PerImage,
            _ => Kind::Shared,
        };
        let mut inputs = node.inputs.iter().filter(|name| !name.is_empty());
        let of_images = inputs
            .next()
            .is_some_and(|name| self.kind(name) == Some(Kind::PerImage));
        // The statistics that some give beside their result are the images' too.
        of_images
            && inputs.all(|name| self.kind(name) == Some(parameters) || node.op_type == "Split")
            && !is_first(axis, rank)
    }

    fn reduces_images(&self, node: &Node, rank: usize) -> bool {
        // Without axes everything is reduced, or nothing, the first axis included.
        let axes = self.ints(node, 1, "axes").filter(|axes| !axes.is_empty());
        axes.is_some_and(|axes| axes.iter().all(|&axis| !is_first(axis, rank)))
    }

    /// Matrices of images with shared ones, or with those of the same images.
    fn multiplies(&self, planned: &PlannedNode, rank: usize, others: &[&str]) -> bool {
        if planned.packed.is_some() {
            return rank >= 2;
        }
        let &[other] = others else { return false };
        match self.kind(other) {
            Some(Kind::Shared) => rank >= 2 && self.rank(other) <= 2,
            Some(Kind::PerImage) => rank >= 3 && self.rank(other) == rank,
            None => false,
        }
    }
}

fn int(node: &Node, name: &str) -> Option<i64> {
    match node.attributes.get(name) {
        Some(Attribute::Int(value)) => Some(*value),
        _ => None,
    }
}

fn first_int(node: &Node, name: &str) -> Option<i64> {
    match node.attributes.get(name) {
        Some(Attribute::Ints(values)) => values.first().copied(),
        _ => None,
    }
}

/// Whether an axis, counted from the end where negative, is the first one.
fn is_first(axis: i64, rank: usize) -> bool {
    axis == 0 || axis + rank as i64 == 0
}

/// Whether a Resize looks at a region that may differ from image to image.
fn crops(node: &Node) -> bool {
    let mode = node.attributes.get("coordinate_transformation_mode");
    matches!(mode, Some(Attribute::String(mode)) if mode == b"tf_crop_and_resize")
}
