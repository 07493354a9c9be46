//! Windows over images of any number of axes: what convolutions and pools of
//! one and three axes are computed with.

use campana_tensor::{ElementType, Tensor, TensorData};

use super::Operator;
use super::call::{Call, Fault, count_of, extent, one_of, tensor};
use super::indexing::strides_of;

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "MaxPool" | "AveragePool" | "LpPool" => pool,
        "GlobalLpPool" => global_lp_pool,
        "MaxUnpool" => max_unpool,
        "Col2Im" => columns_to_image,
        _ => return None,
    })
}

/// Windows sliding over an image, one entry for each spatial axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Windows {
    pub(super) window: Vec<usize>,
    pub(super) strides: Vec<usize>,
    pub(super) dilations: Vec<usize>,
    pub(super) begin: Vec<usize>,
    pub(super) end: Vec<usize>,
    pub(super) input: Vec<usize>,
    pub(super) output: Vec<usize>,
}

/// Checks the attributes of windows that no input can make valid.
pub(crate) fn check_attributes(call: &Call<'_>) -> Result<(), Fault> {
    for name in ["strides", "dilations", "kernel_shape"] {
        let given = call.ints(name)?.unwrap_or(&[]);
        if given
            .iter()
            .any(|&value| value < 1 || extent(value).is_err())
        {
            return Err(Fault::invalid(format!("attribute {name} is {given:?}")));
        }
    }
    let groups = call.int("group", 1)?;
    if groups < 1 || extent(groups).is_err() {
        return Err(Fault::invalid(format!("attribute group is {groups}")));
    }
    Ok(())
}

/// A positive number for each axis from an attribute that may be left out.
pub(super) fn per_axis(call: &Call<'_>, name: &str, rank: usize) -> Result<Vec<usize>, Fault> {
    let Some(given) = call.ints(name)? else {
        return Ok(vec![1; rank]);
    };
    if given.len() != rank || given.iter().any(|&v| v < 1) {
        return Err(Fault::invalid(format!("attribute {name} is {given:?}")));
    }
    given.iter().map(|&v| extent(v)).collect()
}

/// The attribute `pads`: before and after each axis.
pub(super) fn pads(call: &Call<'_>, rank: usize) -> Result<[Vec<usize>; 2], Fault> {
    let Some(given) = call.ints("pads")? else {
        return Ok([vec![0; rank], vec![0; rank]]);
    };
    if given.len() != 2 * rank {
        return Err(Fault::invalid(format!("attribute pads is {given:?}")));
    }
    if given.iter().any(|&v| v < 0) {
        return Err(Fault::unsupported(format!("negative pads {given:?}")));
    }
    let side = |values: &[i64]| values.iter().map(|&v| extent(v)).collect::<Result<_, _>>();
    Ok([side(&given[..rank])?, side(&given[rank..])?])
}

impl Windows {
    /// Where windows lie over the spatial extents `input`, by the node's attributes.
    pub(super) fn of(
        call: &Call<'_>,
        input: &[usize],
        window: Vec<usize>,
        ceil: bool,
    ) -> Result<Self, Fault> {
        let rank = input.len();
        let strides = per_axis(call, "strides", rank)?;
        let dilations = per_axis(call, "dilations", rank)?;
        let mode = call.string("auto_pad", "NOTSET")?;
        let [mut begin, mut end] = match mode {
            "NOTSET" => pads(call, rank)?,
            "VALID" | "SAME_UPPER" | "SAME_LOWER" => [vec![0; rank], vec![0; rank]],
            other => return Err(Fault::invalid(format!("auto_pad {other}"))),
        };
        let mut output = Vec::with_capacity(rank);
        for a in 0..rank {
            let reach = (window[a].max(1) - 1)
                .checked_mul(dilations[a])
                .and_then(|reach| reach.checked_add(1))
                .filter(|_| window[a] > 0)
                .ok_or_else(|| Fault::invalid(format!("a window of {}", window[a])))?;
            if mode.starts_with("SAME") {
                let count = input[a].div_ceil(strides[a]);
                let total = (count.saturating_sub(1) * strides[a] + reach).saturating_sub(input[a]);
                begin[a] = if mode == "SAME_UPPER" {
                    total / 2
                } else {
                    total.div_ceil(2)
                };
                end[a] = total - begin[a];
            }
            let padded = begin[a] + input[a] + end[a];
            let last = padded.checked_sub(reach).ok_or_else(|| {
                Fault::invalid(format!("a window of {reach} over {padded} elements"))
            })?;
            let mut count = match ceil {
                true => last.div_ceil(strides[a]),
                false => last / strides[a],
            } + 1;
            // A window that starts beyond the image and its padding before it does not count.
            if ceil && (count - 1) * strides[a] >= input[a] + begin[a] {
                count -= 1;
            }
            output.push(count);
        }
        count_of(&output)?;
        Ok(Self {
            window,
            strides,
            dilations,
            begin,
            end,
            input: input.to_vec(),
            output,
        })
    }

