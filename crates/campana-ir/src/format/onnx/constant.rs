//! What a `Constant` node gives.

use std::collections::BTreeMap;

use campana_tensor::{Tensor, TensorData};

use crate::graph::Attribute;

/// The tensor of a `Constant` node with these attributes, or why there is none.
pub(super) fn tensor(attributes: BTreeMap<String, Attribute>) -> Result<Tensor, String> {
    let mut values = attributes.into_iter();
    let (Some((name, value)), None) = (values.next(), values.next()) else {
        return Err("a Constant should have one attribute, its value".to_owned());
    };
    let scalar = |data| (vec![], data);
    let list = |data: TensorData| (vec![data.len()], data);
    let string = |bytes| String::from_utf8(bytes).map_err(|_| not_text(&name));
    let (shape, data) = match (&*name, value) {
        ("value", Attribute::Tensor(tensor)) => return Ok(tensor),
        ("value_float", Attribute::Float(value)) => scalar(TensorData::F32(vec![value])),
        ("value_floats", Attribute::Floats(values)) => list(TensorData::F32(values)),
        ("value_int", Attribute::Int(value)) => scalar(TensorData::I64(vec![value])),
        ("value_ints", Attribute::Ints(values)) => list(TensorData::I64(values)),
        ("value_string", Attribute::String(value)) => {
            scalar(TensorData::String(vec![string(value)?]))
        }
        ("value_strings", Attribute::Strings(values)) => {
            let strings = values.into_iter().map(string);
            list(TensorData::String(strings.collect::<Result<_, _>>()?))
        }
        _ => return Err(format!("attribute {name:?} of a Constant is not supported")),
    };
    Tensor::new(shape, data).ok_or_else(|| format!("attribute {name:?} has no shape"))
}

fn not_text(name: &str) -> String {
    format!("attribute {name:?} is not valid UTF-8")
}
