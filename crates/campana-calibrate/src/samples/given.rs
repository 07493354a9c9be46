//! The user's arrays, cut into what the network takes in one run.
//!
//! The first axis of an array counts samples where the network leaves that of
//! its input open. An input of fixed extents beside such (the state of a
//! recurrent layer, an embedding) belongs to one run: its array is the same for
//! all runs, has the rows of all runs one after another, or one axis more that
//! counts runs; the network is then shown one sample a run.

use std::borrow::Cow;
use std::ops::Range;

use campana_ir::graph::{Dim, Value};
use campana_quantize::Error;
use campana_quantize::graph::unsupported;
use campana_tensor::{ElementType, Tensor, TensorData};
use half::{bf16, f16};

use super::shapes::Shapes;

/// The batches of each input, by its name.
pub(super) type InputBatches = Vec<(String, Vec<Tensor>)>;

/// How an input's array divides into runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The whole array in every run.
    Same,
    /// So many positions along an axis in each run.
    Rows { axis: usize, rows: usize },
    /// One position along an axis that the input does not have.
    Stacked,
}

impl Cut {
    /// Runs that an array has data for; `None` for any number. The last may
    /// have fewer rows where their number is open.
    fn runs(self, array: &Tensor, is_open: bool) -> Option<usize> {
        match self {
            Self::Same => None,
            Self::Rows { axis, rows } if is_open => Some(array.shape()[axis].div_ceil(rows)),
            Self::Rows { axis, rows } => Some(array.shape()[axis] / rows),
            Self::Stacked => array.shape().first().copied(),
        }
    }

    /// The part of an array for some runs.
    fn part(self, array: &Tensor, runs: Range<usize>) -> Option<Tensor> {
        match self {
            Self::Same => Some(array.clone()),
            Self::Rows { axis, rows } => {
                let extent = array.shape()[axis];
                let [start, end] = [runs.start, runs.end].map(|run| (run * rows).min(extent));
                rows_of(array, axis, std::slice::from_ref(&(start..end)))
            }
            Self::Stacked => {
                let (mut shape, data) =
                    rows_of(array, 0, std::slice::from_ref(&runs))?.into_parts();
                shape.remove(0);
                Tensor::new(shape, data)
            }
        }
    }

    /// The array with these runs alone, in their order.
    fn select(self, array: Tensor, runs: &[usize]) -> Option<Tensor> {
        let of = |rows: usize| -> Vec<Range<usize>> {
            let ranges = runs.iter().map(|run| run * rows..(run + 1) * rows);
            ranges.collect()
        };
        match self {
            Self::Same => Some(array),
            Self::Rows { axis, rows } => rows_of(&array, axis, &of(rows)),
            Self::Stacked => rows_of(&array, 0, &of(1)),
        }
    }
}

/// How all arrays divide into runs of the network.
struct Layout {
    cuts: Vec<Cut>,
    /// Samples in one run.
    batch: usize,
    runs: usize,
    /// Whether the last run may have fewer samples.
    is_open: bool,
}

