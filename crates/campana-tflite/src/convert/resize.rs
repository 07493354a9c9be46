//! Resizing of images, where TFLite samples the same places.

use campana_ir::graph::{Attribute, Node};
use campana_tensor::TensorData;

use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::layout::channels_last;
use crate::schema::{Code, Options, Resize};
use crate::values::Made;

/// Places that differ by no more are the same.
const TOLERANCE: f32 = 1e-4;

/// Larger images are not looked at place by place.
const MAX_EXTENT: usize = 1 << 16;

/// The ways in which TFLite samples.
const WAYS: [Resize; 3] = [way(false, true), way(true, false), way(false, false)];

const fn way(align_corners: bool, half_pixel_centers: bool) -> Resize {
    Resize {
        align_corners,
        half_pixel_centers,
    }
}

/// An axis that is resized: its extents, and the ratio that places are found by.
#[derive(Clone, Copy)]
struct Axis {
    from: usize,
    to: usize,
    scale: f32,
}

impl Converter<'_> {
    pub(super) fn resize(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let input = node.inputs[0].as_str();
        let shape = self.values.shape(input)?;
        if shape.len() != 4 {
            return Err("resizes other than images".to_owned());
        }
        let axes = self.resized_axes(at, &shape)?;
        let is_kept = |axis: usize| axes[axis].from == axes[axis].to;
        if !is_kept(0) || !is_kept(1) {
            return Err("resizes the batch or the channels".to_owned());
        }
        let (height, width) = (axes[2], axes[3]);
        if height.to.max(width.to) > MAX_EXTENT {
            return Err(format!("makes more than {MAX_EXTENT} rows or columns"));
        }
        let mode = node.text("mode", "nearest");
        if node.int("antialias", 0) != 0 {
            return Err("smooths before it samples (antialias)".to_owned());
        }
        let samples_alike = |way: &Resize| {
            [height, width].iter().all(|axis| match mode {
                "nearest" => axis.nearest(node) == Some(axis.nearest_of(*way)),
                _ => axis.linear(node).is_some_and(|places| {
                    let own = axis.linear_of(*way);
                    let pairs = places.iter().zip(&own);
                    pairs.into_iter().all(|(a, b)| (a - b).abs() <= TOLERANCE)
                }),
            })
        };
        let way = WAYS.iter().copied().find(|way| samples_alike(way));
        let (code, options) = match (mode, way) {
            ("nearest", Some(way)) => (Code::ResizeNearestNeighbor, Options::Nearest(way)),
            ("linear", Some(way)) => (Code::ResizeBilinear, Options::Bilinear(way)),
            ("nearest" | "linear", None) => {
                return Err("samples other places than TFLite does".to_owned());
            }
            _ => return Err(format!("resizes by {mode:?}, which TFLite does not")),
        };
        let output = node.outputs[0].as_str();
        let own = self.values.params(input);
        // Of int8 it makes int8 of the same parameters: between others rounding twice would cost a step.
        let moves = code == Code::ResizeNearestNeighbor;
        let params = own.filter(|_| moves || self.rounded(output) == own);
        let order = channels_last(4);
        let tensor = self.values.operand(input, params, &order)?;
        let made = vec![shape[0], shape[1], height.to, width.to];
        let extents = self
            .values
            .integers("size", &[height.to as i32, width.to as i32]);
        let made = Made {
            shape: made,
            order,
            params,
        };
        self.values
            .make(output, made, (code, options), vec![tensor, extents]);
        Ok(())
    }

    /// The extents of all axes before and after.
    fn resized_axes(&self, at: usize, shape: &[usize]) -> Converted<Vec<Axis>> {
        let node = self.network.node(at);
        let named = |place: usize| node.inputs.get(place).filter(|name| !name.is_empty());
        let chosen: Vec<usize> = match node.attributes.get("axes") {
            Some(Attribute::Ints(axes)) => axes
                .iter()
                .map(|&axis| axis.rem_euclid(4) as usize)
                .collect(),
            _ => (0..4).collect(),
        };
        let mut axes: Vec<Axis> = shape
            .iter()
            .map(|&extent| Axis {
                from: extent,
                to: extent,
                scale: 1.0,
            })
            .collect();
        let sizes = named(3).and_then(|name| self.parameters.integer_list(name));
        let scales = named(2).and_then(|name| self.parameters.tensor(name));
        if let Some(sizes) = sizes.filter(|sizes| sizes.len() == chosen.len()) {
            for (&axis, size) in chosen.iter().zip(sizes) {
                axes[axis].to = size.max(1) as usize;
                axes[axis].scale = axes[axis].to as f32 / shape[axis] as f32;
            }
            return Ok(axes);
        }
        match scales.map(campana_tensor::Tensor::data) {
            Some(TensorData::F32(scales)) if scales.len() == chosen.len() => {
                for (&axis, &scale) in chosen.iter().zip(scales) {
                    axes[axis].to = (shape[axis] as f32 * scale).floor().max(1.0) as usize;
                    axes[axis].scale = scale;
                }
                Ok(axes)
            }
            _ => Err(NO_FORM.to_owned()),
        }
    }
}

