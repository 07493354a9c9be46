//! Resizing of images: rows and columns are taken where ONNX takes them, or
//! mixed where Core ML mixes the same ones.

use campana_ir::graph::{Attribute, Node};
use campana_tensor::TensorData;

use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::program::Given;

/// Places that differ by no more are the same.
const TOLERANCE: f32 = 1e-4;

/// Larger images are not looked at place by place.
const MAX_EXTENT: usize = 1 << 16;

/// An axis that is resized: its extents, and the ratio that places are found by.
#[derive(Clone, Copy)]
struct Axis {
    from: usize,
    to: usize,
    scale: f32,
}

/// The ways in which Core ML mixes neighbours.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Mixing {
    /// `resize_bilinear` by this sampling mode.
    Corners(&'static str),
    /// `upsample_bilinear` without centers of pixels.
    Origins,
}

const MIXINGS: [Mixing; 3] = [
    Mixing::Corners("UNALIGN_CORNERS"),
    Mixing::Corners("STRICT_ALIGN_CORNERS"),
    Mixing::Origins,
];

impl Converter<'_> {
    pub(super) fn resize(&mut self, at: usize) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        if x.shape.len() != 4 {
            return Err("resizes other than images".to_owned());
        }
        let axes = self.resized_axes(at, &x.shape)?;
        let is_kept = |axis: usize| axes[axis].from == axes[axis].to;
        if !is_kept(0) || !is_kept(1) {
            return Err("resizes the batch or the channels".to_owned());
        }
        let spatial = [axes[2], axes[3]];
        if spatial.iter().any(|axis| axis.to > MAX_EXTENT) {
            return Err(format!("makes more than {MAX_EXTENT} rows or columns"));
        }
        if node.int("antialias", 0) != 0 {
            return Err("smooths before it samples (antialias)".to_owned());
        }
        match node.text("mode", "nearest") {
            "nearest" => self.nearest(at, spatial),
            "linear" | "bilinear" => self.mixed(at, spatial),
            mode => Err(format!("resizes by {mode:?}, which Core ML does not")),
        }
    }

    /// Whole rows and columns, repeated or taken one by one.
    fn nearest(&mut self, at: usize, axes: [Axis; 2]) -> Converted {
        let node = self.network.node(at);
        let mut x = self.activation(&node.inputs[0])?;
        let way = || "rounds places in a way of its own".to_owned();
        let [rows, columns] = axes.map(|axis| axis.nearest(node));
        let (rows, columns) = (rows.ok_or_else(way)?, columns.ok_or_else(way)?);
        let repeats = |axis: Axis, places: &[usize]| {
            let times = axis.to / axis.from;
            let is_repeated = axis.to.is_multiple_of(axis.from)
                && places
                    .iter()
                    .enumerate()
                    .all(|(i, &place)| place == i / times);
            is_repeated.then_some(times)
        };
        if let (Some(height), Some(width)) = (repeats(axes[0], &rows), repeats(axes[1], &columns)) {
            let shape = [x.shape[0], x.shape[1], axes[0].to, axes[1].to];
            let inputs: Vec<(&str, Given)> = vec![
                ("x", x.into()),
                (
                    "scale_factor_height",
                    self.program.int(height as i32).into(),
                ),
                ("scale_factor_width", self.program.int(width as i32).into()),
            ];
            return self.make(at, "upsample_nearest_neighbor", inputs, &shape);
        }
        x = self.gathered(&x, 2, &rows)?;
        x = self.gathered(&x, 3, &columns)?;
        self.define(at, x);
        Ok(())
    }

    fn mixed(&mut self, at: usize, axes: [Axis; 2]) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let alike = |mixing: &Mixing| {
            axes.iter().all(|axis| {
                let own = axis.linear(node).zip(axis.linear_of(*mixing));
                own.is_some_and(|(places, own)| {
                    places
                        .iter()
                        .zip(&own)
                        .all(|(a, b)| (a - b).abs() <= TOLERANCE)
                })
            })
        };
        let Some(mixing) = MIXINGS.into_iter().find(|mixing| alike(mixing)) else {
            return Err("samples other places than Core ML does".to_owned());
        };
        let shape = [x.shape[0], x.shape[1], axes[0].to, axes[1].to];
        let [height, width] = axes.map(|axis| axis.to);
        match mixing {
            Mixing::Corners(mode) => {
                let inputs: Vec<(&str, Given)> = vec![
                    ("x", x.into()),
                    ("target_size_height", self.program.int(height as i32).into()),
                    ("target_size_width", self.program.int(width as i32).into()),
                    ("sampling_mode", self.program.text(mode).into()),
                ];
                self.make(at, "resize_bilinear", inputs, &shape)
            }
            Mixing::Origins => {
                let [height, width] = axes.map(|axis| (axis.to / axis.from) as i32);
                let inputs: Vec<(&str, Given)> = vec![
                    ("x", x.into()),
                    ("scale_factor_height", self.program.int(height).into()),
                    ("scale_factor_width", self.program.int(width).into()),
                    ("align_corners", self.program.flag(false).into()),
                    ("half_pixel_centers", self.program.flag(false).into()),
                ];
                self.make(at, "upsample_bilinear", inputs, &shape)
            }
        }
    }

    /// The extents of all axes before and after.
    fn resized_axes(&self, at: usize, shape: &[usize]) -> Converted<Vec<Axis>> {
        let node = self.network.node(at);
        let chosen: Vec<usize> = match node.attributes.get("axes") {
            Some(Attribute::Ints(axes)) => axes
                .iter()
                .map(|&axis| axis.rem_euclid(4) as usize)
                .collect(),
            _ => (0..4).collect(),
        };
        let whole = |&extent: &usize| Axis {
            from: extent,
            to: extent,
            scale: 1.0,
        };
        let mut axes: Vec<Axis> = shape.iter().map(whole).collect();
        let named = |place: usize| node.inputs.get(place).filter(|name| !name.is_empty());
        let sizes = named(3).and_then(|name| self.parameters.integers(name));
        if let Some(sizes) = sizes.filter(|sizes| sizes.len() == chosen.len()) {
            if node.text("keep_aspect_ratio_policy", "stretch") != "stretch" {
                return Err("keeps the image's proportions".to_owned());
            }
            for (&axis, size) in chosen.iter().zip(sizes) {
                axes[axis].to = size.max(1) as usize;
                axes[axis].scale = axes[axis].to as f32 / shape[axis] as f32;
            }
            return Ok(axes);
        }
        let place = if node.op_type == "Upsample" { 1 } else { 2 };
        let scales = named(place).and_then(|name| self.parameters.tensor(name));
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
        let default = if node.op_type == "Upsample" {
            "asymmetric"
        } else {
            "half_pixel"
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

    fn last(self) -> f32 {
        (self.from - 1) as f32
    }

    fn linear(self, node: &Node) -> Option<Vec<f32>> {
        let places = self.places(node)?.into_iter();
        Some(places.map(|x| x.clamp(0.0, self.last())).collect())
    }

    fn nearest(self, node: &Node) -> Option<Vec<usize>> {
        let default = if node.op_type == "Upsample" {
            "floor"
        } else {
            "round_prefer_floor"
        };
        let round: fn(f32) -> f32 = match node.text("nearest_mode", default) {
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

    /// As Core ML's documentation says; `None` where it has no such resizing.
    fn linear_of(self, mixing: Mixing) -> Option<Vec<f32>> {
        let (from, to) = (self.from as f32, self.to as f32);
        let place: Box<dyn Fn(f32) -> f32> = match mixing {
            Mixing::Corners("STRICT_ALIGN_CORNERS") if self.to > 1 => {
                Box::new(move |x| x * (from - 1.0) / (to - 1.0))
            }
            Mixing::Corners("UNALIGN_CORNERS") => Box::new(move |x| (x + 0.5) * from / to - 0.5),
            Mixing::Origins if self.to.is_multiple_of(self.from) => {
                Box::new(move |x| x * from / to)
            }
            _ => return None,
        };
        let places = (0..self.to).map(|x| place(x as f32).clamp(0.0, self.last()));
        Some(places.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(attributes: [(&str, &str); 2]) -> Node {
        let attributes = attributes.map(|(name, value)| {
            (
                name.to_owned(),
                Attribute::String(value.as_bytes().to_vec()),
            )
        });
        Node {
            attributes: attributes.into(),
            ..Node::new("Resize", &["x"], &["y"])
        }
    }

    const DOUBLED: Axis = Axis {
        from: 4,
        to: 8,
        scale: 2.0,
    };

    #[test]
    fn doubling_repeats_rows() {
        let floor = node([
            ("coordinate_transformation_mode", "asymmetric"),
            ("nearest_mode", "floor"),
        ]);
        assert_eq!(DOUBLED.nearest(&floor).unwrap(), [0, 0, 1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn halves_of_pixels_are_unaligned_corners() {
        let half = node([
            ("coordinate_transformation_mode", "half_pixel"),
            ("mode", "linear"),
        ]);
        let corners = Mixing::Corners("UNALIGN_CORNERS");
        assert_eq!(DOUBLED.linear(&half), DOUBLED.linear_of(corners));
        assert_ne!(DOUBLED.linear(&half), DOUBLED.linear_of(Mixing::Origins));
    }
}
