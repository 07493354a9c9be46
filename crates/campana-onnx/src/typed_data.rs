//! Elements in a tensor's typed fields: `float_data`, `int32_data` and so on,
//! packed or one by one.

use bytemuck::Pod;

use crate::byte_order::Bits;
use crate::proto::{DataLocation, TensorProto};
use crate::schema::tensor as field;
use crate::source::Span;
use crate::wire::{Reader, Value};
use crate::{Error, Model, Result};

impl Model {
    /// Elements of fixed width.
    pub(crate) fn typed_fixed<T: Pod + FromFixed>(
        &self,
        tensor: &TensorProto,
        number: u32,
        count: usize,
    ) -> Result<Vec<T>> {
        let size = size_of::<T>() as u64;
        let mut found = 0;
        self.typed_values(tensor, number, |_, value| match value {
            Value::Bytes(span) if span.len().is_multiple_of(size) => {
                found += span.len() / size;
                Ok(())
            }
            Value::Bytes(span) => Err(tensor.malformed(format!(
                "a packed field of {} bytes, not a multiple of {size}",
                span.len()
            ))),
            other if T::from_fixed(other).is_some() => {
                found += 1;
                Ok(())
            }
            other => Err(wrong_value(tensor, other)),
        })?;
        if found != count as u64 {
            return Err(tensor.wrong_count(found, count));
        }
        let mut elements = vec![T::zeroed(); count];
        let mut next = 0;
        self.typed_values(tensor, number, |_, value| {
            if let Value::Bytes(span) = value {
                let len = (span.len() / size) as usize;
                let block = &mut elements[next..next + len];
                self.source
                    .read_at(span.start, bytemuck::cast_slice_mut(block))?;
                if cfg!(target_endian = "big") {
                    block.iter_mut().for_each(T::swap);
                }
                next += len;
            } else if let Some(element) = T::from_fixed(value) {
                elements[next] = element;
                next += 1;
            }
            Ok(())
        })?;
        Ok(elements)
    }

    /// Integers, each turned into an element by `convert` or refused with the
    /// value that does not fit.
    pub(crate) fn typed_integers<T>(
        &self,
        tensor: &TensorProto,
        number: u32,
        count: usize,
        convert: impl Fn(u64) -> Result<T, String>,
    ) -> Result<Vec<T>> {
        // Each takes a byte at least: a bound before memory is asked for.
        let mut most = 0;
        self.typed_values(tensor, number, |_, value| {
            most += match value {
                Value::Bytes(span) => span.len(),
                Value::Varint(_) => 1,
                other => return Err(wrong_value(tensor, other)),
            };
            Ok(())
        })?;
        if most < count as u64 {
            return Err(tensor.wrong_count(most, count));
        }
        let mut elements = Vec::with_capacity(count);
        let mut found = 0u64;
        let mut push = |value: u64| {
            found += 1;
            if elements.len() < count {
                let element = convert(value).map_err(|value| {
                    let kind = tensor.element_type;
                    tensor.malformed(format!("an element of {value}, outside {kind}"))
                })?;
                elements.push(element);
            }
            Ok(())
        };
        self.typed_values(tensor, number, |reader, value| match value {
            Value::Varint(value) => push(value),
            Value::Bytes(span) => {
                let mut at = span.start;
                while at < span.end {
                    push(reader.varint(&mut at, span)?)?;
                }
                Ok(())
            }
            other => Err(wrong_value(tensor, other)),
        })?;
        if found != count as u64 {
            return Err(tensor.wrong_count(found, count));
        }
        Ok(elements)
    }

    /// Strings, which have no other form.
    pub(crate) fn typed_strings(&self, tensor: &TensorProto, count: usize) -> Result<Vec<String>> {
        if !matches!(tensor.data, DataLocation::Typed(_) | DataLocation::Absent) {
            return Err(tensor.malformed("strings outside string_data".to_owned()));
        }
        let mut spans: Vec<Span> = Vec::new();
        if tensor.data != DataLocation::Absent {
            self.typed_values(tensor, field::STRING_DATA, |_, value| match value {
                Value::Bytes(span) => {
                    spans.push(span);
                    Ok(())
                }
                other => Err(wrong_value(tensor, other)),
            })?;
        }
        if spans.len() != count {
            return Err(tensor.wrong_count(spans.len() as u64, count));
        }
        let string = |span: Span| {
            String::from_utf8(self.source.read(span)?).map_err(|_| {
                let error = tensor.malformed("a string that is not valid UTF-8".to_owned());
                error.at(span.start)
            })
        };
        spans.into_iter().map(string).collect()
    }

    /// Calls `visit` with each occurrence of the typed field that holds the
    /// tensor's elements, which must be field `number`.
    fn typed_values(
        &self,
        tensor: &TensorProto,
        number: u32,
        mut visit: impl FnMut(&mut Reader<'_>, Value) -> Result<()>,
    ) -> Result<()> {
        if tensor.data != DataLocation::Typed(number) {
            return Err(tensor.malformed(format!(
                "type {}, whose elements belong in field {number}, but they are in {:?}",
                tensor.element_type, tensor.data
            )));
        }
        let body = self.body(tensor.message);
        let mut reader = Reader::new(&self.source);
        let mut at = body.start;
        while let Some(occurrence) = reader.field(&mut at, body)? {
            if occurrence.number == number {
                visit(&mut reader, occurrence.value)?;
            }
        }
        Ok(())
    }
}

fn wrong_value(tensor: &TensorProto, value: Value) -> Error {
    tensor.malformed(format!("{} where an element is due", value.name()))
}

/// Elements that the wire format stores in a fixed number of bytes.
pub(crate) trait FromFixed: Bits + Sized {
    fn from_fixed(value: Value) -> Option<Self>;
}

impl FromFixed for f32 {
    fn from_fixed(value: Value) -> Option<Self> {
        match value {
            Value::Fixed32(bits) => Some(Self::from_bits(bits)),
            _ => None,
        }
    }
}

impl FromFixed for f64 {
    fn from_fixed(value: Value) -> Option<Self> {
        match value {
            Value::Fixed64(bits) => Some(Self::from_bits(bits)),
            _ => None,
        }
    }
}
