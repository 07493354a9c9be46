//! What one operator of a decoder makes of its inputs.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use campana_codebook::{Packing, Storage, VectorCodes, look_up_rows};
use campana_tensor::{ElementType, Tensor, TensorData};

use super::form::{Bytes, Codes, Floats, Form, Ints, Weights};
use super::groups::broadcasts_to;
use crate::graph::{Attribute, Node};

/// Codes that a stored byte can hold.
const MAX_CODES_PER_BYTE: usize = 8;

/// The result of an operator; `None` where it is no part of a decoder.
pub(super) fn evaluate<'g>(
    node: &'g Node,
    constants: &'g BTreeMap<String, Tensor>,
    forms: &HashMap<&str, Form<'g>>,
) -> Option<Form<'g>> {
    let inputs = Inputs {
        node,
        constants,
        forms,
    };
    match node.op_type.as_str() {
        "Cast" => cast(&inputs),
        "Gather" => gather(&inputs),
        "Reshape" => reshape(&inputs),
        "Slice" => slice(&inputs),
        "Mul" => multiply(&inputs),
        "Add" => add(&inputs),
        "ReduceSum" => reduce_sum(&inputs),
        "DequantizeLinear" => dequantize(&inputs),
        _ => None,
    }
}

/// The inputs and attributes of a node.
struct Inputs<'a, 'g> {
    node: &'g Node,
    constants: &'g BTreeMap<String, Tensor>,
    forms: &'a HashMap<&'a str, Form<'g>>,
}

impl<'g> Inputs<'_, 'g> {
    fn name(&self, index: usize) -> Option<&'g str> {
        let name = self.node.inputs.get(index)?;
        (!name.is_empty()).then_some(name)
    }

    /// An input that a decoder computes or that is stored.
    fn form(&self, index: usize) -> Option<Form<'g>> {
        let name = self.name(index)?;
        match self.forms.get(name) {
            Some(form) => Some(form.clone()),
            None => from_constant(self.constants.get(name)?),
        }
    }

    /// A stored list of whole numbers.
    fn int_list(&self, index: usize) -> Option<&'g [i64]> {
        match self.constants.get(self.name(index)?)?.data() {
            TensorData::I64(values) => Some(values),
            _ => None,
        }
    }

    fn int(&self, attribute: &str, default: i64) -> Option<i64> {
        match self.node.attributes.get(attribute) {
            None => Some(default),
            Some(Attribute::Int(value)) => Some(*value),
            Some(_) => None,
        }
    }

    fn ints(&self, attribute: &str) -> Option<&'g [i64]> {
        match self.node.attributes.get(attribute)? {
            Attribute::Ints(values) => Some(values),
            _ => None,
        }
    }
}

/// A stored tensor that decoders compute with as it is.
fn from_constant(tensor: &Tensor) -> Option<Form<'static>> {
    let dims = tensor.shape().to_vec();
    match tensor.data() {
        TensorData::F32(values) => Some(floats(dims, values.clone(), Storage::F32)),
        TensorData::I8(values) => Some(integer_levels(dims, values)),
        TensorData::I32(values) => Some(Form::Ints(Ints {
            dims,
            values: values.iter().map(|&value| value.into()).collect(),
        })),
        TensorData::I64(values) => Some(Form::Ints(Ints {
            dims,
            values: values.clone(),
        })),
        _ => None,
    }
}

fn floats(dims: Vec<usize>, values: Vec<f32>, storage: Storage) -> Form<'static> {
    Form::Floats(Floats {
        dims,
        values,
        storage,
        unit: None,
        integer: false,
    })
}

/// Levels that the graph has as integers.
fn integer_levels(dims: Vec<usize>, values: &[i8]) -> Form<'static> {
    Form::Floats(Floats {
        dims,
        values: values.iter().map(|&value| value.into()).collect(),
        storage: Storage::I8,
        unit: None,
        integer: true,
    })
}

