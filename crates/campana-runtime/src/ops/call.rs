//! One call of an operator: its inputs and attributes, checked on the way.

use std::fmt;

use campana_ir::graph::{Attribute, Node};
use campana_ir::op::axis_from_start;
use campana_kernels::{Isa, ThreadPool};
use campana_tensor::{ElementType, Tensor, TensorData};

use crate::Interrupt;

/// Why an operator cannot run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is valid, but not made here.
    Unsupported(String),
    /// Inputs or attributes contradict the operator's definition.
    Invalid(String),
    /// A value would take more memory than [`Limits`](crate::Limits) allow.
    Limit(String),
    /// The caller asked to stop.
    Interrupted,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported(message) | Self::Invalid(message) | Self::Limit(message) => {
                f.write_str(message)
            }
            Self::Interrupted => f.write_str("interrupted"),
        }
    }
}

impl Fault {
    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::Unsupported(message.into())
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::Invalid(message.into())
    }
}

/// A node with the tensors that it is called on.
pub(crate) struct Call<'a> {
    pub(crate) node: &'a Node,
    pub(crate) inputs: Vec<Option<&'a Tensor>>,
    pub(crate) opset: i64,
    pub(crate) isa: Isa,
    pub(crate) pool: &'a ThreadPool,
    /// Bytes that one output may take.
    pub(crate) max_bytes: Option<u64>,
    pub(crate) interrupt: Option<&'a Interrupt>,
}

impl<'a> Call<'a> {
    /// Fails once the caller asked to stop: for the outer loops of slow operators.
    pub(crate) fn check_interrupt(&self) -> Result<(), Fault> {
        match self.interrupt {
            Some(interrupt) if interrupt.is_set() => Err(Fault::Interrupted),
            _ => Ok(()),
        }
    }

    /// Number of elements of an output of this shape and type, within the limits.
    pub(crate) fn count(&self, shape: &[usize], kind: ElementType) -> Result<usize, Fault> {
        let count = count_of(shape)?;
        match (self.max_bytes, kind.len_bytes(count)) {
            (Some(limit), Some(bytes)) if bytes as u64 > limit => Err(Fault::Limit(format!(
                "{kind} {shape:?} takes {bytes} bytes, where one value may take {limit} here"
            ))),
            _ => Ok(count),
        }
    }

    /// The element type of an input.
    pub(crate) fn kind(&self, index: usize) -> Result<ElementType, Fault> {
        Ok(self.input(index)?.data().element_type())
    }

    /// The shape and the numbers of an input as 64-bit floats.
    pub(crate) fn reals(&self, index: usize) -> Result<(&'a [usize], Vec<f64>), Fault> {
        let tensor = self.input(index)?;
        Ok((tensor.shape(), super::shape::to_f64(tensor.data())?))
    }

    /// The numbers of an input that may be left out.
    pub(crate) fn optional_reals(&self, index: usize) -> Result<Option<Vec<f64>>, Fault> {
        let tensor = self.optional(index);
        tensor.map(|t| super::shape::to_f64(t.data())).transpose()
    }

    /// The one whole number of an input that may be left out.
    pub(crate) fn optional_int(&self, index: usize) -> Result<Option<i64>, Fault> {
        match self.optional_ints(index)?.as_deref() {
            None => Ok(None),
            Some([value]) => Ok(Some(*value)),
            Some(values) => Err(Fault::invalid(format!(
                "{} numbers in input {index}, one is expected",
                values.len()
            ))),
        }
    }

