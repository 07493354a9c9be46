//! Resizing of images: rows and columns are taken where ONNX takes them, or
//! mixed where Core ML mixes the same ones.

use campana_ir::op::ResizedAxis;
use campana_tensor::TensorData;

use super::{Converter, NO_FORM};
use crate::error::Converted;
use crate::program::Given;

/// Places that differ by no more are the same.
const TOLERANCE: f32 = 1e-4;

/// Larger images are not looked at place by place.
const MAX_EXTENT: usize = 1 << 16;

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
    fn nearest(&mut self, at: usize, axes: [ResizedAxis; 2]) -> Converted {
        let node = self.network.node(at);
        let mut x = self.activation(&node.inputs[0])?;
        let way = || "rounds places in a way of its own".to_owned();
        let [rows, columns] = axes.map(|axis| axis.nearest(node));
        let (rows, columns) = (rows.ok_or_else(way)?, columns.ok_or_else(way)?);
        let repeats = |axis: ResizedAxis, places: &[usize]| {
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

    fn mixed(&mut self, at: usize, axes: [ResizedAxis; 2]) -> Converted {
        let node = self.network.node(at);
        let x = self.activation(&node.inputs[0])?;
        let alike = |mixing: &Mixing| {
            axes.iter().all(|axis| {
                let own = axis.linear(node).zip(linear_of(*axis, *mixing));
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
    fn resized_axes(&self, at: usize, shape: &[usize]) -> Converted<Vec<ResizedAxis>> {
        let node = self.network.node(at);
        let named = |place: usize| node.inputs.get(place).filter(|name| !name.is_empty());
        let sizes = named(3).and_then(|name| self.parameters.integers(name));
        if sizes.is_some() && ResizedAxis::keep_proportions(node) {
            return Err("keeps the image's proportions".to_owned());
        }
        let place = if node.op_type == "Upsample" { 1 } else { 2 };
        let scales = named(place).and_then(|name| self.parameters.tensor(name));
        let scales = match scales.map(campana_tensor::Tensor::data) {
            Some(TensorData::F32(scales)) => Some(scales.as_slice()),
            _ => None,
        };
        let axes = ResizedAxis::all(node, shape, sizes.as_deref(), scales);
        axes.ok_or_else(|| NO_FORM.to_owned())
    }
}

/// As Core ML's documentation says; `None` where it has no such resizing.
fn linear_of(axis: ResizedAxis, mixing: Mixing) -> Option<Vec<f32>> {
    let (from, to) = (axis.from as f32, axis.to as f32);
    let place: Box<dyn Fn(f32) -> f32> = match mixing {
        Mixing::Corners("STRICT_ALIGN_CORNERS") if axis.to > 1 => {
            Box::new(move |x| x * (from - 1.0) / (to - 1.0))
        }
        Mixing::Corners("UNALIGN_CORNERS") => Box::new(move |x| (x + 0.5) * from / to - 0.5),
        Mixing::Origins if axis.to.is_multiple_of(axis.from) => Box::new(move |x| x * from / to),
        _ => return None,
    };
    let places = (0..axis.to).map(|x| place(x as f32).clamp(0.0, axis.last()));
    Some(places.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use campana_ir::graph::{Attribute, Node};

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

    const DOUBLED: ResizedAxis = ResizedAxis {
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
        assert_eq!(DOUBLED.linear(&half), linear_of(DOUBLED, corners));
        assert_ne!(DOUBLED.linear(&half), linear_of(DOUBLED, Mixing::Origins));
    }
}