fn cast<'g>(inputs: &Inputs<'_, 'g>) -> Option<Form<'g>> {
    let to = ElementType::from_onnx(i32::try_from(inputs.int("to", 0)?).ok()?);
    let to_int = matches!(to, ElementType::I32 | ElementType::I64);
    match inputs.form(0) {
        Some(Form::Bytes(bytes)) => return to_int.then_some(Form::Bytes(bytes)),
        // Levels with a term for each group fit 8 bits again.
        Some(Form::Weights(weights)) => {
            let stays = weights.integer && (to_int || to == ElementType::I8);
            return stays.then_some(Form::Weights(weights));
        }
        _ => {}
    }
    let name = inputs.name(0)?;
    let tensor = inputs.constants.get(name)?;
    let dims = tensor.shape().to_vec();
    match tensor.data() {
        TensorData::U8(values) if to_int => Some(Form::Bytes(Bytes {
            dims,
            max_len: values.len().saturating_mul(MAX_CODES_PER_BYTE),
            codes: Codes::stored(name, values),
        })),
        TensorData::U16(values) if to_int => Some(Form::Ints(Ints {
            dims,
            values: values.iter().map(|&value| value.into()).collect(),
        })),
        TensorData::I8(values) if to_int => Some(integer_levels(dims, values)),
        TensorData::I8(values) if to == ElementType::F32 => {
            let values = values.iter().map(|&value| value.into()).collect();
            Some(floats(dims, values, Storage::I8))
        }
        TensorData::F16(values) if to == ElementType::F32 => {
            let values = values.iter().map(|value| value.to_f32()).collect();
            Some(floats(dims, values, Storage::F16))
        }
        _ => None,
    }
}

/// A lookup: of what bytes hold, or of levels.
fn gather<'g>(inputs: &Inputs<'_, 'g>) -> Option<Form<'g>> {
    if inputs.int("axis", 0)? != 0 {
        return None;
    }
    let table = inputs.form(0)?;
    let (positions, offsets) = match inputs.form(1)? {
        Form::Bytes(bytes) => (bytes, None),
        Form::Positions(codes, offsets) => (codes, Some(offsets)),
        _ => return None,
    };
    match table {
        Form::Bytes(table) if offsets.is_none() => Some(Form::Bytes(Bytes {
            dims: [&positions.dims, table.dims.get(1..)?].concat(),
            codes: looked_up(&table.dims, &table.values(), &positions)?,
            max_len: positions.max_len,
        })),
        Form::Floats(table) if table.unit.is_none() && table.dims.len() == 1 => {
            if offsets.is_none() && !positions.are_below(table.values.len()) {
                return None;
            }
            Some(Form::Weights(Weights {
                codes: positions.codes,
                view: positions.dims,
                shape: None,
                integer: table.integer,
                levels: Rc::new(table),
                offsets,
                shift: None,
                scale: None,
            }))
        }
        Form::Floats(table) if offsets.is_none() => levels_in_bytes(table, &positions),
        _ => None,
    }
}

/// The rows of a table at these positions, one after another.
fn looked_up<'g>(dims: &[usize], table: &[u8], positions: &Bytes<'g>) -> Option<Codes<'g>> {
    let (&rows, row) = dims.split_first()?;
    let len: usize = row.iter().product();
    let count = positions.len().checked_mul(len)?;
    if count > positions.max_len {
        return None;
    }
    let unpacks =
        |packing: &Packing| packing.codes_per_byte() == len && packing.byte_table() == table;
    let packing = (len > 1).then(|| DIGITS.iter().find(|packing| unpacks(packing)));
    if let Some(packing) = packing.flatten()
        && let Some(codes) = positions.codes.unpacked_as(packing.clone())
    {
        return Some(codes);
    }
    if let Some(vectors) = VectorCodes::new(table.to_vec(), len)
        && positions.are_below(rows)
        && let Some(codes) = positions.codes.unpacked_as(Packing::Vectors(vectors))
    {
        return Some(codes);
    }
    if !positions.are_below(rows) {
        return None;
    }
    let mut values = vec![0; count];
    look_up_rows(table, len, &positions.values(), &mut values);
    Some(Codes::made(values))
}

/// How several codes may lie in a byte.
static DIGITS: [Packing; 5] = [
    digits(16, 2),
    digits(4, 4),
    digits(2, 8),
    digits(3, 5),
    digits(6, 3),
];

const fn digits(base: usize, per_byte: usize) -> Packing {
    Packing::Digits { base, per_byte }
}

