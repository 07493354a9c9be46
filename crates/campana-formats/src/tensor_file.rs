//! A file of tensors, open for reading.

use std::collections::HashSet;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use campana_tensor::{ElementType, Limits, MemoryBudget};

use crate::entry::TensorEntry;
use crate::place::{Bytes, element_len, for_each_element};
use crate::source::Source;
use crate::stream::{drain, stream};
use crate::values::decode_f32;
use crate::{Error, ErrorKind, Format, Result, archive, npy, pytorch, safetensors, shards};

/// A file of named tensors; only its directory is in memory.
#[derive(Debug)]
pub struct TensorFile {
    pub(crate) format: Format,
    pub(crate) sources: Vec<Source>,
    pub(crate) tensors: Vec<TensorEntry>,
    pub(crate) metadata: Vec<(String, String)>,
    len_bytes: u64,
    pub(crate) limits: Limits,
    /// Where runs of bytes start whose checksum was found right.
    checked: Mutex<HashSet<(usize, u64)>>,
}

impl TensorFile {
    /// Opens a file of any format of this crate; reads its directory alone.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read, is damaged or of no known format, names
    /// files that are missing, or holds anything but tensors (pickles with
    /// other names, arrays of objects), or exceeds the limits of the process.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_within(path, &Limits::global())
    }

    /// As [`open`](Self::open), within these limits.
    ///
    /// # Errors
    ///
    /// As of [`open`](Self::open).
    pub fn open_within(path: &Path, limits: &Limits) -> Result<Self> {
        let source = Source::open(path)?;
        Self::read(path, source, Format::of(path), limits)
    }

    /// A file in memory; `name` says what its errors call it, and its format
    /// where the bytes do not.
    ///
    /// # Errors
    ///
    /// As of [`open`](Self::open), and where it is an index of other files.
    pub fn from_bytes(name: &str, bytes: Vec<u8>, limits: &Limits) -> Result<Self> {
        let path = Path::new(name);
        let format = Format::of_head(&bytes[..bytes.len().min(Format::HEAD_LEN)], path);
        if format == Some(Format::SafetensorsIndex) {
            let message = "it is an index of files beside it, which is read by its path";
            return Err(Error::unsupported(message).in_file(name));
        }
        Self::read(path, Source::from_bytes(name, bytes), format, limits)
    }

    fn read(path: &Path, source: Source, format: Option<Format>, limits: &Limits) -> Result<Self> {
        let name = source.name().to_owned();
        format
            .ok_or_else(|| Error::unsupported("it is no file of tensors"))
            .and_then(|format| Self::read_as(format, path, source, limits))
            .map_err(|error| error.in_file(&name))
    }

    fn read_as(format: Format, path: &Path, source: Source, limits: &Limits) -> Result<Self> {
        let mut metadata = Vec::new();
        let mut own_len = source.len();
        let (sources, tensors) = match format {
            Format::Safetensors => {
                let (tensors, pairs) = safetensors::read(&source, 0)?;
                metadata = pairs;
                (vec![source], tensors)
            }
            Format::SafetensorsIndex => {
                let found = shards::read(path, &source)?;
                own_len += found.0.iter().map(Source::len).sum::<u64>();
                found
            }
            Format::Npy => {
                let bytes = Bytes::Plain {
                    start: 0,
                    len: source.len(),
                    crc: None,
                };
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let tensor = npy::read(&source, 0, &name, bytes)?;
                (vec![source], vec![tensor])
            }
            Format::Npz => {
                let members = archive::members(&source, limits)?;
                let arrays = members
                    .iter()
                    .filter_map(|member| Some((member.name.strip_suffix(".npy")?, member.bytes)));
                let tensors = arrays
                    .map(|(name, bytes)| npy::read(&source, 0, name, bytes))
                    .collect::<Result<_>>()?;
                (vec![source], tensors)
            }
            Format::PyTorch => {
                let tensors = pytorch::read_zip(&source, limits)?;
                (vec![source], tensors)
            }
            Format::PyTorchLegacy => {
                let tensors = pytorch::read_legacy(&source, limits)?;
                (vec![source], tensors)
            }
        };
        check_sizes(&tensors, own_len, limits)?;
        Ok(Self {
            format,
            sources,
            tensors,
            metadata,
            len_bytes: own_len,
            limits: *limits,
            checked: Mutex::default(),
        })
    }

    /// The file's format.
    pub fn format(&self) -> Format {
        self.format
    }

    /// The tensors, in the file's order.
    pub fn tensors(&self) -> &[TensorEntry] {
        &self.tensors
    }

    /// Free text of a safetensors file; empty for other formats.
    pub fn metadata(&self) -> &[(String, String)] {
        &self.metadata
    }

    /// The files that hold the tensors.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(|source| Path::new(source.name()))
    }

    /// Bytes of the file, all shards included.
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// The values of a float tensor, row-major.
    ///
    /// # Errors
    ///
    /// Where reading fails, or the elements are no floats.
    pub fn read_f32(&self, tensor: &TensorEntry) -> Result<Vec<f32>> {
        let mut values = Vec::new();
        self.read_f32_into(tensor, &mut values)?;
        Ok(values)
    }

    /// As [`read_f32`](Self::read_f32), in place of what is in `values`: memory
    /// that is used again need not be mapped and cleared by the system.
    ///
    /// # Errors
    ///
    /// As of [`read_f32`](Self::read_f32).
    pub fn read_f32_into(&self, tensor: &TensorEntry, values: &mut Vec<f32>) -> Result<()> {
        if !tensor.is_float() {
            return Err(Error::unsupported(format!(
                "tensor '{}' has elements of type {}, expected floats",
                tensor.name, tensor.type_name
            )));
        }
        let count = tensor.count();
        self.check_memory(tensor, count.saturating_mul(size_of::<f32>()))?;
        if tensor.element_type == ElementType::F32 && tensor.place.strides.is_none() {
            // The usual case, without a second copy.
            if values.capacity() < count {
                *values = vec![0.0; count];
            }
            values.resize(count, 0.0);
            self.fill(tensor, bytemuck::cast_slice_mut(values))?;
            if cfg!(target_endian = "big") {
                for value in values.iter_mut() {
                    *value = f32::from_bits(u32::from_le(value.to_bits()));
                }
            }
            return Ok(());
        }
        *values = decode_f32(&self.read_bytes(tensor)?, tensor.element_type);
        Ok(())
    }

    /// The elements of a tensor as little-endian bytes, row-major.
    ///
    /// # Errors
    ///
    /// Where reading fails.
    pub fn read_bytes(&self, tensor: &TensorEntry) -> Result<Vec<u8>> {
        self.check_memory(tensor, 0)?;
        let place = &tensor.place;
        let Some(strides) = &place.strides else {
            let mut bytes = vec![0; tensor.len_bytes as usize];
            self.fill(tensor, &mut bytes)?;
            return Ok(bytes);
        };
        let len = element_len(&tensor.name, tensor.element_type)? as usize;
        let mut span = vec![0; place.span(&tensor.shape) * len];
        self.fill(tensor, &mut span)?;
        let mut bytes = Vec::with_capacity(tensor.len_bytes as usize);
        for_each_element(&tensor.shape, strides, |at| {
            bytes.extend_from_slice(&span[at * len..][..len]);
        });
        Ok(bytes)
    }

    /// Refuses a tensor that takes more memory than the file may: its elements,
    /// those between them where they are gathered, and `more` bytes.
    fn check_memory(&self, tensor: &TensorEntry, more: usize) -> Result<()> {
        let mut elements = usize::try_from(tensor.len_bytes).unwrap_or(usize::MAX);
        if tensor.place.strides.is_some() {
            let len = element_len(&tensor.name, tensor.element_type)? as usize;
            let span = tensor.place.span(&tensor.shape).saturating_mul(len);
            elements = elements.saturating_add(span);
        }
        MemoryBudget::new(&self.limits, self.len_bytes)
            .take(elements.saturating_add(more))
            .map_err(|exceeded| {
                Error::new(
                    ErrorKind::LimitExceeded,
                    format!("tensor '{}': {exceeded}", tensor.name),
                )
                .in_file(self.sources[tensor.place.source].name())
            })
    }

    /// The bytes from the tensor's first element on; those of an archive are
    /// compared with their checksum once.
    fn fill(&self, tensor: &TensorEntry, buffer: &mut [u8]) -> Result<()> {
        let place = &tensor.place;
        let source = &self.sources[place.source];
        let checked = || self.checked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Bytes::Plain { start, crc, .. } = place.bytes
            && (crc.is_none() || checked().contains(&(place.source, start)))
        {
            return source.read_at(start + place.offset, buffer);
        }
        let mut stream = stream(source, place.bytes);
        io::copy(&mut (&mut stream).take(place.offset), &mut io::sink())
            .and_then(|_| stream.read_exact(buffer))
            .and_then(|()| drain(&mut *stream))
            .map_err(|cause| {
                let doing = format!("tensor '{}' cannot be read", tensor.name);
                Error::read(doing, cause).in_file(source.name())
            })?;
        if let Bytes::Plain { start, .. } = place.bytes {
            checked().insert((place.source, start));
        }
        Ok(())
    }
}

/// Refuses tensors of too many elements, and tensors that refer to the same
/// bytes so often that reading them all would have no end.
fn check_sizes(tensors: &[TensorEntry], file_len: u64, limits: &Limits) -> Result<()> {
    let mut content: u64 = 0;
    for tensor in tensors {
        if tensor.count() > limits.max_elements {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                format!(
                    "tensor '{}' of shape {:?} has more than {} elements",
                    tensor.name, tensor.shape, limits.max_elements
                ),
            ));
        }
        content = content.saturating_add(match tensor.place.bytes {
            Bytes::Plain { .. } => tensor.len_bytes,
            // All of it is decompressed for any of it.
            Bytes::Deflated { len, .. } => len,
        });
    }
    if content > limits.content_for(file_len) {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            format!(
                "its tensors stand for {content} bytes together, more than the limit of {} for a file of {file_len} \
                 bytes",
                limits.content_for(file_len)
            ),
        ));
    }
    Ok(())
}