    /// A list of strings, where given.
    pub(crate) fn strings(&self, name: &str) -> Result<Option<Vec<&'a str>>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Strings(values)) => values
                .iter()
                .map(|bytes| std::str::from_utf8(bytes))
                .collect::<Result<_, _>>()
                .map(Some)
                .map_err(|_| Fault::invalid(format!("attribute {name} is not UTF-8"))),
            Some(_) => Err(Fault::invalid(format!(
                "attribute {name} is no list of strings"
            ))),
        }
    }

    /// An input that must be there.
    pub(crate) fn input(&self, index: usize) -> Result<&'a Tensor, Fault> {
        self.optional(index)
            .ok_or_else(|| Fault::invalid(format!("input {index} is missing")))
    }

    /// An input that may be left out.
    pub(crate) fn optional(&self, index: usize) -> Option<&'a Tensor> {
        self.inputs.get(index).copied().flatten()
    }

    /// The shape and the floats of an input.
    pub(crate) fn floats(&self, index: usize) -> Result<(&'a [usize], &'a [f32]), Fault> {
        let tensor = self.input(index)?;
        Ok((tensor.shape(), floats(tensor)?))
    }

    /// The floats of an input that may be left out.
    pub(crate) fn optional_floats(&self, index: usize) -> Result<Option<&'a [f32]>, Fault> {
        self.optional(index).map(floats).transpose()
    }

    /// The whole numbers of an input that may be left out.
    pub(crate) fn optional_ints(&self, index: usize) -> Result<Option<Vec<i64>>, Fault> {
        self.optional(index).map(ints).transpose()
    }

    pub(crate) fn attribute(&self, name: &str) -> Option<&'a Attribute> {
        self.node.attributes.get(name)
    }

    /// An integer attribute or its default.
    pub(crate) fn int(&self, name: &str, default: i64) -> Result<i64, Fault> {
        match self.attribute(name) {
            None => Ok(default),
            Some(Attribute::Int(value)) => Ok(*value),
            Some(_) => Err(Fault::invalid(format!("attribute {name} is no integer"))),
        }
    }

    /// A float attribute or its default.
    pub(crate) fn float(&self, name: &str, default: f32) -> Result<f32, Fault> {
        match self.attribute(name) {
            None => Ok(default),
            Some(Attribute::Float(value)) => Ok(*value),
            Some(_) => Err(Fault::invalid(format!("attribute {name} is no float"))),
        }
    }

    /// A list of integers, where given.
    pub(crate) fn ints(&self, name: &str) -> Result<Option<&'a [i64]>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Ints(values)) => Ok(Some(values)),
            Some(_) => Err(Fault::invalid(format!(
                "attribute {name} is no list of integers"
            ))),
        }
    }

    /// A list of floats, where given.
    pub(crate) fn float_list(&self, name: &str) -> Result<Option<&'a [f32]>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Floats(values)) => Ok(Some(values)),
            Some(_) => Err(Fault::invalid(format!(
                "attribute {name} is no list of floats"
            ))),
        }
    }

    /// A string attribute or its default.
    pub(crate) fn string(&self, name: &str, default: &'static str) -> Result<&'a str, Fault> {
        match self.attribute(name) {
            None => Ok(default),
            Some(Attribute::String(bytes)) => std::str::from_utf8(bytes)
                .map_err(|_| Fault::invalid(format!("attribute {name} is not UTF-8"))),
            Some(_) => Err(Fault::invalid(format!("attribute {name} is no string"))),
        }
    }

    /// A tensor attribute, where given.
    pub(crate) fn tensor(&self, name: &str) -> Result<Option<&'a Tensor>, Fault> {
        match self.attribute(name) {
            None => Ok(None),
            Some(Attribute::Tensor(tensor)) => Ok(Some(tensor)),
            Some(_) => Err(Fault::invalid(format!("attribute {name} is no tensor"))),
        }
    }

    /// An axis attribute, counted from the end where negative, below `rank`.
    pub(crate) fn axis(&self, default: i64, rank: usize) -> Result<usize, Fault> {
        axis_of(self.int("axis", default)?, rank)
    }
}

/// An axis counted from the end where negative.
pub(crate) fn axis_of(axis: i64, rank: usize) -> Result<usize, Fault> {
    axis_from_start(axis, rank)
        .ok_or_else(|| Fault::invalid(format!("axis {axis} of a tensor of rank {rank}")))
}

/// Elements that a tensor may have: more is taken for a broken file.
const MAX_ELEMENTS: usize = 1 << 31;

/// Number of elements of this shape.
pub(crate) fn count_of(shape: &[usize]) -> Result<usize, Fault> {
    // A zero among large extents makes no large tensor.
    if shape.contains(&0) {
        return Ok(0);
    }
    shape
        .iter()
        .try_fold(1usize, |product, &dim| product.checked_mul(dim))
        .filter(|&count| count <= MAX_ELEMENTS)
        .ok_or_else(|| Fault::unsupported(format!("a tensor of shape {shape:?}")))
}

/// Bytes that a value takes; strings count as none.
pub(crate) fn len_bytes(tensor: &Tensor) -> u64 {
    let len = tensor.data().element_type().len_bytes(tensor.len());
    len.unwrap_or(0) as u64
}

