//! Changing the size of images.

use campana_tensor::{ElementType, Tensor};

use super::Operator;
use super::call::{Call, Fault, axis_of, floats, one};
use super::indexing::strides_of;

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    match op_type {
        "Resize" | "Upsample" => Some(resize),
        _ => None,
    }
}

/// How one axis is sampled: for each output, its sources and their weights;
/// `None` where it lies outside and is extrapolated.
type Taps = Vec<Option<Vec<(usize, f32)>>>;

/// The weight of a source at a distance from where the output lies.
#[derive(Clone, Copy)]
enum Filter<'a> {
    Nearest(&'a str),
    Linear,
    /// Keys' cubic with this coefficient.
    Cubic(f32),
}

impl Filter<'_> {
    fn support(self) -> f32 {
        match self {
            Self::Nearest(_) => 0.0,
            Self::Linear => 1.0,
            Self::Cubic(_) => 2.0,
        }
    }

    /// # References
    ///
    /// R. Keys, Cubic convolution interpolation for digital image processing,
    /// 1981, doi:10.1109/TASSP.1981.1163711, equation 4.
    fn weight(self, distance: f32) -> f32 {
        let x = distance.abs();
        match self {
            Self::Nearest(_) => 1.0,
            Self::Linear => (1.0 - x).max(0.0),
            Self::Cubic(a) if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
            Self::Cubic(a) if x < 2.0 => ((x - 5.0) * x + 8.0) * x * a - 4.0 * a,
            Self::Cubic(_) => 0.0,
        }
    }
}

struct Options<'a> {
    transform: &'a str,
    filter: Filter<'a>,
    antialias: bool,
    exclude_outside: bool,
}

/// One axis: elements before and after, their ratio, and the part that is kept.
#[derive(Clone, Copy)]
struct Axis {
    from: usize,
    to: usize,
    scale: f32,
    roi: [f32; 2],
}

fn resize(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.floats(0)?;
    let rank = shape.len();
    // Opset 10 knows scales alone, and only this transformation.
    let old = call.node.op_type == "Upsample" || call.opset < 11;
    let filter = match call.string("mode", "nearest")? {
        "nearest" if old => Filter::Nearest("floor"),
        "nearest" => Filter::Nearest(call.string("nearest_mode", "round_prefer_floor")?),
        "linear" | "bilinear" => Filter::Linear,
        "cubic" => Filter::Cubic(call.float("cubic_coeff_a", -0.75)?),
        mode => return Err(Fault::unsupported(format!("resize mode {mode}"))),
    };
    let options = Options {
        transform: if old {
            "asymmetric"
        } else {
            call.string("coordinate_transformation_mode", "half_pixel")?
        },
        filter,
        antialias: call.int("antialias", 0)? != 0,
        exclude_outside: call.int("exclude_outside", 0)? != 0,
    };
    let mut axes: Vec<Axis> = shape
        .iter()
        .map(|&dim| Axis {
            from: dim,
            to: dim,
            scale: 1.0,
            roi: [0.0, 1.0],
        })
        .collect();
    let chosen: Vec<usize> = match call.ints("axes")? {
        Some(axes) => axes
            .iter()
            .map(|&axis| axis_of(axis, rank))
            .collect::<Result<_, _>>()?,
        None => (0..rank).collect(),
    };
    set_sizes(call, old, &chosen, &mut axes)?;
    if options.transform == "tf_crop_and_resize" {
        let roi = call.optional_floats(1)?.unwrap_or(&[]);
        if roi.len() != 2 * chosen.len() {
            return Err(Fault::invalid(format!(
                "{} numbers for the region of interest",
                roi.len()
            )));
        }
        for (i, &axis) in chosen.iter().enumerate() {
            axes[axis].roi = [roi[i], roi[chosen.len() + i]];
        }
    }
    let extrapolated = call.float("extrapolation_value", 0.0)?;
    let sizes: Vec<usize> = axes.iter().map(|axis| axis.to.max(axis.from)).collect();
    call.count(&sizes, ElementType::F32)?;
    let mut current = values.to_vec();
    let mut now = shape.to_vec();
    for (i, axis) in axes.into_iter().enumerate() {
        if axis.from == axis.to && axis.scale == 1.0 && axis.roi == [0.0, 1.0] {
            continue;
        }
        let taps = taps(&options, axis)?;
        current = sample(&current, &now, i, &taps, extrapolated);
        now[i] = axis.to;
    }
    one(&now, current)
}