impl Axis {
    /// The places on the original of all elements, by ONNX's conventions.
    fn places(self, node: &Node) -> Option<Vec<f32>> {
        let (from, to) = (self.from as f32, self.to as f32);
        let place = |x: f32| {
            Some(
                match node.text("coordinate_transformation_mode", "half_pixel") {
                    "half_pixel" => (x + 0.5) / self.scale - 0.5,
                    "pytorch_half_pixel" if self.to > 1 => (x + 0.5) / self.scale - 0.5,
                    "pytorch_half_pixel" => 0.0,
                    "align_corners" if self.to > 1 => x * (from - 1.0) / (to - 1.0),
                    "align_corners" => 0.0,
                    "asymmetric" => x / self.scale,
                    _ => return None,
                },
            )
        };
        (0..self.to).map(|x| place(x as f32)).collect()
    }

    fn last(self) -> f32 {
        (self.from - 1) as f32
    }

    fn linear(self, node: &Node) -> Option<Vec<f32>> {
        let places = self.places(node)?.into_iter();
        Some(places.map(|x| x.clamp(0.0, self.last())).collect())
    }

    fn nearest(self, node: &Node) -> Option<Vec<usize>> {
        let round: fn(f32) -> f32 = match node.text("nearest_mode", "round_prefer_floor") {
            "round_prefer_floor" => |x| (x - 0.5).ceil(),
            "round_prefer_ceil" => |x| (x + 0.5).floor(),
            "floor" => f32::floor,
            "ceil" => f32::ceil,
            _ => return None,
        };
        let places = self.places(node)?.into_iter();
        Some(
            places
                .map(|x| round(x).clamp(0.0, self.last()) as usize)
                .collect(),
        )
    }

    /// As TFLite's kernels compute it.
    fn ratio(self, way: Resize) -> f32 {
        match way.align_corners && self.to > 1 {
            true => self.last() / (self.to - 1) as f32,
            false => self.from as f32 / self.to as f32,
        }
    }

    fn linear_of(self, way: Resize) -> Vec<f32> {
        let ratio = self.ratio(way);
        let place = |x: f32| match way.half_pixel_centers {
            true => (x + 0.5) * ratio - 0.5,
            false => x * ratio,
        };
        let places = (0..self.to).map(|x| place(x as f32));
        places.map(|x| x.clamp(0.0, self.last())).collect()
    }

    fn nearest_of(self, way: Resize) -> Vec<usize> {
        let ratio = self.ratio(way);
        let offset = if way.half_pixel_centers { 0.5 } else { 0.0 };
        let place = |x: f32| {
            let at = (x + offset) * ratio;
            let at = if way.align_corners {
                at.round()
            } else {
                at.floor()
            };
            at.clamp(0.0, self.last()) as usize
        };
        (0..self.to).map(|x| place(x as f32)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(attributes: [(&str, &str); 2]) -> Node {
        let attribute = |(name, value): (&str, &str)| {
            (
                name.to_owned(),
                Attribute::String(value.as_bytes().to_vec()),
            )
        };
        Node {
            attributes: attributes.into_iter().map(attribute).collect(),
            ..Node::default()
        }
    }

    #[test]
    fn doubling_samples_the_same_places_whatever_the_convention() {
        let axis = Axis {
            from: 4,
            to: 8,
            scale: 2.0,
        };
        let node = node([
            ("coordinate_transformation_mode", "asymmetric"),
            ("nearest_mode", "floor"),
        ]);
        assert_eq!(axis.nearest(&node).unwrap(), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(axis.nearest_of(way(false, false)), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(axis.nearest_of(way(false, true)), [0, 0, 1, 1, 2, 2, 3, 3]);
    }
}
