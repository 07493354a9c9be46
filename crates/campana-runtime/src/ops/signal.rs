//! Fourier transforms, windows and mel filters.

use std::f64::consts::PI;

use campana_tensor::{ElementType, Tensor};

use super::Operator;
use super::call::{Call, Fault, axis_of, count_of, one_of};

pub(super) fn operator(op_type: &str) -> Option<Operator> {
    Some(match op_type {
        "DFT" => transform,
        "STFT" => short_time,
        "HannWindow" | "HammingWindow" | "BlackmanWindow" => window,
        "MelWeightMatrix" => mel_weights,
        _ => return None,
    })
}

/// A complex number.
type Complex = [f64; 2];

fn mul([a, b]: Complex, [c, d]: Complex) -> Complex {
    [a * c - b * d, a * d + b * c]
}

/// `sum over n of x[n] exp(sign 2 pi i n k / len)` for each k, with radix 2
/// where the length is a power of two and by its definition elsewhere.
///
/// # References
///
/// J. W. Cooley and J. W. Tukey, An algorithm for the machine calculation of
/// complex Fourier series, 1965, doi:10.1090/S0025-5718-1965-0178586-1.
fn fourier(x: &[Complex], sign: f64) -> Vec<Complex> {
    let len = x.len();
    if len <= 1 {
        return x.to_vec();
    }
    let root = |k: usize, len: usize| {
        let angle = sign * 2.0 * PI * (k % len) as f64 / len as f64;
        [angle.cos(), angle.sin()]
    };
    if !len.is_multiple_of(2) {
        let roots: Vec<Complex> = (0..len).map(|k| root(k, len)).collect();
        return (0..len)
            .map(|k| {
                x.iter().enumerate().fold([0.0; 2], |sum, (n, &value)| {
                    let term = mul(value, roots[n * k % len]);
                    [sum[0] + term[0], sum[1] + term[1]]
                })
            })
            .collect();
    }
    let part = |first: usize| x.iter().skip(first).step_by(2).copied().collect::<Vec<_>>();
    let (even, odd) = (fourier(&part(0), sign), fourier(&part(1), sign));
    let mut result = vec![[0.0; 2]; len];
    for k in 0..len / 2 {
        let turned = mul(odd[k], root(k, len));
        result[k] = [even[k][0] + turned[0], even[k][1] + turned[1]];
        result[k + len / 2] = [even[k][0] - turned[0], even[k][1] - turned[1]];
    }
    result
}

/// How a line of numbers is transformed.
#[derive(Clone, Copy)]
struct Transform {
    len: usize,
    inverse: bool,
    onesided: bool,
}

impl Transform {
    /// The transform of a line, cut or filled up with zeros to its length.
    fn run(self, mut line: Vec<Complex>) -> Vec<Complex> {
        if self.inverse && self.onesided {
            // The other half of a real signal's transform mirrors the first.
            line.resize(self.len / 2 + 1, [0.0; 2]);
            for k in line.len()..self.len {
                let [re, im] = line[self.len - k];
                line.push([re, -im]);
            }
        }
        line.resize(self.len, [0.0; 2]);
        let mut result = fourier(&line, if self.inverse { 1.0 } else { -1.0 });
        if self.inverse {
            let scale = 1.0 / self.len.max(1) as f64;
            result.iter_mut().flatten().for_each(|v| *v *= scale);
        } else if self.onesided {
            result.truncate(self.len / 2 + 1);
        }
        result
    }
}

/// The numbers of a tensor whose last axis is real, or real and imaginary.
fn complex(shape: &[usize], values: &[f64]) -> Result<Vec<Complex>, Fault> {
    match shape.last() {
        Some(1) => Ok(values.iter().map(|&v| [v, 0.0]).collect()),
        Some(2) => Ok(values.chunks_exact(2).map(|v| [v[0], v[1]]).collect()),
        _ => Err(Fault::invalid(format!("a signal of shape {shape:?}"))),
    }
}

/// Greatest length of a transform that is no mistake.
const MAX_LEN: i64 = 1 << 24;