impl Layout {
    fn of(inputs: &[Value], arrays: &[Cow<'_, Tensor>], len: usize) -> Result<Self, Error> {
        let mut shapes = Shapes::new(inputs, len);
        let mut is_open = inputs
            .iter()
            .any(|input| shapes.batch_axis(input).is_some());
        let pairs = || inputs.iter().zip(arrays);
        if pairs().any(|(input, array)| is_list_of_pairs(input, array, &shapes)) {
            return Ok(Self {
                cuts: inputs.iter().map(|_| Cut::Same).collect(),
                batch: 1,
                runs: 1,
                is_open: false,
            });
        }
        let is_single = |(input, array): (&Value, &Cow<'_, Tensor>)| {
            let single = shapes
                .batch_axis(input)
                .map(|axis| array.shape().get(axis) == Some(&1));
            is_stacked(input, array)
                || single.is_some_and(|single| single && !starts_with_batch(input))
        };
        if is_open && pairs().any(is_single) {
            shapes.batch = 1;
        }
        let cuts: Vec<Cut> = pairs()
            .map(|(input, array)| cut(input, array, &shapes))
            .collect::<Result<_, _>>()?;
        is_open &= shapes.batch > 1;
        if is_open {
            check_counts(inputs, arrays, &cuts)?;
        }
        let counted = cuts.iter().zip(arrays);
        let runs = counted.filter_map(|(cut, array)| cut.runs(array, is_open));
        Ok(Self {
            runs: runs.min().unwrap_or(1),
            batch: shapes.batch,
            cuts,
            is_open,
        })
    }
}

/// The user's arrays in batches of at most `len` samples, of each input by its
/// name, and the number of samples.
pub(super) fn given(
    inputs: &[Value],
    arrays: &[(String, Tensor)],
    len: usize,
) -> Result<(InputBatches, usize), Error> {
    let found = arrays_of(inputs, arrays)?;
    let layout = Layout::of(inputs, &found, len)?;
    if layout.runs == 0 {
        return Err(unsupported(format!(
            "the data are fewer samples than one batch of {}",
            layout.batch
        )));
    }
    let mut samples = layout.runs * layout.batch;
    let cut = inputs.iter().zip(&found).zip(&layout.cuts);
    let cut = cut.map(|((input, array), cut)| {
        if let (true, Cut::Rows { axis, .. }) = (layout.is_open, cut) {
            samples = samples.min(array.shape()[*axis]);
        }
        let parts = (0..layout.runs).map(|run| {
            cut.part(array, run..run + 1)
                .ok_or_else(|| not_cut(input, array))
        });
        let parts = parts.collect::<Result<Vec<_>, Error>>()?;
        Ok((input.name.clone(), parts))
    });
    let inputs = cut.collect::<Result<_, Error>>()?;
    Ok((inputs, samples))
}

/// At most `count` samples of the arrays, evenly spread.
pub(super) fn spread(
    inputs: &[Value],
    arrays: Vec<(String, Tensor)>,
    count: usize,
) -> Result<Vec<(String, Tensor)>, Error> {
    let layout = Layout::of(inputs, &arrays_of(inputs, &arrays)?, 1)?;
    let target = count.div_ceil(layout.batch).max(1);
    if layout.runs <= target {
        return Ok(arrays);
    }
    let runs: Vec<usize> = (0..target).map(|i| i * layout.runs / target).collect();
    let selected = inputs.iter().zip(layout.cuts).map(|(input, cut)| {
        let array = arrays.iter().find(|(name, _)| *name == input.name);
        let array = array.map(|(_, array)| array.clone());
        let array = array.ok_or_else(|| no_data(input, &arrays))?;
        let refusal = not_cut(input, &array);
        let selected = cut.select(array, &runs).ok_or(refusal)?;
        Ok((input.name.clone(), selected))
    });
    selected.collect()
}

/// Each input's array, in the float type that the input declares.
fn arrays_of<'a>(
    inputs: &[Value],
    arrays: &'a [(String, Tensor)],
) -> Result<Vec<Cow<'a, Tensor>>, Error> {
    let found = inputs.iter().map(|input| {
        let array = arrays.iter().find(|(name, _)| *name == input.name);
        let (_, array) = array.ok_or_else(|| no_data(input, arrays))?;
        let array = in_float_type_of(input, array);
        check_type(input, &array)?;
        check_finite(input, &array)?;
        Ok(array)
    });
    found.collect()
}

/// Refuses what is not finite: it would become the statistics of all samples.
fn check_finite(input: &Value, array: &Tensor) -> Result<(), Error> {
    let TensorData::F32(values) = array.data() else {
        return Ok(());
    };
    let Some(at) = values.iter().position(|value| !value.is_finite()) else {
        return Ok(());
    };
    let row: usize = array.shape().iter().skip(1).product();
    let (name, row) = (&input.name, at / row.max(1));
    Err(unsupported(format!(
        "the data for the input '{name}' are not finite: {} in row {row} of {}",
        values[at],
        array.shape().first().copied().unwrap_or(1)
    )))
}

