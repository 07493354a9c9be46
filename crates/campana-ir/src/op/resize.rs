//! Which places of the original a `Resize` or `Upsample` samples.
//!
//! # References
//!
//! ONNX operator `Resize`, <https://onnx.ai/onnx/operators/onnx__Resize.html>,
//! attributes `coordinate_transformation_mode` and `nearest_mode`.

use super::axis_from_start;
use crate::graph::{Attribute, Node};

/// An axis that is resized: its extents, and the ratio that places are found by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ResizedAxis {
    /// Elements before.
    pub from: usize,
    /// Elements after.
    pub to: usize,
    /// What coordinates are divided by.
    pub scale: f32,
}

impl ResizedAxis {
    /// All axes of an input of this shape, by the node's constant `sizes` or else
    /// `scales`; `None` where neither has one for each resized axis.
    pub fn all(
        node: &Node,
        shape: &[usize],
        sizes: Option<&[i64]>,
        scales: Option<&[f32]>,
    ) -> Option<Vec<Self>> {
        let chosen: Vec<usize> = match node.attributes.get("axes") {
            Some(Attribute::Ints(axes)) => {
                let axes = axes.iter().map(|&axis| axis_from_start(axis, shape.len()));
                axes.collect::<Option<_>>()?
            }
            _ => (0..shape.len()).collect(),
        };
        let whole = |&extent: &usize| Self {
            from: extent,
            to: extent,
            scale: 1.0,
        };
        let mut axes: Vec<Self> = shape.iter().map(whole).collect();
        if let Some(sizes) = sizes.filter(|sizes| sizes.len() == chosen.len()) {
            for (&axis, &size) in chosen.iter().zip(sizes) {
                axes[axis].to = size.max(1) as usize;
                axes[axis].scale = axes[axis].to as f32 / shape[axis] as f32;
            }
            return Some(axes);
        }
        let scales = scales.filter(|scales| scales.len() == chosen.len())?;
        for (&axis, &scale) in chosen.iter().zip(scales) {
            axes[axis].to = (shape[axis] as f32 * scale).floor().max(1.0) as usize;
            axes[axis].scale = scale;
        }
        Some(axes)
    }

    /// Whether sizes are bounds within which an image keeps its proportions.
    pub fn keep_proportions(node: &Node) -> bool {
        node.text("keep_aspect_ratio_policy", "stretch") != "stretch"
    }

    /// Where on the original each element lies, beyond its ends too; `None` for a
    /// convention that is not of the separable ones.
    fn places(self, node: &Node) -> Option<Vec<f32>> {
        let (from, to) = (self.from as f32, self.to as f32);
        let default = match node.op_type.as_str() {
            "Upsample" => "asymmetric",
            _ => "half_pixel",
        };
        let mode = node.text("coordinate_transformation_mode", default);
        let place = |x: f32| {
            Some(match mode {
                "half_pixel" => (x + 0.5) / self.scale - 0.5,
                "pytorch_half_pixel" if self.to > 1 => (x + 0.5) / self.scale - 0.5,
                "align_corners" if self.to > 1 => x * (from - 1.0) / (to - 1.0),
                "pytorch_half_pixel" | "align_corners" => 0.0,
                "asymmetric" => x / self.scale,
                _ => return None,
            })
        };
        (0..self.to).map(|x| place(x as f32)).collect()
    }

    /// The last place of the original.
    pub fn last(self) -> f32 {
        (self.from - 1) as f32
    }

    /// Where on the original each element is mixed from its neighbours.
    pub fn linear(self, node: &Node) -> Option<Vec<f32>> {
        let places = self.places(node)?.into_iter();
        Some(places.map(|x| x.clamp(0.0, self.last())).collect())
    }

    /// The element of the original that each element is.
    pub fn nearest(self, node: &Node) -> Option<Vec<usize>> {
        let default = match node.op_type.as_str() {
            "Upsample" => "floor",
            _ => "round_prefer_floor",
        };
        let round: fn(f32) -> f32 = match node.text("nearest_mode", default) {
            "round_prefer_floor" => |x| (x - 0.5).ceil(),
            "round_prefer_ceil" => |x| (x + 0.5).floor(),
            "floor" => f32::floor,
            "ceil" => f32::ceil,
            _ => return None,
        };
        let places = self.places(node)?.into_iter();
        let nearest = places.map(|x| round(x).clamp(0.0, self.last()) as usize);
        Some(nearest.collect())
    }
}
