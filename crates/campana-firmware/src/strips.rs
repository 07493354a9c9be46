//! Layers that run in strips of rows, so that less of what is between them is in
//! memory at a time.
//!
//! A chain of layers, each of which reads what the one before wrote, runs from its
//! first to its last layer for some rows of the result, then for the next. Rows
//! that two strips need of what is between are computed twice. A strip of a layer
//! is the layer on a smaller image: with the rows that it needs, and a border only
//! where the image ends.

use std::ops::Range;

use campana_runtime::integer::{Extents, Value};

use crate::error::Refusal;
use crate::layer::{Kernel, Layer, packed_product};

/// Strips that are tried.
const STRIPS: [usize; 5] = [2, 4, 8, 16, 28];

/// Layers of a chain, at most.
const MAX_CHAIN: usize = 9;

/// Layers to run in strips of rows of the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) first: usize,
    pub(crate) last: usize,
    pub(crate) strips: usize,
}

/// Layers with a segment in strips, and the values with those between.
#[derive(Debug)]
pub(crate) struct Split {
    pub(crate) layers: Vec<Layer>,
    pub(crate) values: Vec<Value>,
}

impl Segment {
    /// Whether layers are part of both.
    pub(crate) fn meets(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

/// Chains that hold this layer, in every number of strips.
pub(crate) fn segments(layers: &[Layer], outputs: &[usize], at: usize) -> Vec<Segment> {
    let mut found = Vec::new();
    for first in (0..=at).rev() {
        if at - first >= MAX_CHAIN || !is_link(layers, first) {
            break;
        }
        for last in first + 1..(first + MAX_CHAIN).min(layers.len()) {
            if !follows(layers, outputs, first, last) {
                break;
            }
            if last >= at {
                found.extend(STRIPS.map(|strips| Segment {
                    first,
                    last,
                    strips,
                }));
            }
        }
    }
    found
}

/// Where windows of a layer lie, where it can run in strips.
fn extents(layer: &Layer) -> Option<Extents> {
    match &layer.kernel {
        Kernel::Product(packed) => Some(packed.product.extents),
        _ => None,
    }
    .filter(|extents| extents.batch == 1)
}

fn is_link(layers: &[Layer], at: usize) -> bool {
    extents(&layers[at]).is_some() && layers[at].strip.is_none()
}

/// Whether a layer reads what the one before it writes, and is alone in that.
fn follows(layers: &[Layer], outputs: &[usize], first: usize, at: usize) -> bool {
    let written = layers[at - 1].writes;
    let readers = layers.iter().filter(|layer| layer.reads.contains(&written));
    // Residuals must be there before the chain begins.
    let residual = layers[at].reads.get(1);
    let is_before = |value: &usize| !layers[first..at].iter().any(|l| l.writes == *value);
    is_link(layers, at)
        && layers[at].reads.first() == Some(&written)
        && readers.count() == 1
        && residual.is_none_or(is_before)
        && !outputs.contains(&written)
}

/// The layers with a segment in strips; `None` where it has no strips.
///
/// # Errors
///
/// Where a strip has no kernel.
pub(crate) fn split(
    layers: &[Layer],
    values: &[Value],
    segment: Segment,
) -> Result<Option<Split>, Refusal> {
    let chain = &layers[segment.first..=segment.last];
    let all: Option<Vec<Extents>> = chain.iter().map(extents).collect();
    let Some(all) = all else { return Ok(None) };
    let height = all.last().map_or(0, |last| last.output[0]);
    let rows_at_once = height.div_ceil(segment.strips);
    if rows_at_once == 0 || rows_at_once >= height {
        return Ok(None);
    }
    let mut split = layers[..segment.first].to_vec();
    let mut values = values.to_vec();
    for start in (0..height).step_by(rows_at_once) {
        let mut rows = start..(start + rows_at_once).min(height);
        // From the last layer to the first: the rows of each one's output.
        let mut needed = vec![0..0; chain.len()];
        for (own, extents) in needed.iter_mut().zip(&all).rev() {
            own.clone_from(&rows);
            rows = input_rows(extents, &rows);
        }
        let mut from = None;
        for (at, (layer, rows)) in chain.iter().zip(&needed).enumerate() {
            let mut strip = strip_of(layer, &all[at], rows)?;
            if let Some(value) = from {
                strip.reads[0] = value;
                strip.read_offsets[0] = 0;
            }
            if at + 1 < chain.len() {
                strip.writes = values.len();
                strip.write_offset = 0;
                let extents = &all[at];
                let whole = &values[layer.writes];
                let width = extents.output[1];
                values.push(Value {
                    name: String::new(),
                    shape: vec![
                        1,
                        whole.len() / (extents.output[0] * width),
                        rows.len(),
                        width,
                    ],
                    ..whole.clone()
                });
                from = Some(strip.writes);
            }
            split.push(strip);
        }
    }
    split.extend_from_slice(&layers[segment.last + 1..]);
    Ok(Some(Split {
        layers: split,
        values,
    }))
}

/// The rows of an input under rows of an output.
fn input_rows(extents: &Extents, rows: &Range<usize>) -> Range<usize> {
    let (stride, pad) = (extents.strides[0], extents.pads_begin[0]);
    let reach = (extents.window[0] - 1) * extents.dilations[0] + 1;
    let start = (rows.start * stride).saturating_sub(pad);
    let end = ((rows.end - 1) * stride + reach).saturating_sub(pad);
    let end = end.min(extents.input[0]);
    start.min(end)..end
}

/// A layer for some rows of its output.
fn strip_of(layer: &Layer, extents: &Extents, rows: &Range<usize>) -> Result<Layer, Refusal> {
    let Kernel::Product(packed) = &layer.kernel else {
        return Ok(layer.clone());
    };
    let input = input_rows(extents, rows);
    let mut product = packed.product.clone();
    product.extents.input[0] = input.len();
    product.extents.output[0] = rows.len();
    product.extents.pads_begin[0] =
        (extents.pads_begin[0] + input.start).saturating_sub(rows.start * extents.strides[0]);
    let row = |width: usize, channels: usize| width * channels;
    let output_row = row(extents.output[1], product.filters);
    let mut read_offsets = vec![input.start * row(extents.input[1], extents.channels)];
    read_offsets.extend(layer.reads.iter().skip(1).map(|_| rows.start * output_row));
    let bytes = if packed.gives_floats {
        size_of::<f32>()
    } else {
        1
    };
    let multiply_accumulates = product.multiply_accumulates();
    let packed = packed_product(product, packed.gives_floats)?;
    Ok(Layer {
        read_offsets,
        write_offset: rows.start * output_row * bytes,
        scratch_bytes: packed.scratch_bytes(),
        multiply_accumulates,
        strip: Some(rows.start),
        kernel: Kernel::Product(packed.into()),
        ..layer.clone()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extents(pad: usize, stride: usize) -> Extents {
        Extents {
            batch: 1,
            channels: 1,
            input: [10, 10],
            output: [(10 + 2 * pad - 3) / stride + 1, 10],
            window: [3, 3],
            strides: [stride, 1],
            dilations: [1, 1],
            pads_begin: [pad, 1],
        }
    }

    #[test]
    fn strips_read_the_rows_under_their_windows() {
        assert_eq!(input_rows(&extents(1, 1), &(0..3)), 0..4);
        assert_eq!(input_rows(&extents(1, 1), &(3..6)), 2..7);
        assert_eq!(input_rows(&extents(1, 1), &(9..10)), 8..10);
        assert_eq!(input_rows(&extents(1, 2), &(1..3)), 1..6);
        assert_eq!(input_rows(&extents(0, 2), &(1..3)), 2..7);
    }
}
