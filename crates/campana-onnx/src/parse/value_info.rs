//! Names and types of values.

use campana_tensor::ElementType;

use super::{Parser, integer, integer32, once};
use crate::Result;
use crate::message::MessageId;
use crate::proto::{Dim, TensorType, ValueInfo, ValueType};
use crate::schema::{type_proto, value_info};
use crate::source::Span;

impl Parser<'_> {
    pub(super) fn value(&mut self, message: MessageId, body: Span) -> Result<ValueInfo> {
        let mut name = String::new();
        let mut value_type = None;
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                value_info::NAME => name = self.string("name", field)?,
                value_info::TYPE => {
                    let read = self.part("type", None, field, Self::value_type)?;
                    once(&mut value_type, read, field)?;
                }
                _ => {}
            }
        }
        Ok(ValueInfo {
            name,
            value_type,
            message,
        })
    }

    fn value_type(&mut self, body: Span) -> Result<ValueType> {
        let mut read = ValueType::Other;
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            // One of these is given; where there are several the last counts.
            read = match field.number {
                type_proto::TENSOR_TYPE => {
                    ValueType::Tensor(self.part("tensor_type", None, field, Self::tensor_type)?)
                }
                type_proto::SPARSE_TENSOR_TYPE => {
                    let read = self.part("sparse_tensor_type", None, field, Self::tensor_type)?;
                    ValueType::SparseTensor(read)
                }
                type_proto::SEQUENCE_TYPE => {
                    let read = self.part("sequence_type", None, field, Self::element_of)?;
                    ValueType::Sequence(Box::new(read.1))
                }
                type_proto::OPTIONAL_TYPE => {
                    let read = self.part("optional_type", None, field, Self::element_of)?;
                    ValueType::Optional(Box::new(read.1))
                }
                type_proto::MAP_TYPE => {
                    let (key, value) = self.part("map_type", None, field, Self::element_of)?;
                    ValueType::Map {
                        key,
                        value: Box::new(value),
                    }
                }
                type_proto::OPAQUE_TYPE => ValueType::Other,
                _ => continue,
            };
        }
        Ok(read)
    }

    /// The type inside a sequence or optional (field 1), or the key (field 1)
    /// and value (field 2) of a map: a key is a number, a type is a message.
    fn element_of(&mut self, body: Span) -> Result<(ElementType, ValueType)> {
        let mut key = ElementType::Other(0);
        let mut value = ValueType::Other;
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match (field.number, field.value) {
                (1, crate::wire::Value::Varint(_)) => {
                    key = ElementType::from_onnx(integer32(field)?);
                }
                (1, _) => value = self.part("elem_type", None, field, Self::value_type)?,
                (2, _) => value = self.part("value_type", None, field, Self::value_type)?,
                _ => {}
            }
        }
        Ok((key, value))
    }

    fn tensor_type(&mut self, body: Span) -> Result<TensorType> {
        let mut read = TensorType {
            element_type: ElementType::Other(0),
            shape: None,
        };
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                type_proto::ELEM_TYPE => {
                    read.element_type = ElementType::from_onnx(integer32(field)?);
                }
                type_proto::SHAPE => {
                    let shape = self.part("shape", None, field, Self::shape)?;
                    once(&mut read.shape, shape, field)?;
                }
                _ => {}
            }
        }
        Ok(read)
    }

    fn shape(&mut self, body: Span) -> Result<Vec<Dim>> {
        let mut dims = Vec::new();
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            if field.number == type_proto::DIM {
                dims.push(self.part("dim", dims.len(), field, Self::dim)?);
            }
        }
        Ok(dims)
    }

    fn dim(&mut self, body: Span) -> Result<Dim> {
        let mut dim = Dim::Unknown;
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                type_proto::DIM_VALUE => dim = Dim::Value(integer(field)?),
                type_proto::DIM_PARAM => {
                    dim = match self.string("dim_param", field)? {
                        name if name.is_empty() => Dim::Unknown,
                        name => Dim::Symbol(name),
                    };
                }
                _ => {}
            }
        }
        Ok(dim)
    }
}