/// A lookup of several levels for each byte.
fn levels_in_bytes<'g>(table: Floats, positions: &Bytes<'g>) -> Option<Form<'g>> {
    if table.unit.is_some() || table.values.iter().any(|value| value.is_nan()) {
        return None;
    }
    // Equal levels get one code; zeros of both signs stay two.
    let mut levels = table.values.clone();
    levels.sort_by(f32::total_cmp);
    levels.dedup_by_key(|level| level.to_bits());
    if levels.len() > 256 {
        return None;
    }
    let codes: Vec<u8> = table
        .values
        .iter()
        .map(|value| {
            let at = levels.binary_search_by(|level| level.total_cmp(value));
            Some(at.ok()? as u8)
        })
        .collect::<Option<_>>()?;
    Some(Form::Weights(Weights {
        codes: looked_up(&table.dims, &codes, positions)?,
        view: [&positions.dims, table.dims.get(1..)?].concat(),
        shape: None,
        integer: table.integer,
        levels: Rc::new(Floats {
            dims: vec![levels.len()],
            values: levels,
            ..table
        }),
        offsets: None,
        shift: None,
        scale: None,
    }))
}

fn reshape<'g>(inputs: &Inputs<'_, 'g>) -> Option<Form<'g>> {
    let wanted = inputs.int_list(1).or_else(|| inputs.ints("shape"))?;
    let reshaped = |dims: &[usize]| -> Option<Vec<usize>> {
        let count: usize = dims.iter().product();
        let known: Vec<usize> = wanted
            .iter()
            .map(|&dim| usize::try_from(dim).unwrap_or(1))
            .collect();
        let product = known
            .iter()
            .try_fold(1usize, |product, &dim| product.checked_mul(dim))?;
        // Zeros have a meaning of their own, which decoders do without.
        let unknown = wanted.iter().filter(|&&dim| dim == -1).count();
        let valid = product > 0 && unknown <= 1 && wanted.iter().all(|&dim| dim >= -1);
        let divides = count.is_multiple_of(product.max(1));
        if !valid || !divides || (unknown == 0 && product != count) {
            return None;
        }
        let rest = count / product;
        let dims = wanted.iter().zip(&known);
        Some(
            dims.map(|(&dim, &known)| if dim == -1 { rest } else { known })
                .collect(),
        )
    };
    match inputs.form(0)? {
        Form::Bytes(bytes) => Some(Form::Bytes(Bytes {
            dims: reshaped(&bytes.dims)?,
            ..bytes
        })),
        Form::Weights(weights) => {
            let shape = reshaped(weights.shape.as_ref().unwrap_or(&weights.view))?;
            Some(Form::Weights(if weights.is_plain() {
                Weights {
                    view: shape,
                    ..weights
                }
            } else {
                Weights {
                    shape: Some(shape),
                    ..weights
                }
            }))
        }
        _ => None,
    }
}

/// The first elements of a list: what is left when padding is cut off.
fn slice<'g>(inputs: &Inputs<'_, 'g>) -> Option<Form<'g>> {
    let bounds = match inputs.node.inputs.len() {
        1 => (inputs.ints("starts")?, inputs.ints("ends")?),
        3 => (inputs.int_list(1)?, inputs.int_list(2)?),
        _ => return None,
    };
    let (&[0], &[end]) = bounds else {
        return None;
    };
    let end = usize::try_from(end).ok()?;
    // The codes stay; fewer of them count.
    let cut = |dims: &[usize]| match dims {
        &[len] => Some(vec![end.min(len)]),
        _ => None,
    };
    match inputs.form(0)? {
        Form::Bytes(bytes) => Some(Form::Bytes(Bytes {
            dims: cut(&bytes.dims)?,
            ..bytes
        })),
        Form::Weights(weights) if weights.is_plain() => Some(Form::Weights(Weights {
            view: cut(&weights.view)?,
            ..weights
        })),
        _ => None,
    }
}

fn multiply<'g>(inputs: &Inputs<'_, 'g>) -> Option<Form<'g>> {
    match (inputs.form(0)?, inputs.form(1)?) {
        (Form::Weights(weights), Form::Floats(scale))
        | (Form::Floats(scale), Form::Weights(weights))
            if !weights.integer =>
        {
            Some(Form::Weights(weights.scaled(&scale)?))
        }
        (Form::Floats(values), Form::Floats(unit)) | (Form::Floats(unit), Form::Floats(values))
            if unit.values.len() == 1 && unit.dims.len() <= values.dims.len() =>
        {
            let is_integer = values.integer || unit.integer;
            if values.unit.is_some() || unit.unit.is_some() || is_integer || unit.values[0] < 0.0 {
                return None;
            }
            Some(Form::Floats(Floats {
                unit: Some(unit.values[0]),
                ..values
            }))
        }
        (Form::Bytes(bits), Form::Ints(Ints { dims, values }))
        | (Form::Ints(Ints { dims, values }), Form::Bytes(bits)) => weighted(bits, &dims, &values),
        _ => None,
    }
}

