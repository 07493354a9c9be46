//! Resizing of images, where TFLite samples the same places.

use campana_ir::op::ResizedAxis;
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
                "nearest" => axis.nearest(node) == Some(nearest_of(*axis, *way)),
                _ => axis.linear(node).is_some_and(|places| {
                    let own = linear_of(*axis, *way);
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
    fn resized_axes(&self, at: usize, shape: &[usize]) -> Converted<Vec<ResizedAxis>> {
        let node = self.network.node(at);
        let named = |place: usize| node.inputs.get(place).filter(|name| !name.is_empty());
        let sizes = named(3).and_then(|name| self.parameters.integer_list(name));
        if sizes.is_some() && ResizedAxis::keep_proportions(node) {
            return Err("keeps the image's proportions".to_owned());
        }
        let scales = named(2).and_then(|name| self.parameters.tensor(name));
        let scales = match scales.map(campana_tensor::Tensor::data) {
            Some(TensorData::F32(scales)) => Some(scales.as_slice()),
            _ => None,
        };
        let axes = ResizedAxis::all(node, shape, sizes.as_deref(), scales);
        axes.ok_or_else(|| NO_FORM.to_owned())
    }
}

/// As TFLite's kernels compute it.
fn ratio(axis: ResizedAxis, way: Resize) -> f32 {
    match way.align_corners && axis.to > 1 {
        true => axis.last() / (axis.to - 1) as f32,
        false => axis.from as f32 / axis.to as f32,
    }
}

fn linear_of(axis: ResizedAxis, way: Resize) -> Vec<f32> {
    let ratio = ratio(axis, way);
    let place = |x: f32| match way.half_pixel_centers {
        true => (x + 0.5) * ratio - 0.5,
        false => x * ratio,
    };
    let places = (0..axis.to).map(|x| place(x as f32));
    places.map(|x| x.clamp(0.0, axis.last())).collect()
}

fn nearest_of(axis: ResizedAxis, way: Resize) -> Vec<usize> {
    let ratio = ratio(axis, way);
    let offset = if way.half_pixel_centers { 0.5 } else { 0.0 };
    let place = |x: f32| {
        let at = (x + offset) * ratio;
        let at = if way.align_corners {
            at.round()
        } else {
            at.floor()
        };
        at.clamp(0.0, axis.last()) as usize
    };
    (0..axis.to).map(|x| place(x as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_ir::graph::{Attribute, Node};

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
        let axis = ResizedAxis {
            from: 4,
            to: 8,
            scale: 2.0,
        };
        let node = node([
            ("coordinate_transformation_mode", "asymmetric"),
            ("nearest_mode", "floor"),
        ]);
        assert_eq!(axis.nearest(&node).unwrap(), [0, 0, 1, 1, 2, 2, 3, 3]);
        assert_eq!(
            nearest_of(axis, way(false, false)),
            [0, 0, 1, 1, 2, 2, 3, 3]
        );
        assert_eq!(nearest_of(axis, way(false, true)), [0, 0, 1, 1, 2, 2, 3, 3]);
    }
}