/// Greatest stride, pad, dilation or block that is no mistake.
const MAX_EXTENT: i64 = 1 << 24;

/// An attribute's number as an extent.
pub(crate) fn extent(value: i64) -> Result<usize, Fault> {
    match usize::try_from(value) {
        Ok(extent) if value <= MAX_EXTENT => Ok(extent),
        _ => Err(Fault::invalid(format!("an extent of {value}"))),
    }
}

/// The elements as floats.
pub(crate) fn floats(tensor: &Tensor) -> Result<&[f32], Fault> {
    match tensor.data() {
        TensorData::F32(values) => Ok(values),
        other => Err(Fault::unsupported(format!(
            "a tensor of {}, where only float32 is supported",
            other.element_type()
        ))),
    }
}

/// The elements as whole numbers.
pub(crate) fn ints(tensor: &Tensor) -> Result<Vec<i64>, Fault> {
    Ok(match tensor.data() {
        TensorData::I64(values) => values.clone(),
        TensorData::I32(values) => values.iter().map(|&v| i64::from(v)).collect(),
        TensorData::I16(values) => values.iter().map(|&v| i64::from(v)).collect(),
        TensorData::I8(values) => values.iter().map(|&v| i64::from(v)).collect(),
        TensorData::U8(values) => values.iter().map(|&v| i64::from(v)).collect(),
        TensorData::U16(values) => values.iter().map(|&v| i64::from(v)).collect(),
        TensorData::U32(values) => values.iter().map(|&v| i64::from(v)).collect(),
        other => {
            return Err(Fault::invalid(format!(
                "whole numbers expected, found {}",
                other.element_type()
            )));
        }
    })
}

/// A tensor whose elements are known to fit its shape.
pub(crate) fn tensor(shape: Vec<usize>, data: TensorData) -> Result<Tensor, Fault> {
    let (count, found) = (shape.clone(), data.len());
    Tensor::new(shape, data)
        .ok_or_else(|| Fault::invalid(format!("{found} elements for the shape {count:?}")))
}

/// Numbers as one tensor of this type, as operators return it.
pub(crate) fn one_of(
    kind: ElementType,
    shape: &[usize],
    values: Vec<f64>,
) -> Result<Vec<Tensor>, Fault> {
    let data = super::shape::cast(&TensorData::F64(values), kind)?;
    Ok(vec![tensor(shape.to_vec(), data)?])
}

/// One float tensor, as operators return it.
pub(crate) fn one(shape: &[usize], values: Vec<f32>) -> Result<Vec<Tensor>, Fault> {
    Ok(vec![tensor(shape.to_vec(), TensorData::F32(values))?])
}

/// Evaluates an expression for whatever type the elements have; `$wrap` makes data of it again.
macro_rules! for_any_type {
    ($data:expr, $values:ident, $wrap:ident => $body:expr) => {{
        use campana_tensor::TensorData as D;
        match $data {
            D::F32($values) => {
                let $wrap = D::F32;
                Ok($body)
            }
            D::F64($values) => {
                let $wrap = D::F64;
                Ok($body)
            }
            D::F16($values) => {
                let $wrap = D::F16;
                Ok($body)
            }
            D::Bf16($values) => {
                let $wrap = D::Bf16;
                Ok($body)
            }
            D::I8($values) => {
                let $wrap = D::I8;
                Ok($body)
            }
            D::U8($values) => {
                let $wrap = D::U8;
                Ok($body)
            }
            D::I16($values) => {
                let $wrap = D::I16;
                Ok($body)
            }
            D::U16($values) => {
                let $wrap = D::U16;
                Ok($body)
            }
            D::I32($values) => {
                let $wrap = D::I32;
                Ok($body)
            }
            D::U32($values) => {
                let $wrap = D::U32;
                Ok($body)
            }
            D::I64($values) => {
                let $wrap = D::I64;
                Ok($body)
            }
            D::U64($values) => {
                let $wrap = D::U64;
                Ok($body)
            }
            D::Bool($values) => {
                let $wrap = D::Bool;
                Ok($body)
            }
            D::String($values) => {
                let $wrap = D::String;
                Ok($body)
            }
            other => Err($crate::ops::Fault::unsupported(format!(
                "elements of {}",
                other.element_type()
            ))),
        }
    }};
}
pub(crate) use for_any_type;
