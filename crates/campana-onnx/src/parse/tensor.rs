//! Tensors: the header, and where the elements are.

use campana_tensor::ElementType;

use super::{Parser, bytes, integer, integer32, once};
use crate::message::MessageId;
use crate::proto::{DataLocation, ExternalData, SparseTensor, TensorProto};
use crate::schema::{sparse_tensor, tensor};
use crate::source::Span;
use crate::{Error, ErrorKind, Result};

/// Longest value of an external-data entry that is read: longer than any path
/// that a system accepts.
const MAX_EXTERNAL_VALUE_LEN: u64 = 1 << 16;

/// Axes of a tensor at most; runtimes stop long before.
const MAX_RANK: usize = 64;

impl Parser<'_> {
    pub(super) fn tensor(&mut self, message: MessageId, body: Span) -> Result<TensorProto> {
        let mut name = String::new();
        let mut dims = Vec::new();
        let mut data_type = 0;
        let (mut raw, mut typed, mut segment) = (None, None, false);
        let (mut external, mut is_external) = (Vec::new(), false);
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                tensor::DIMS => self.integers(field, |value| dims.push(value as i64))?,
                tensor::DATA_TYPE => data_type = integer32(field)?,
                tensor::SEGMENT => segment = true,
                tensor::NAME => name = self.string("name", field)?,
                // An empty one is what some writers leave when they move the
                // elements elsewhere.
                tensor::RAW_DATA => raw = Some(bytes(field)?),
                tensor::FLOAT_DATA
                | tensor::INT32_DATA
                | tensor::STRING_DATA
                | tensor::INT64_DATA
                | tensor::DOUBLE_DATA
                | tensor::UINT64_DATA => {
                    typed.get_or_insert(field.number);
                }
                tensor::EXTERNAL_DATA => {
                    let index = external.len();
                    external.push(self.part("external_data", index, field, Self::entry)?);
                }
                tensor::DATA_LOCATION => is_external = integer(field)? == 1,
                _ => {}
            }
        }
        let data = match (raw, typed) {
            _ if segment => DataLocation::Segment,
            _ if is_external => DataLocation::External(self.external(&name, external)?),
            (Some(span), None) => DataLocation::Raw(span),
            (Some(span), Some(_)) if !span.is_empty() => DataLocation::Raw(span),
            (_, Some(number)) => DataLocation::Typed(number),
            (None, None) => DataLocation::Absent,
        };
        let tensor = TensorProto {
            name,
            dims,
            element_type: ElementType::from_onnx(data_type),
            data,
            message,
        };
        self.check_shape(&tensor)
            .map_err(|error| error.at(body.start))?;
        Ok(tensor)
    }

    /// Refuses shapes that no tensor has, whether or not its elements will be
    /// asked for.
    fn check_shape(&self, tensor: &TensorProto) -> Result<()> {
        if tensor.dims.len() > MAX_RANK {
            let found = format!("{} axes, expected at most {MAX_RANK}", tensor.dims.len());
            return Err(tensor.malformed(found));
        }
        let (count, most) = (tensor.count()?, self.limits.max_elements);
        if count > most {
            let message = format!(
                "tensor {:?} of shape {:?} has more than {most} elements",
                tensor.name, tensor.dims
            );
            return Err(Error::new(ErrorKind::Limit, message));
        }
        Ok(())
    }

    fn external(&mut self, name: &str, entries: Vec<(String, Span)>) -> Result<ExternalData> {
        let mut external = ExternalData::default();
        for (key, span) in entries {
            if !["location", "offset", "length", "checksum"].contains(&&*key) {
                continue;
            }
            let bad = |what: String| {
                let message = format!("external data of tensor {name:?}: {key} {what}");
                Error::new(ErrorKind::ExternalData, message).at(span.start)
            };
            if span.len() > MAX_EXTERNAL_VALUE_LEN {
                return Err(bad(format!("is {} bytes long", span.len())));
            }
            let value = String::from_utf8(self.reader.bytes(span)?)
                .map_err(|_| bad("is not valid UTF-8".to_owned()))?;
            let number = || {
                let message = || format!("should be a number of bytes, found {value:?}");
                value.parse().map_err(|_| bad(message()))
            };
            match &*key {
                "offset" => external.offset = number()?,
                "length" => external.length = Some(number()?),
                "checksum" => external.checksum = Some(value),
                _ => external.location = value,
            }
        }
        Ok(external)
    }

    pub(super) fn sparse_tensor(&mut self, message: MessageId, body: Span) -> Result<SparseTensor> {
        let mut read = SparseTensor {
            values: None,
            indices: None,
            dims: Vec::new(),
            message,
        };
        let mut at = body.start;
        while let Some(field) = self.reader.field(&mut at, body)? {
            match field.number {
                sparse_tensor::VALUES => {
                    let tensor = self.message("values", None, field, Self::tensor)?;
                    once(&mut read.values, tensor, field)?;
                }
                sparse_tensor::INDICES => {
                    let tensor = self.message("indices", None, field, Self::tensor)?;
                    once(&mut read.indices, tensor, field)?;
                }
                sparse_tensor::DIMS => {
                    self.integers(field, |value| read.dims.push(value as i64))?;
                }
                _ => {}
            }
        }
        Ok(read)
    }
}
