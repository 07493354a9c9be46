//! The elements of tensors, read one tensor at a time.

use bytemuck::Pod;
use campana_tensor::{ElementType, Tensor, TensorData};
use half::{bf16, f16};

use crate::byte_order::Bits;
use crate::proto::{DataLocation, TensorProto};
use crate::schema::tensor as field;
use crate::source::Span;
use crate::{Error, ErrorKind, Model, Result, Source};

/// 16-bit elements converted at a time: both buffers stay in the cache.
const CONVERT_BLOCK: usize = 1 << 14;

impl TensorProto {
    /// The extents.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] where one is negative.
    pub fn shape(&self) -> Result<Vec<usize>> {
        let extent = |&dim: &i64| {
            usize::try_from(dim).map_err(|_| self.malformed(format!("an extent of {dim}")))
        };
        self.dims.iter().map(extent).collect()
    }

    /// Number of elements that the extents ask for; whether they are there is
    /// known when they are read.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] where an extent is negative or the product
    /// overflows.
    pub fn count(&self) -> Result<usize> {
        let shape = self.shape()?;
        if shape.contains(&0) {
            return Ok(0);
        }
        let product = |count: usize, &dim: &usize| count.checked_mul(dim);
        shape.iter().try_fold(1, product).ok_or_else(|| {
            let message = format!(
                "a shape of {:?}, more elements than can be counted",
                self.dims
            );
            self.malformed(message)
        })
    }

    pub(crate) fn malformed(&self, found: String) -> Error {
        let message = format!("tensor {:?} has {found}", self.name);
        Error::new(ErrorKind::Malformed, message)
    }

    fn wrong_len(&self, found: u64, expected: u64) -> Error {
        self.malformed(format!(
            "{found} bytes of elements, but its shape {:?} and type {} take {expected}",
            self.dims, self.element_type
        ))
    }

    pub(crate) fn wrong_count(&self, found: u64, expected: usize) -> Error {
        self.malformed(format!(
            "{found} elements, but its shape {:?} asks for {expected}",
            self.dims
        ))
    }

    fn unsupported(&self, what: &str) -> Error {
        let message = format!("tensor {:?} {what}", self.name);
        Error::new(ErrorKind::Unsupported, message)
    }
}

impl Model {
    /// The elements of a tensor of `float32`, `float16` or `bfloat16`, widened
    /// to `f32`, wherever they are.
    ///
    /// Only this tensor is in memory, once; lengths are checked before memory
    /// is asked for.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Malformed`] where shape, type and data do not agree,
    /// [`ErrorKind::ExternalData`] where its file is missing, too short or
    /// outside the model's folder, [`ErrorKind::Unsupported`] for other types,
    /// [`ErrorKind::Io`] where reading fails.
    pub fn read_f32(&self, tensor: &TensorProto) -> Result<Vec<f32>> {
        let count = tensor.count()?;
        match tensor.element_type {
            ElementType::F32 => self.read_plain(tensor, count, |model| {
                model.typed_fixed(tensor, field::FLOAT_DATA, count)
            }),
            ElementType::F16 => self.widened(tensor, count, |bits| f16::from_bits(bits).to_f32()),
            ElementType::Bf16 => self.widened(tensor, count, |bits| bf16::from_bits(bits).to_f32()),
            other => {
                let what = format!("holds {other}, not floats of 16 or 32 bits");
                Err(tensor.unsupported(&what))
            }
        }
    }

    /// A tensor of any type of [`TensorData`]; 4-bit integers come one a byte,
    /// as `u8` and `i8`.
    ///
    /// # Errors
    ///
    /// As [`read_f32`](Self::read_f32).
    pub fn read_tensor(&self, tensor: &TensorProto) -> Result<Tensor> {
        let count = tensor.count()?;
        let shape = tensor.shape()?;
        let int32 = field::INT32_DATA;
        let data = match tensor.element_type {
            ElementType::F32 => TensorData::F32(self.read_f32(tensor)?),
            ElementType::F64 => TensorData::F64(self.read_plain(tensor, count, |model| {
                model.typed_fixed(tensor, field::DOUBLE_DATA, count)
            })?),
            ElementType::F16 => {
                let bits = self.bits16(tensor, count)?;
                TensorData::F16(bits.into_iter().map(f16::from_bits).collect())
            }
            ElementType::Bf16 => {
                let bits = self.bits16(tensor, count)?;
                TensorData::Bf16(bits.into_iter().map(bf16::from_bits).collect())
            }
            ElementType::I8 => TensorData::I8(self.read_ints(tensor, int32, count)?),
            ElementType::U8 => TensorData::U8(self.read_ints(tensor, int32, count)?),
            ElementType::I16 => TensorData::I16(self.read_ints(tensor, int32, count)?),
            ElementType::U16 => TensorData::U16(self.read_ints(tensor, int32, count)?),
            ElementType::I32 => TensorData::I32(self.read_ints(tensor, int32, count)?),
            ElementType::I64 => {
                TensorData::I64(self.read_ints(tensor, field::INT64_DATA, count)?)
            }
            ElementType::U32 => TensorData::U32(self.read_uints(tensor, count)?),
            ElementType::U64 => TensorData::U64(self.read_uints(tensor, count)?),
            ElementType::Bool => {
                let bytes: Vec<u8> = self.read_ints(tensor, int32, count)?;
                TensorData::Bool(bytes.into_iter().map(|byte| byte != 0).collect())
            }
            ElementType::U4 => TensorData::U8(self.nibbles(tensor, count, |nibble| nibble & 0x0f)?),
            ElementType::I4 => {
                // The sign bit of the nibble is moved up and back.
                let signed = |nibble: u8| (nibble << 4) as i8 >> 4;
                TensorData::I8(self.nibbles(tensor, count, signed)?)
            }
            ElementType::String => TensorData::String(self.typed_strings(tensor, count)?),
            other => {
                return Err(tensor.unsupported(&format!("holds {other}, which is not supported")));
            }
        };
        Tensor::new(shape, data)
            .ok_or_else(|| tensor.malformed(format!("a shape of {:?}", tensor.dims)))
    }

