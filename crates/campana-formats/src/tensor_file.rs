//! A file of tensors, open for reading.

use std::io::Read;
use std::path::Path;

use campana_tensor::ElementType;

use crate::entry::TensorEntry;
use crate::place::{Bytes, element_len, for_each_element};
use crate::source::Source;
use crate::stream::stream;
use crate::values::decode_f32;
use crate::{Error, Format, Result, archive, npy, pytorch, safetensors, shards};

/// A file of named tensors; only its directory is in memory.
#[derive(Debug)]
pub struct TensorFile {
    pub(crate) format: Format,
    pub(crate) sources: Vec<Source>,
    pub(crate) tensors: Vec<TensorEntry>,
    pub(crate) metadata: Vec<(String, String)>,
    len_bytes: u64,
}

impl TensorFile {
    /// Opens a file of any format of this crate; reads its directory alone.
    ///
    /// # Errors
    ///
    /// Where the file cannot be read, is damaged or of no known format, names
    /// files that are missing, or holds anything but tensors (pickles with
    /// other names, arrays of objects).
    pub fn open(path: &Path) -> Result<Self> {
        let source = Source::open(path)?;
        let name = source.name().to_owned();
        let format = Format::of(path)
            .ok_or_else(|| Error::unsupported("it is no file of tensors").in_file(&name))?;
        Self::read(path, source, format).map_err(|error| error.in_file(&name))
    }

    fn read(path: &Path, source: Source, format: Format) -> Result<Self> {
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
                };
                let name = path.file_stem().unwrap_or_default().to_string_lossy();
                let tensor = npy::read(&source, 0, &name, bytes)?;
                (vec![source], vec![tensor])
            }
            Format::Npz => {
                let members = archive::members(&source)?;
                let arrays = members
                    .iter()
                    .filter_map(|member| Some((member.name.strip_suffix(".npy")?, member.bytes)));
                let tensors = arrays
                    .map(|(name, bytes)| npy::read(&source, 0, name, bytes))
                    .collect::<Result<_>>()?;
                (vec![source], tensors)
            }
            Format::PyTorch => {
                let tensors = pytorch::read_zip(&source)?;
                (vec![source], tensors)
            }
            Format::PyTorchLegacy => {
                let tensors = pytorch::read_legacy(&source)?;
                (vec![source], tensors)
            }
        };
        Ok(Self {
            format,
            sources,
            tensors,
            metadata,
            len_bytes: own_len,
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
        if tensor.element_type == ElementType::F32 && tensor.place.strides.is_none() {
            // The usual case, without a second copy.
            if values.capacity() < tensor.count() {
                *values = vec![0.0; tensor.count()];
            }
            values.resize(tensor.count(), 0.0);
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

    /// The bytes from the tensor's first element on.
    fn fill(&self, tensor: &TensorEntry, buffer: &mut [u8]) -> Result<()> {
        let place = &tensor.place;
        let source = &self.sources[place.source];
        let read = match place.bytes {
            Bytes::Plain { start, .. } => source.read_at(start + place.offset, buffer),
            bytes @ Bytes::Deflated { .. } => {
                let mut stream = stream(source, bytes);
                std::io::copy(&mut (&mut stream).take(place.offset), &mut std::io::sink())
                    .and_then(|_| stream.read_exact(buffer))
                    .map_err(|cause| Error::io("cannot decompress it", cause))
            }
        };
        read.map_err(|error| error.in_file(source.name()))
    }
}