/// Bit planes times a factor for each.
fn weighted<'g>(bits: Bytes<'g>, dims: &[usize], factors: &[i64]) -> Option<Form<'g>> {
    let &planes = bits.dims.first()?;
    let by_plane = dims.len() == bits.dims.len()
        && dims[0] == planes
        && dims[1..].iter().all(|&extent| extent == 1);
    let unweighted = bits.values();
    if !by_plane || unweighted.is_empty() {
        return None;
    }
    let plane_len = unweighted.len() / planes;
    let mut values = Vec::with_capacity(unweighted.len());
    for (plane, &factor) in unweighted.chunks(plane_len).zip(factors) {
        for &bit in plane {
            values.push(u8::try_from(i64::from(bit).checked_mul(factor)?).ok()?);
        }
    }
    Some(Form::Bytes(Bytes {
        dims: bits.dims,
        codes: Codes::made(values),
        max_len: bits.max_len,
    }))
}

fn add<'g>(inputs: &Inputs<'_, 'g>) -> Option<Form<'g>> {
    match (inputs.form(0)?, inputs.form(1)?) {
        (Form::Weights(weights), Form::Floats(shift))
        | (Form::Floats(shift), Form::Weights(weights)) => {
            Some(Form::Weights(weights.shifted(&shift)?))
        }
        (Form::Bytes(codes), Form::Ints(Ints { dims, values }))
        | (Form::Ints(Ints { dims, values }), Form::Bytes(codes)) => positions(codes, dims, values),
        // Offsets below 256 are bytes too; they are what has fewer elements.
        (Form::Bytes(left), Form::Bytes(right)) => {
            let (codes, offsets) = if left.len() >= right.len() {
                (left, right)
            } else {
                (right, left)
            };
            let values = offsets.values().iter().map(|&value| value.into()).collect();
            positions(codes, offsets.dims, values)
        }
        _ => None,
    }
}

/// Integer levels times their scale.
fn dequantize<'g>(inputs: &Inputs<'_, 'g>) -> Option<Form<'g>> {
    let (Form::Weights(levels), Form::Floats(scale)) = (inputs.form(0)?, inputs.form(1)?) else {
        return None;
    };
    if let Some(zero) = inputs.name(2) {
        match inputs.constants.get(zero)?.data() {
            TensorData::I8(zeros) if zeros.iter().all(|&zero| zero == 0) => {}
            _ => return None,
        }
    }
    if inputs.int("block_size", 0)? != 0 {
        return None;
    }
    let axis = inputs.int("axis", 1)?;
    let rank = levels.view.len() as i64;
    let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok()?;
    Some(Form::Weights(levels.dequantized(scale, axis)?))
}

fn positions(codes: Bytes<'_>, dims: Vec<usize>, values: Vec<i64>) -> Option<Form<'_>> {
    let fits = broadcasts_to(&dims, &codes.dims);
    fits.then_some(Form::Positions(codes, Ints { dims, values }))
}

/// The sum over the first axis: bit planes joined to codes.
fn reduce_sum<'g>(inputs: &Inputs<'_, 'g>) -> Option<Form<'g>> {
    let axes = inputs.int_list(1).or_else(|| inputs.ints("axes"))?;
    let Form::Bytes(planes) = inputs.form(0)? else {
        return None;
    };
    let (&count, dims) = planes.dims.split_first()?;
    let values = planes.values();
    if axes != [0] || inputs.int("keepdims", 1)? != 0 || values.is_empty() {
        return None;
    }
    let len = values.len() / count;
    let mut sums = values[..len].to_vec();
    for plane in values[len..].chunks(len) {
        for (sum, &value) in sums.iter_mut().zip(plane) {
            *sum = sum.checked_add(value)?;
        }
    }
    Some(Form::Bytes(Bytes {
        dims: dims.to_vec(),
        codes: Codes::made(sums),
        max_len: planes.max_len,
    }))
}
