//! Changing the size of images.

use campana_tensor::Tensor;

use super::Operator;
use super::call::{Call, Fault, axis_of, floats, one};
use super::indexing::strides_of;

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    match op_type {
        "Resize" | "Upsample" => Some(resize),
        _ => None,
    }
}

/// How one axis is sampled: for each output, its sources and their weights.
type Taps = Vec<Vec<(usize, f32)>>;

struct Options<'a> {
    transform: &'a str,
    nearest: &'a str,
    linear: bool,
}

fn resize(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    let rank = shape.len();
    let upsample = call.node.op_type == "Upsample";
    // Opset 10 knows scales alone, and only this transformation.
    let old = upsample || call.opset < 11;
    let scales_at = if old { 1 } else { 2 };
    let mode = call.string("mode", "nearest")?;
    if !matches!(mode, "nearest" | "linear" | "bilinear") {
        return Err(Fault::unsupported(format!("resize mode {mode}")));
    }
    if call.int("antialias", 0)? != 0 {
        return Err(Fault::unsupported("antialiased resizing"));
    }
    let options = Options {
        transform: if old {
            "asymmetric"
        } else {
            call.string("coordinate_transformation_mode", "half_pixel")?
        },
        nearest: if old {
            "floor"
        } else {
            call.string("nearest_mode", "round_prefer_floor")?
        },
        linear: mode != "nearest",
    };
    let axes: Vec<usize> = match call.ints("axes")? {
        Some(axes) => axes
            .iter()
            .map(|&axis| axis_of(axis, rank))
            .collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    let given = match call.optional(scales_at).filter(|scales| !scales.is_empty()) {
        Some(scales) => Some(floats(scales)?),
        None => call.float_list("scales")?,
    };
    let sizes = if old {
        None
    } else {
        call.optional_ints(3)?.filter(|sizes| !sizes.is_empty())
    };
    let mut dims = shape.to_vec();
    let mut scales = vec![1.0f32; rank];
    match (given, sizes) {
        (Some(given), _) if given.len() == axes.len() => {
            for (&axis, &scale) in axes.iter().zip(given) {
                scales[axis] = scale;
                dims[axis] = (f64::from(scale) * shape[axis] as f64).floor() as usize;
            }
        }
        (_, Some(sizes)) if sizes.len() == axes.len() => {
            if call.string("keep_aspect_ratio_policy", "stretch")? != "stretch" {
                return Err(Fault::unsupported("resizing that keeps the aspect ratio"));
            }
            for (&axis, &size) in axes.iter().zip(&sizes) {
                dims[axis] = super::shape::dims(&[size])?[0];
                scales[axis] = dims[axis] as f32 / shape[axis] as f32;
            }
        }
        _ => return Err(Fault::invalid("neither scales nor sizes for the axes")),
    }
    let mut current = values.to_vec();
    let mut now = shape.to_vec();
    for axis in 0..rank {
        if now[axis] == dims[axis] && scales[axis] == 1.0 {
            continue;
        }
        let taps = taps(&options, shape[axis], dims[axis], scales[axis])?;
        let mut next = now.clone();
        next[axis] = dims[axis];
        current = sample(&current, &now, axis, &taps);
        now = next;
    }
    one(&now, current)
}

fn taps(options: &Options<'_>, from: usize, to: usize, scale: f32) -> Result<Taps, Fault> {
    if from == 0 {
        return Err(Fault::invalid("an axis without elements"));
    }
    let (length, resized) = (from as f32, to as f32);
    let source = |x: f32| -> Result<f32, Fault> {
        Ok(match options.transform {
            "half_pixel" => (x + 0.5) / scale - 0.5,
            "half_pixel_symmetric" => {
                let adjustment = resized / (scale * length);
                length / 2.0 * (1.0 - adjustment) + (x + 0.5) / scale - 0.5
            }
            "pytorch_half_pixel" if to > 1 => (x + 0.5) / scale - 0.5,
            "pytorch_half_pixel" => 0.0,
            "align_corners" if to > 1 => x * (length - 1.0) / (resized - 1.0),
            "align_corners" => 0.0,
            "asymmetric" => x / scale,
            other => {
                return Err(Fault::unsupported(format!(
                    "coordinate transformation {other}"
                )));
            }
        })
    };
    let last = from as i64 - 1;
    let bounded = |i: f32| (i as i64).clamp(0, last) as usize;
    (0..to)
        .map(|x| {
            let at = source(x as f32)?;
            if options.linear {
                let low = at.floor();
                let weight = at - low;
                return Ok(vec![
                    (bounded(low), 1.0 - weight),
                    (bounded(low + 1.0), weight),
                ]);
            }
            let nearest = match options.nearest {
                "round_prefer_floor" => (at - 0.5).ceil(),
                "round_prefer_ceil" => (at + 0.5).floor(),
                "floor" => at.floor(),
                "ceil" => at.ceil(),
                other => return Err(Fault::invalid(format!("nearest_mode {other}"))),
            };
            Ok(vec![(bounded(nearest), 1.0)])
        })
        .collect()
}

fn sample(values: &[f32], shape: &[usize], axis: usize, taps: &Taps) -> Vec<f32> {
    let inner = strides_of(shape)[axis];
    let outer: usize = shape[..axis].iter().product();
    let mut result = Vec::with_capacity(outer * taps.len() * inner);
    for o in 0..outer {
        for taps in taps {
            for i in 0..inner {
                let sum = taps
                    .iter()
                    .map(|&(at, weight)| weight * values[(o * shape[axis] + at) * inner + i]);
                result.push(sum.sum());
            }
        }
    }
    result
}