    /// For each tap of the window at this output position: its place in the
    /// image; `None` in the padding, nothing where it is beyond that too.
    pub(super) fn taps(&self, position: &[usize], mut visit: impl FnMut(Option<usize>)) {
        let strides = strides_of(&self.input);
        let mut tap = vec![0; self.window.len()];
        loop {
            let mut place = Some(0);
            let mut in_padded = true;
            for a in 0..tap.len() {
                let at = position[a] * self.strides[a] + tap[a] * self.dilations[a];
                in_padded &= at < self.begin[a] + self.input[a] + self.end[a];
                let at = at
                    .checked_sub(self.begin[a])
                    .filter(|&at| at < self.input[a]);
                place = place.zip(at).map(|(place, at)| place + at * strides[a]);
            }
            if in_padded {
                visit(place);
            }
            if !advance(&mut tap, &self.window) {
                return;
            }
        }
    }
}

/// The next index, row-major; false after the last.
pub(super) fn advance(index: &mut [usize], dims: &[usize]) -> bool {
    for axis in (0..index.len()).rev() {
        index[axis] += 1;
        if index[axis] < dims[axis] {
            return true;
        }
        index[axis] = 0;
    }
    false
}

/// The attribute `kernel_shape`.
fn kernel_shape(call: &Call<'_>, rank: usize) -> Result<Vec<usize>, Fault> {
    match call.ints("kernel_shape")? {
        Some(given) if given.len() == rank && given.iter().all(|&v| v > 0) => {
            given.iter().map(|&v| extent(v)).collect()
        }
        other => Err(Fault::invalid(format!(
            "attribute kernel_shape is {other:?} for {rank} axes"
        ))),
    }
}

/// What one window gives: from its values and the taps that count.
enum Pooling {
    Max,
    Average { with_padding: bool },
    Norm(f64),
}

impl Pooling {
    fn of(call: &Call<'_>) -> Result<Self, Fault> {
        Ok(match call.node.op_type.as_str() {
            "MaxPool" => Self::Max,
            "LpPool" => Self::Norm(call.int("p", 2)? as f64),
            _ => Self::Average {
                with_padding: call.int("count_include_pad", 0)? != 0,
            },
        })
    }
}

/// A number and the place of its window's maximum.
fn pool_window(
    pooling: &Pooling,
    windows: &Windows,
    position: &[usize],
    plane: &[f64],
) -> (f64, usize) {
    let (mut max, mut place, mut sum, mut inside, mut counted) =
        (f64::NEG_INFINITY, 0, 0.0, 0usize, 0usize);
    windows.taps(position, |at| {
        counted += 1;
        let Some(at) = at else { return };
        inside += 1;
        let value = plane[at];
        if value > max || value.is_nan() {
            (max, place) = (value, at);
        }
        sum += match pooling {
            Pooling::Norm(p) => value.abs().powf(*p),
            _ => value,
        };
    });
    let value = match pooling {
        Pooling::Max => max,
        Pooling::Norm(p) => sum.powf(1.0 / p),
        Pooling::Average { with_padding } => {
            sum / if *with_padding { counted } else { inside }.max(1) as f64
        }
    };
    (value, place)
}

/// A place in an image with its axes the other way round.
fn column_major(place: usize, dims: &[usize]) -> usize {
    let strides = strides_of(dims);
    let (mut result, mut stride) = (0, 1);
    for a in 0..dims.len() {
        result += place / strides[a] % dims[a] * stride;
        stride *= dims[a];
    }
    result
}