fn transform(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.reals(0)?;
    let input = complex(shape, &values)?;
    let axis = match call.optional_int(2)? {
        Some(axis) => axis,
        None => call.int("axis", if call.opset < 20 { 1 } else { -2 })?,
    };
    let axis = axis_of(axis, shape.len())?;
    if axis + 1 == shape.len() {
        return Err(Fault::invalid("a transform along the complex axis"));
    }
    let inverse = call.int("inverse", 0)? != 0;
    let onesided = call.int("onesided", 0)? != 0;
    let default = match inverse && onesided {
        true => 2 * (shape[axis].max(1) as i64 - 1),
        false => shape[axis] as i64,
    };
    let len = call.optional_int(1)?.unwrap_or(default);
    if !(1..=MAX_LEN).contains(&len) {
        return Err(Fault::invalid(format!("a transform of length {len}")));
    }
    let transform = Transform {
        len: len as usize,
        inverse,
        onesided,
    };
    let result_len = match onesided && !inverse {
        true => transform.len / 2 + 1,
        false => transform.len,
    };
    let real = inverse && onesided;
    let mut dims = shape.to_vec();
    dims[axis] = result_len;
    dims[shape.len() - 1] = if real { 1 } else { 2 };
    let inner: usize = shape[axis + 1..shape.len() - 1].iter().product();
    let outer: usize = shape[..axis].iter().product();
    let mut output = vec![0.0; count_of(&dims)?];
    let parts = if real { 1 } else { 2 };
    for o in 0..outer {
        for i in 0..inner {
            call.check_interrupt()?;
            let at = |k: usize, len: usize| (o * len + k) * inner + i;
            let line = (0..shape[axis])
                .map(|k| input[at(k, shape[axis])])
                .collect();
            for (k, value) in transform.run(line).into_iter().enumerate() {
                let place = at(k, result_len) * parts;
                output[place..place + parts].copy_from_slice(&value[..parts]);
            }
        }
    }
    one_of(call.kind(0)?, &dims, output)
}

fn short_time(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (shape, values) = call.reals(0)?;
    // Real signals may leave the last axis out.
    let (batch, steps, signal) = match *shape {
        [batch, steps] => (batch, steps, complex(&[1], &values)?),
        [batch, steps, _] => (batch, steps, complex(shape, &values)?),
        _ => return Err(Fault::invalid(format!("a signal of shape {shape:?}"))),
    };
    let hop = call.optional_int(1)?.unwrap_or(0);
    let weights = call.optional_reals(2)?;
    let given = match &weights {
        Some(weights) => weights.len() as i64,
        None => steps as i64,
    };
    let len = call.optional_int(3)?.unwrap_or(given);
    if hop < 1 || !(1..=MAX_LEN).contains(&len) || len as usize > steps {
        return Err(Fault::invalid(format!(
            "frames of {len} every {hop} of a signal of {steps}"
        )));
    }
    let (hop, len) = (hop as usize, len as usize);
    if weights.as_ref().is_some_and(|w| w.len() > len) {
        return Err(Fault::invalid("a window longer than its frame"));
    }
    let transform = Transform {
        len,
        inverse: false,
        onesided: call.int("onesided", 1)? != 0,
    };
    let bins = if transform.onesided { len / 2 + 1 } else { len };
    let frames = (steps - len) / hop + 1;
    let dims = [batch, frames, bins, 2];
    let mut output = Vec::with_capacity(count_of(&dims)?);
    for n in 0..batch {
        for frame in 0..frames {
            call.check_interrupt()?;
            let mut line = signal[n * steps + frame * hop..][..len].to_vec();
            if let Some(weights) = &weights {
                for (i, value) in line.iter_mut().enumerate() {
                    let weight = weights.get(i).copied().unwrap_or(0.0);
                    *value = value.map(|v| v * weight);
                }
            }
            output.extend(transform.run(line).into_iter().flatten());
        }
    }
    one_of(call.kind(0)?, &dims, output)
}

