//! Reading a node's attributes with the type that an operator defines.

use campana_tensor::Tensor;

use crate::graph::{Attribute, Node};

/// Why a node is no valid use of its operator: what is wrong, without the
/// node's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OpError(pub(crate) String);

/// Greatest stride, padding, dilation or kernel extent that is no mistake.
const MAX_EXTENT: i64 = 1 << 24;

/// The attributes of a node.
pub(super) struct Attributes<'n> {
    node: &'n Node,
}

impl<'n> Attributes<'n> {
    pub(super) fn of(node: &'n Node) -> Self {
        Self { node }
    }

    fn get(&self, name: &str) -> Option<&'n Attribute> {
        self.node.attributes.get(name)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn int(&self, name: &str, default: i64) -> Result<i64, OpError> {
        match self.get(name) {
            None => Ok(default),
            Some(Attribute::Int(value)) => Ok(*value),
            Some(_) => Err(wrong_type(name, "an integer")),
        }
    }

    pub(super) fn flag(&self, name: &str, default: bool) -> Result<bool, OpError> {
        Ok(self.int(name, i64::from(default))? != 0)
    }

    pub(super) fn float(&self, name: &str, default: f32) -> Result<f32, OpError> {
        match self.get(name) {
            None => Ok(default),
            Some(Attribute::Float(value)) => Ok(*value),
            Some(_) => Err(wrong_type(name, "a float")),
        }
    }

    pub(super) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, OpError> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values.clone())),
            Some(_) => Err(wrong_type(name, "a list of integers")),
        }
    }

    /// Extents of at least `least`.
    pub(super) fn extents(&self, name: &str, least: i64) -> Result<Option<Vec<usize>>, OpError> {
        let Some(values) = self.ints(name)? else {
            return Ok(None);
        };
        let extents = values.iter().map(|&value| extent(name, value, least));
        extents.collect::<Result<_, _>>().map(Some)
    }

    pub(super) fn string(&self, name: &str) -> Result<Option<&'n str>, OpError> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::String(bytes)) => std::str::from_utf8(bytes)
                .map(Some)
                .map_err(|_| OpError(format!("attribute {name} is not UTF-8"))),
            Some(_) => Err(wrong_type(name, "a string")),
        }
    }

    pub(super) fn tensor(&self, name: &str) -> Result<Option<&'n Tensor>, OpError> {
        match self.get(name) {
            None => Ok(None),
            Some(Attribute::Tensor(tensor)) => Ok(Some(tensor)),
            Some(_) => Err(wrong_type(name, "a tensor")),
        }
    }
}

/// An attribute's number as an extent of at least `least`.
pub(super) fn extent(name: &str, value: i64, least: i64) -> Result<usize, OpError> {
    match usize::try_from(value) {
        Ok(extent) if (least..=MAX_EXTENT).contains(&value) => Ok(extent),
        _ => Err(OpError(format!(
            "attribute {name} is {value}, outside {least} to {MAX_EXTENT}"
        ))),
    }
}

fn wrong_type(name: &str, expected: &str) -> OpError {
    OpError(format!("attribute {name} is not {expected}"))
}