/// Refuses arrays of different numbers of samples, where the network leaves that
/// open.
fn check_counts(inputs: &[Value], arrays: &[Cow<'_, Tensor>], cuts: &[Cut]) -> Result<(), Error> {
    let counts = inputs.iter().zip(arrays).zip(cuts);
    let mut counts = counts.filter_map(|((input, array), cut)| match cut {
        Cut::Rows { axis, .. } => Some((&input.name, array.shape()[*axis])),
        _ => None,
    });
    let Some((first, count)) = counts.next() else {
        return Ok(());
    };
    match counts.find(|(_, other)| *other != count) {
        None => Ok(()),
        Some((name, other)) => Err(unsupported(format!(
            "the data are {count} samples of '{first}' and {other} of '{name}'"
        ))),
    }
}

fn no_data(input: &Value, arrays: &[(String, Tensor)]) -> Error {
    let names: Vec<&str> = arrays.iter().map(|(name, _)| name.as_str()).collect();
    let (name, names) = (&input.name, names.join("', '"));
    unsupported(format!(
        "no data for the input '{name}' (there is '{names}')"
    ))
}

fn not_cut(input: &Value, array: &Tensor) -> Error {
    let (found, name) = (array.data().element_type(), &input.name);
    unsupported(format!("data of {found} for '{name}'"))
}

/// Whether an input's own first axis counts samples.
fn starts_with_batch(input: &Value) -> bool {
    let first = input.shape.as_ref().map(|dims| dims.first());
    matches!(first, None | Some(Some(Dim::Symbol(_))))
}

/// Whether an array has one axis more than its input, and fits it otherwise.
fn is_stacked(input: &Value, array: &Tensor) -> bool {
    let (Some(dims), Some((_, rest))) = (&input.shape, array.shape().split_first()) else {
        return false;
    };
    dims.len() == rest.len()
        && dims
            .iter()
            .zip(rest)
            .all(|(dim, &extent)| fits(dim, extent))
}

/// Whether an input is a list of fixed tuples, as the edges `[2, e]` of a graph, whose
/// length is no number of samples: then the first axis of no input is one.
fn is_list_of_pairs(input: &Value, array: &Tensor, shapes: &Shapes<'_>) -> bool {
    let Some([Dim::Fixed(first), rest @ ..]) = input.shape.as_deref() else {
        return false;
    };
    let is_open = |dim: &Dim| matches!(dim, Dim::Symbol(name) if !name.is_empty());
    *first > 1
        && rest.iter().any(is_open)
        && shapes.batch_axis(input).is_none()
        && array.shape().len() == rest.len() + 1
        && array.shape().first() == Some(first)
}

fn fits(dim: &Dim, extent: usize) -> bool {
    match dim {
        Dim::Fixed(fixed) => *fixed == extent,
        Dim::Symbol(_) => true,
    }
}

fn cut(input: &Value, array: &Tensor, shapes: &Shapes<'_>) -> Result<Cut, Error> {
    let extents = array.shape();
    let Some(dims) = &input.shape else {
        return Ok(match extents {
            [] => Cut::Same,
            _ => Cut::Rows {
                axis: 0,
                rows: shapes.batch,
            },
        });
    };
    if is_stacked(input, array) {
        return Ok(Cut::Stacked);
    }
    let axis = shapes.batch_axis(input).unwrap_or(0);
    let others_fit = dims
        .iter()
        .zip(extents)
        .enumerate()
        .all(|(at, (dim, &extent))| at == 0 || at == axis || fits(dim, extent));
    if dims.len() != extents.len() || !others_fit {
        return Err(other_shape(input, dims, extents));
    }
    Ok(match (dims.first(), extents.first()) {
        (Some(Dim::Symbol(_)), _) => Cut::Rows {
            axis: 0,
            rows: shapes.batch,
        },
        (Some(Dim::Fixed(rows)), Some(found)) if rows == found => match extents[axis] {
            more if axis > 0 && more > 1 => Cut::Rows {
                axis,
                rows: shapes.batch,
            },
            _ => Cut::Same,
        },
        // Those of all runs one after another, or too few for one.
        (Some(Dim::Fixed(rows)), Some(_)) => Cut::Rows {
            axis: 0,
            rows: (*rows).max(1),
        },
        _ => Cut::Same,
    })
}

fn other_shape(input: &Value, dims: &[Dim], found: &[usize]) -> Error {
    let dims: Vec<String> = dims.iter().map(ToString::to_string).collect();
    let (name, dims) = (&input.name, dims.join(", "));
    unsupported(format!(
        "the input '{name}' has the shape [{dims}], the data {found:?}"
    ))
}

/// The array in the float type that the input declares; arrays of other types
/// as they are.
fn in_float_type_of<'a>(input: &Value, array: &'a Tensor) -> Cow<'a, Tensor> {
    let declared = input.element_type.unwrap_or(array.data().element_type());
    let values: Option<Vec<f32>> = match array.data() {
        _ if declared == array.data().element_type() => None,
        _ if !declared.is_float() => None,
        TensorData::F32(values) => Some(values.clone()),
        TensorData::F64(values) => Some(values.iter().map(|&value| value as f32).collect()),
        TensorData::F16(values) => Some(values.iter().map(|value| value.to_f32()).collect()),
        TensorData::Bf16(values) => Some(values.iter().map(|value| value.to_f32()).collect()),
        _ => None,
    };
    values
        .and_then(|values| Tensor::new(array.shape().to_vec(), floats_as(declared, values)))
        .map_or(Cow::Borrowed(array), Cow::Owned)
}