/// The element type that an attribute asks for, float32 where it is left out.
fn output_type(call: &Call<'_>) -> Result<ElementType, Fault> {
    Ok(ElementType::from_onnx(
        call.int("output_datatype", 1)? as i32
    ))
}

fn size(call: &Call<'_>, index: usize) -> Result<usize, Fault> {
    let value = call
        .optional_int(index)?
        .ok_or_else(|| Fault::invalid(format!("input {index} is missing")))?;
    usize::try_from(value).map_err(|_| Fault::invalid(format!("a size of {value}")))
}

fn window(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let len = size(call, 0)?;
    let kind = output_type(call)?;
    call.count(&[len], kind)?;
    let steps = match call.int("periodic", 1)? {
        0 => len.saturating_sub(1),
        _ => len,
    };
    // Of cos(0), cos(x) and cos(2 x).
    let [a, b, c] = match call.node.op_type.as_str() {
        "HannWindow" => [0.5, -0.5, 0.0],
        "HammingWindow" => [25.0 / 46.0, -21.0 / 46.0, 0.0],
        _ => [0.42, -0.5, 0.08],
    };
    let value = |i: usize| {
        let x = 2.0 * PI * i as f64 / steps.max(1) as f64;
        a + b * x.cos() + c * (2.0 * x).cos()
    };
    one_of(kind, &[len], (0..len).map(value).collect())
}

fn mel_weights(call: &Call<'_>) -> Result<Vec<Tensor>, Fault> {
    let (filters, len) = (size(call, 0)?, size(call, 1)?);
    let rate = size(call, 2)? as f64;
    let edge = |index| -> Result<f64, Fault> {
        let values = call.reals(index)?.1;
        values
            .first()
            .copied()
            .ok_or_else(|| Fault::invalid(format!("input {index} is empty")))
    };
    let (low, high) = (edge(3)?, edge(4)?);
    let kind = output_type(call)?;
    let bins = len / 2 + 1;
    let count = call.count(&[bins, filters], kind)?;
    call.count(&[filters.saturating_add(2)], ElementType::F64)?;
    let mel = |hertz: f64| 2595.0 * (hertz / 700.0).ln_1p() / 10f64.ln();
    let step = (mel(high) - mel(low)) / (filters + 2) as f64;
    let edges: Vec<usize> = (0..filters + 2)
        .map(|i| {
            let mel = i as f64 * step + mel(low);
            let hertz = 700.0 * (mel / 2595.0 * 10f64.ln()).exp_m1();
            ((len + 1) as f64 * hertz / rate).floor().max(0.0) as usize
        })
        .collect();
    if edges.iter().any(|&edge| edge >= bins.max(1)) {
        return Err(Fault::invalid(format!(
            "filters up to {high} Hz for {bins} bins at {rate} Hz"
        )));
    }
    let mut output = vec![0.0; count];
    for (i, edges) in edges.windows(3).enumerate() {
        let &[left, center, right] = edges else {
            continue;
        };
        if left == center {
            output[center * filters + i] = 1.0;
        }
        for j in left..=center.max(left) {
            if center > left {
                output[j * filters + i] = (j - left) as f64 / (center - left) as f64;
            }
        }
        for j in center..right {
            output[j * filters + i] = (right - j) as f64 / (right - center) as f64;
        }
    }
    one_of(kind, &[bins, filters], output)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Greatest difference from the definition that rounding may leave.
    const MAX_ERROR: f64 = 1e-12;

    #[test]
    fn a_transform_and_its_inverse_give_the_signal_back() {
        for len in [1, 2, 3, 8, 12, 15] {
            let line: Vec<Complex> = (0..len).map(|i| [(i * i % 7) as f64, i as f64]).collect();
            let [forward, back] = [false, true].map(|inverse| Transform {
                len,
                inverse,
                onesided: false,
            });
            let result = back.run(forward.run(line.clone()));
            for (a, b) in result.iter().flatten().zip(line.iter().flatten()) {
                assert!((a - b).abs() < MAX_ERROR * len as f64, "{a} {b}");
            }
        }
    }
}