fn pool(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.reals(0)?;
    if shape.len() < 3 {
        return Err(Fault::invalid(format!("an image of shape {shape:?}")));
    }
    let spatial = &shape[2..];
    let window = kernel_shape(call, spatial.len())?;
    let windows = Windows::of(call, spatial, window, call.int("ceil_mode", 0)? != 0)?;
    let pooling = Pooling::of(call)?;
    let turned = call.int("storage_order", 0)? != 0;
    let mut dims = shape[..2].to_vec();
    dims.extend_from_slice(&windows.output);
    let count = call.count(&dims, ElementType::F64)?;
    let len: usize = spatial.iter().product();
    let (mut output, mut places) = (Vec::with_capacity(count), Vec::new());
    let is_empty = windows.output.contains(&0);
    for plane in (0..shape[0] * shape[1]).filter(|_| !is_empty) {
        let image = &values[plane * len..][..len];
        let mut position = vec![0; spatial.len()];
        loop {
            if position.last() == Some(&0) {
                call.check_interrupt()?;
            }
            let (value, place) = pool_window(&pooling, &windows, &position, image);
            output.push(value);
            let place = if turned {
                column_major(place, spatial)
            } else {
                place
            };
            places.push((plane * len + place) as i64);
            if !advance(&mut position, &windows.output) {
                break;
            }
        }
    }
    let mut outputs = one_of(call.kind(0)?, &dims, output)?;
    if call.node.outputs.len() > 1 {
        outputs.push(tensor(dims, TensorData::I64(places))?);
    }
    Ok(outputs)
}

fn global_lp_pool(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.reals(0)?;
    let p = call.int("p", 2)? as f64;
    let len: usize = shape.iter().skip(2).product();
    if shape.len() < 2 || len == 0 {
        return Err(Fault::invalid(format!("an image of shape {shape:?}")));
    }
    let mut dims = vec![1; shape.len()];
    dims[..2].copy_from_slice(&shape[..2]);
    let norm = |plane: &[f64]| {
        let sum: f64 = plane.iter().map(|v| v.abs().powf(p)).sum();
        sum.powf(1.0 / p)
    };
    one_of(
        call.kind(0)?,
        &dims,
        values.chunks_exact(len).map(norm).collect(),
    )
}

fn max_unpool(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.reals(0)?;
    let rank = shape.len().saturating_sub(2);
    let window = kernel_shape(call, rank)?;
    let strides = per_axis(call, "strides", rank)?;
    let [begin, end] = pads(call, rank)?;
    let mut inferred = shape[..2].to_vec();
    for a in 0..rank {
        let size = (shape[a + 2].max(1) - 1) * strides[a] + window[a];
        inferred.push(size.saturating_sub(begin[a] + end[a]));
    }
    let dims = match call.optional_ints(2)? {
        Some(dims) => super::shape::dims(&dims)?,
        None => inferred.clone(),
    };
    if dims.len() != shape.len() || dims.iter().zip(&inferred).any(|(a, b)| a < b) {
        return Err(Fault::invalid(format!(
            "{inferred:?} unpooled into {dims:?}"
        )));
    }
    let mut output = vec![0.0; count_of(&dims)?];
    let (from, to) = (strides_of(&inferred), strides_of(&dims));
    let count = count_of(&inferred)?;
    let places = call.optional_ints(1)?.unwrap_or_default();
    for (value, place) in values.iter().zip(places) {
        let place = usize::try_from(place).ok().filter(|&place| place < count);
        let place = place.ok_or_else(|| Fault::invalid("an index beyond the output"))?;
        let at: usize = (0..dims.len())
            .map(|a| place / from[a] % inferred[a] * to[a])
            .sum();
        output[at] = *value;
    }
    one_of(call.kind(0)?, &dims, output)
}

fn columns_to_image(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.reals(0)?;
    let missing = || Fault::invalid("the image's or the block's shape is missing");
    let image = super::shape::dims(&call.optional_ints(1)?.ok_or_else(missing)?)?;
    let block = super::shape::dims(&call.optional_ints(2)?.ok_or_else(missing)?)?;
    if block.len() != image.len() {
        return Err(Fault::invalid(format!(
            "blocks {block:?} of an image {image:?}"
        )));
    }
    let block_len = count_of(&block)?;
    let windows = Windows::of(call, &image, block, false)?;
    let positions: usize = windows.output.iter().product();
    let &[batch, rows, columns] = shape else {
        return Err(Fault::invalid(format!("columns of shape {shape:?}")));
    };
    if block_len == 0 || !rows.is_multiple_of(block_len) || columns != positions {
        return Err(Fault::invalid(format!(
            "columns {shape:?} for {positions} blocks of {block_len}"
        )));
    }
    let channels = rows / block_len;
    let mut dims = vec![batch, channels];
    dims.extend_from_slice(&image);
    let mut output = vec![0.0; count_of(&dims)?];
    let len: usize = image.iter().product();
    for plane in 0..batch * channels {
        let target = &mut output[plane * len..][..len];
        let mut position = vec![0; image.len()];
        for column in 0..positions {
            let mut row = 0;
            windows.taps(&position, |at| {
                if let Some(at) = at {
                    target[at] += values[(plane * block_len + row) * columns + column];
                }
                row += 1;
            });
            advance(&mut position, &windows.output);
        }
    }
    one_of(call.kind(0)?, &dims, output)
}