/// Sizes and scales of the chosen axes, by whichever of them the node gives.
fn set_sizes(call: &Call<'_>, old: bool, chosen: &[usize], axes: &mut [Axis]) -> Result<(), Fault> {
    let scales = match call
        .optional(if old { 1 } else { 2 })
        .filter(|scales| !scales.is_empty())
    {
        Some(scales) => Some(floats(scales)?),
        None => call.float_list("scales")?,
    };
    let sizes = if old {
        None
    } else {
        call.optional_ints(3)?.filter(|sizes| !sizes.is_empty())
    };
    match (scales, sizes) {
        (Some(scales), _) if scales.len() == chosen.len() => {
            for (&axis, &scale) in chosen.iter().zip(scales) {
                let to = (f64::from(scale) * axes[axis].from as f64).floor() as usize;
                axes[axis] = Axis {
                    to,
                    scale,
                    ..axes[axis]
                };
            }
        }
        (_, Some(sizes)) if sizes.len() == chosen.len() => {
            let sizes = super::shape::dims(&sizes)?;
            let ratios = chosen
                .iter()
                .zip(&sizes)
                .map(|(&axis, &to)| to as f32 / axes[axis].from as f32);
            let common = match call.string("keep_aspect_ratio_policy", "stretch")? {
                "stretch" => None,
                "not_larger" => Some(ratios.fold(f32::INFINITY, f32::min)),
                "not_smaller" => Some(ratios.fold(0.0, f32::max)),
                other => return Err(Fault::invalid(format!("keep_aspect_ratio_policy {other}"))),
            };
            for (&axis, &size) in chosen.iter().zip(&sizes) {
                let from = axes[axis].from as f32;
                let to = common.map_or(size, |scale| (scale * from + 0.5).floor() as usize);
                axes[axis] = Axis {
                    to,
                    scale: common.unwrap_or(to as f32 / from),
                    ..axes[axis]
                };
            }
        }
        _ => return Err(Fault::invalid("neither scales nor sizes for the axes")),
    }
    Ok(())
}

fn taps(options: &Options<'_>, axis: Axis) -> Result<Taps, Fault> {
    let Axis {
        from,
        to,
        scale,
        roi: [start, end],
    } = axis;
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
            "tf_crop_and_resize" if to > 1 => {
                (start + x * (end - start) / (resized - 1.0)) * (length - 1.0)
            }
            "tf_crop_and_resize" => 0.5 * (start + end) * (length - 1.0),
            other => {
                return Err(Fault::unsupported(format!(
                    "coordinate transformation {other}"
                )));
            }
        })
    };
    let last = from as i64 - 1;
    let stretch = if options.antialias {
        scale.min(1.0)
    } else {
        1.0
    };
    (0..to)
        .map(|x| {
            let at = source(x as f32)?;
            if options.transform == "tf_crop_and_resize" && !(0.0..=length - 1.0).contains(&at) {
                return Ok(None);
            }
            if let Filter::Nearest(mode) = options.filter {
                let nearest = match mode {
                    "round_prefer_floor" => (at - 0.5).ceil(),
                    "round_prefer_ceil" => (at + 0.5).floor(),
                    "floor" => at.floor(),
                    "ceil" => at.ceil(),
                    other => return Err(Fault::invalid(format!("nearest_mode {other}"))),
                };
                return Ok(Some(vec![((nearest as i64).clamp(0, last) as usize, 1.0)]));
            }
            let reach = options.filter.support() / stretch;
            let places = (at - reach).ceil() as i64..=(at + reach).floor() as i64;
            let mut taps: Vec<(usize, f32)> = places
                .filter(|i| !options.exclude_outside || (0..=last).contains(i))
                .map(|i| {
                    (
                        i.clamp(0, last) as usize,
                        options.filter.weight((i as f32 - at) * stretch),
                    )
                })
                .collect();
            let sum: f32 = taps.iter().map(|(_, weight)| weight).sum();
            taps.iter_mut().for_each(|(_, weight)| *weight /= sum);
            Ok(Some(taps))
        })
        .collect()
}

fn sample(
    values: &[f32],
    shape: &[usize],
    axis: usize,
    taps: &Taps,
    extrapolated: f32,
) -> Vec<f32> {
    let inner = strides_of(shape)[axis];
    let outer: usize = shape[..axis].iter().product();
    let mut result = Vec::with_capacity(outer * taps.len() * inner);
    for o in 0..outer {
        for taps in taps {
            let Some(taps) = taps else {
                result.extend(std::iter::repeat_n(extrapolated, inner));
                continue;
            };
            for i in 0..inner {
                let value = |at: usize| values[(o * shape[axis] + at) * inner + i];
                result.push(taps.iter().map(|&(at, weight)| weight * value(at)).sum());
            }
        }
    }
    result
}