    /// The canonical path of the file that holds a tensor's external data;
    /// `None` where its elements are in the model.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::ExternalData`] where the file is missing or outside the
    /// model's folder.
    pub fn external_path(&self, tensor: &TensorProto) -> Result<Option<std::path::PathBuf>> {
        match &tensor.data {
            DataLocation::External(external) => {
                let named = |error: Error| name_tensor(tensor, error);
                self.external.path(external).map(Some).map_err(named)
            }
            _ => Ok(None),
        }
    }

    /// Where the elements are in raw form: a source and `len` bytes of it;
    /// `None` where they are in a typed field.
    fn raw(&self, tensor: &TensorProto, len: u64) -> Result<Option<(Source, Span)>> {
        let span = match &tensor.data {
            DataLocation::Typed(_) => return Ok(None),
            DataLocation::Raw(span) => *span,
            DataLocation::Absent => Span::default(),
            DataLocation::External(external) => {
                let found = self.external.find(external, len);
                return found.map(Some).map_err(|error| name_tensor(tensor, error));
            }
            DataLocation::Segment => {
                return Err(tensor.unsupported("is split into segments, which is not supported"));
            }
        };
        if span.len() != len {
            return Err(tensor.wrong_len(span.len(), len));
        }
        Ok(Some((self.source.clone(), span)))
    }

    /// Elements stored as they are in memory, or else by `typed`.
    fn read_plain<T: Pod + Bits>(
        &self,
        tensor: &TensorProto,
        count: usize,
        typed: impl FnOnce(&Self) -> Result<Vec<T>>,
    ) -> Result<Vec<T>> {
        let Some(len) = count.checked_mul(size_of::<T>()) else {
            return Err(tensor.malformed(format!("a shape of {:?}", tensor.dims)));
        };
        let Some((source, span)) = self.raw(tensor, len as u64)? else {
            return typed(self);
        };
        let mut elements = vec![T::zeroed(); count];
        source.read_at(span.start, bytemuck::cast_slice_mut(&mut elements))?;
        if cfg!(target_endian = "big") {
            elements.iter_mut().for_each(Bits::swap);
        }
        Ok(elements)
    }

    fn read_ints<T: Pod + Bits + TryFrom<i64>>(
        &self,
        tensor: &TensorProto,
        number: u32,
        count: usize,
    ) -> Result<Vec<T>> {
        self.read_plain(tensor, count, |model| {
            model.typed_integers(tensor, number, count, |value| {
                let value = match number {
                    field::INT32_DATA => i64::from(value as i32),
                    _ => value as i64,
                };
                T::try_from(value).map_err(|_| value.to_string())
            })
        })
    }

    fn read_uints<T: Pod + Bits + TryFrom<u64>>(
        &self,
        tensor: &TensorProto,
        count: usize,
    ) -> Result<Vec<T>> {
        self.read_plain(tensor, count, |model| {
            model.typed_integers(tensor, field::UINT64_DATA, count, |value| {
                T::try_from(value).map_err(|_| value.to_string())
            })
        })
    }

    fn bits16(&self, tensor: &TensorProto, count: usize) -> Result<Vec<u16>> {
        self.read_ints(tensor, field::INT32_DATA, count)
    }

    fn widened(
        &self,
        tensor: &TensorProto,
        count: usize,
        widen: impl Fn(u16) -> f32,
    ) -> Result<Vec<f32>> {
        let Some((source, span)) = self.raw(tensor, 2 * count as u64)? else {
            let bits = self.bits16(tensor, count)?;
            return Ok(bits.into_iter().map(widen).collect());
        };
        let mut elements = Vec::with_capacity(count);
        let mut block = vec![0u8; 2 * count.min(CONVERT_BLOCK)];
        let mut at = span.start;
        while at < span.end {
            let len = (span.end - at).min(block.len() as u64) as usize;
            source.read_at(at, &mut block[..len])?;
            let pairs = block[..len].chunks_exact(2);
            elements.extend(pairs.map(|pair| widen(u16::from_le_bytes([pair[0], pair[1]]))));
            at += len as u64;
        }
        Ok(elements)
    }

    /// 4-bit elements, unpacked. In `int32_data`, each integer holds a byte.
    fn nibbles<T>(
        &self,
        tensor: &TensorProto,
        count: usize,
        convert: impl Fn(u8) -> T,
    ) -> Result<Vec<T>> {
        let bytes: Vec<u8> = self.read_ints(tensor, field::INT32_DATA, count.div_ceil(2))?;
        let nibbles = bytes.into_iter().flat_map(|byte| [byte & 0x0f, byte >> 4]);
        Ok(nibbles.take(count).map(convert).collect())
    }
}

pub(crate) fn name_tensor(tensor: &TensorProto, error: Error) -> Error {
    if error.kind() == ErrorKind::ExternalData {
        error.about(format!("tensor {:?}", tensor.name))
    } else {
        error
    }
}
