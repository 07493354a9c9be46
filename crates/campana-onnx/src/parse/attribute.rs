//! Attributes of nodes.

use super::{Parser, bytes, integer, integer32, once, unexpected};
use crate::message::MessageId;
use crate::proto::{Attribute, AttributeValue, Graph, SparseTensor, TensorProto};
use crate::schema::{attribute, attribute_type as kind};
use crate::source::Span;
use crate::wire::Value;
use crate::{Error, ErrorKind, Result};

/// Every value that an attribute could hold; its kind says which one counts.
#[derive(Default)]
struct Candidates {
    kind: i32,
    f: Option<f32>,
    i: Option<i64>,
    s: Option<Span>,
    t: Option<TensorProto>,
    g: Option<Graph>,
    sparse_tensor: Option<SparseTensor>,
    floats: Vec<f32>,
    ints: Vec<i64>,
    strings: Vec<Span>,
    tensors: Vec<TensorProto>,
    graphs: Vec<Graph>,
    sparse_tensors: Vec<SparseTensor>,
}

impl Parser<'_> {
    pub(super) fn attribute(&mut self, message: MessageId, body: Span) -> Result<Attribute> {
        let mut name = String::new();
        let mut reference = String::new();
        let mut read = Candidates::default();
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                attribute::NAME => name = self.string("name", field)?,
                attribute::REF_ATTR_NAME => reference = self.string("ref_attr_name", field)?,
                attribute::TYPE => read.kind = integer32(field)?,
                attribute::F => match field.value {
                    Value::Fixed32(bits) => read.f = Some(f32::from_bits(bits)),
                    _ => return Err(unexpected(field, "a float")),
                },
                attribute::I => read.i = Some(integer(field)?),
                attribute::S => read.s = Some(bytes(field)?),
                attribute::T => {
                    let tensor = self.message("t", None, field, Self::tensor)?;
                    once(&mut read.t, tensor, field)?;
                }
                attribute::G => {
                    let graph = self.message("g", None, field, Self::graph)?;
                    once(&mut read.g, graph, field)?;
                }
                attribute::SPARSE_TENSOR => {
                    let tensor = self.message("sparse_tensor", None, field, Self::sparse_tensor)?;
                    once(&mut read.sparse_tensor, tensor, field)?;
                }
                attribute::FLOATS => self.floats(field, |value| read.floats.push(value))?,
                attribute::INTS => self.integers(field, |value| read.ints.push(value as i64))?,
                attribute::STRINGS => {
                    self.budget.take_items::<Span>(1)?;
                    read.strings.push(bytes(field)?);
                }
                attribute::TENSORS => {
                    let index = read.tensors.len();
                    let tensor = self.message("tensors", index, field, Self::tensor)?;
                    read.tensors.push(tensor);
                }
                attribute::GRAPHS => {
                    let graph = self.message("graphs", read.graphs.len(), field, Self::graph)?;
                    read.graphs.push(graph);
                }
                attribute::SPARSE_TENSORS => {
                    let index = read.sparse_tensors.len();
                    let name = "sparse_tensors";
                    let tensor = self.message(name, index, field, Self::sparse_tensor)?;
                    read.sparse_tensors.push(tensor);
                }
                _ => {}
            }
        }
        let value = if reference.is_empty() {
            read.choose().map_err(|missing| {
                let message = format!("attribute {name:?} should hold {missing}, but does not");
                Error::new(ErrorKind::Malformed, message).at(body.start)
            })?
        } else {
            AttributeValue::Reference(reference)
        };
        Ok(Attribute {
            name,
            value,
            message,
        })
    }
}

impl Candidates {
    /// The value of the declared kind. Zeros, empty strings and empty lists are
    /// left out by proto3 writers; an error names what must not be missing.
    fn choose(self) -> Result<AttributeValue, &'static str> {
        let empty = Span::default();
        Ok(match self.kind {
            kind::FLOAT => AttributeValue::Float(self.f.unwrap_or(0.0)),
            kind::INT => AttributeValue::Int(self.i.unwrap_or(0)),
            kind::STRING => AttributeValue::String(self.s.unwrap_or(empty)),
            kind::TENSOR => AttributeValue::Tensor(Box::new(self.t.ok_or("a tensor")?)),
            kind::GRAPH => AttributeValue::Graph(Box::new(self.g.ok_or("a graph")?)),
            kind::SPARSE_TENSOR => {
                let tensor = self.sparse_tensor.ok_or("a sparse tensor")?;
                AttributeValue::SparseTensor(Box::new(tensor))
            }
            kind::FLOATS => AttributeValue::Floats(self.floats),
            kind::INTS => AttributeValue::Ints(self.ints),
            kind::STRINGS => AttributeValue::Strings(self.strings),
            kind::TENSORS => AttributeValue::Tensors(self.tensors),
            kind::GRAPHS => AttributeValue::Graphs(self.graphs),
            kind::SPARSE_TENSORS => AttributeValue::SparseTensors(self.sparse_tensors),
            0 => self.infer(),
            other => AttributeValue::Other(other),
        })
    }

    /// Files of IR version 1 do not declare the kind: what is there counts.
    fn infer(self) -> AttributeValue {
        if let Some(value) = self.f {
            AttributeValue::Float(value)
        } else if let Some(value) = self.i {
            AttributeValue::Int(value)
        } else if let Some(span) = self.s {
            AttributeValue::String(span)
        } else if let Some(tensor) = self.t {
            AttributeValue::Tensor(Box::new(tensor))
        } else if let Some(graph) = self.g {
            AttributeValue::Graph(Box::new(graph))
        } else if let Some(tensor) = self.sparse_tensor {
            AttributeValue::SparseTensor(Box::new(tensor))
        } else if !self.floats.is_empty() {
            AttributeValue::Floats(self.floats)
        } else if !self.ints.is_empty() {
            AttributeValue::Ints(self.ints)
        } else if !self.strings.is_empty() {
            AttributeValue::Strings(self.strings)
        } else if !self.tensors.is_empty() {
            AttributeValue::Tensors(self.tensors)
        } else if !self.graphs.is_empty() {
            AttributeValue::Graphs(self.graphs)
        } else if !self.sparse_tensors.is_empty() {
            AttributeValue::SparseTensors(self.sparse_tensors)
        } else {
            AttributeValue::Other(0)
        }
    }
}