/// Values in a float type; float32 for any other.
pub(super) fn floats_as(element_type: ElementType, values: Vec<f32>) -> TensorData {
    match element_type {
        ElementType::F16 => TensorData::F16(values.into_iter().map(f16::from_f32).collect()),
        ElementType::Bf16 => TensorData::Bf16(values.into_iter().map(bf16::from_f32).collect()),
        ElementType::F64 => TensorData::F64(values.into_iter().map(f64::from).collect()),
        _ => TensorData::F32(values),
    }
}

/// Refuses an array of elements that an input does not take.
fn check_type(input: &Value, array: &Tensor) -> Result<(), Error> {
    let (name, found) = (&input.name, array.data().element_type());
    match input.element_type {
        Some(declared) if declared != found => Err(unsupported(format!(
            "the input '{name}' is {declared}, the data are {found}"
        ))),
        _ => Ok(()),
    }
}

/// The array with some ranges along an axis, one after another.
fn rows_of(array: &Tensor, axis: usize, ranges: &[Range<usize>]) -> Option<Tensor> {
    let extent = *array.shape().get(axis)?;
    let outer: usize = array.shape()[..axis].iter().product();
    let inner: usize = array.shape()[axis + 1..].iter().product();
    let elements = || {
        (0..outer).flat_map(move |at| {
            let start = at * extent;
            ranges
                .iter()
                .map(move |range| (start + range.start) * inner..(start + range.end) * inner)
        })
    };
    if ranges.iter().any(|range| range.end > extent) {
        return None;
    }
    let data = match array.data() {
        TensorData::F32(values) => TensorData::F32(gather(values, elements())),
        TensorData::F64(values) => TensorData::F64(gather(values, elements())),
        TensorData::F16(values) => TensorData::F16(gather(values, elements())),
        TensorData::Bf16(values) => TensorData::Bf16(gather(values, elements())),
        TensorData::I64(values) => TensorData::I64(gather(values, elements())),
        TensorData::I32(values) => TensorData::I32(gather(values, elements())),
        TensorData::I8(values) => TensorData::I8(gather(values, elements())),
        TensorData::U8(values) => TensorData::U8(gather(values, elements())),
        TensorData::Bool(values) => TensorData::Bool(gather(values, elements())),
        _ => return None,
    };
    let mut shape = array.shape().to_vec();
    shape[axis] = ranges.iter().map(ExactSizeIterator::len).sum();
    Tensor::new(shape, data)
}

fn gather<T: Copy>(values: &[T], ranges: impl Iterator<Item = Range<usize>>) -> Vec<T> {
    ranges
        .flat_map(|range| values[range].iter().copied())
        .collect()
}
