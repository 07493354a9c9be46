//! The same file with other values in some of its tensors.

use std::io::{self, Read, Seek, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::place::{Bytes, element_len, for_each_element};
use crate::stream::stream;
use crate::{Error, Format, Result, SafetensorsWriter, TensorEntry, TensorFile, archive};

/// PyTorch maps storages, for which they begin at multiples of this.
const PYTORCH_ALIGNMENT: u16 = 64;

/// Gives a tensor's new little-endian elements, row-major, or `None` where it
/// stays as it is.
pub type NewValues<'a, E> = &'a mut dyn FnMut(&TensorEntry) -> Result<Option<Vec<u8>>, E>;

impl TensorFile {
    /// Writes the file again in its own format, all but some tensors' values
    /// as they are; `values` gives a tensor's new little-endian elements,
    /// row-major, or `None` where it stays. It is asked for one tensor at a
    /// time. A sharded model becomes one safetensors file.
    ///
    /// Of tensors that share elements, the first that is asked for decides.
    ///
    /// # Errors
    ///
    /// Where reading, writing or `values` fails.
    pub fn rewrite<E: From<Error>>(
        &self,
        out: &mut (impl Write + Seek),
        values: NewValues<'_, E>,
    ) -> Result<(), E> {
        match self.format {
            Format::Safetensors | Format::Npy | Format::PyTorchLegacy => {
                let source = &self.sources[0];
                let whole = Bytes::Plain {
                    start: 0,
                    len: source.len(),
                    crc: None,
                };
                let tensors = self.tensors.iter().collect();
                copy_patched(&mut *stream(source, whole), 0, tensors, out, values)
            }
            Format::Npz | Format::PyTorch => self.rewrite_zip(out, values),
            Format::SafetensorsIndex => {
                let mut writer = SafetensorsWriter::new(&std::env::temp_dir())?;
                for tensor in &self.tensors {
                    let bytes = match values(tensor)? {
                        Some(bytes) => bytes,
                        None => self.read_bytes(tensor)?,
                    };
                    writer.copy(tensor, &bytes)?;
                }
                writer.finish(out)?;
                Ok(())
            }
        }
    }

    fn rewrite_zip<E: From<Error>>(
        &self,
        out: &mut (impl Write + Seek),
        values: NewValues<'_, E>,
    ) -> Result<(), E> {
        let source = &self.sources[0];
        let mut writer = ZipWriter::new(out);
        for member in archive::members(source, &self.limits)? {
            let method = match member.bytes {
                Bytes::Plain { .. } => CompressionMethod::Stored,
                Bytes::Deflated { .. } => CompressionMethod::Deflated,
            };
            let mut options = SimpleFileOptions::default()
                .compression_method(method)
                .large_file(member.bytes.len() >= u64::from(u32::MAX));
            if self.format == Format::PyTorch {
                options = options.with_alignment(PYTORCH_ALIGNMENT);
            }
            writer
                .start_file(member.name.as_str(), options)
                .map_err(archive::unreadable)?;
            let tensors = self
                .tensors
                .iter()
                .filter(|tensor| tensor.place.bytes == member.bytes)
                .collect();
            let start = match member.bytes {
                Bytes::Plain { start, .. } => start,
                Bytes::Deflated { .. } => 0,
            };
            let mut bytes = stream(source, member.bytes);
            copy_patched(&mut *bytes, start, tensors, &mut writer, values)?;
        }
        writer.finish().map_err(archive::unreadable)?;
        Ok(())
    }
}

/// Copies a run of bytes with new values in the tensors' places; the run's
/// first byte is byte `run_start` of its file, or 0 where it is compressed.
fn copy_patched<E: From<Error>>(
    run: &mut dyn Read,
    run_start: u64,
    mut tensors: Vec<&TensorEntry>,
    out: &mut dyn Write,
    values: NewValues<'_, E>,
) -> Result<(), E> {
    let first_byte = |tensor: &TensorEntry| {
        let within_file = match tensor.place.bytes {
            Bytes::Plain { start, .. } => start,
            Bytes::Deflated { .. } => 0,
        };
        within_file + tensor.place.offset - run_start
    };
    tensors.sort_by_key(|tensor| first_byte(tensor));
    let mut position = 0;
    for tensor in tensors {
        let start = first_byte(tensor);
        if start < position || tensor.count() == 0 {
            continue;
        }
        let Some(new) = values(tensor)? else {
            continue;
        };
        copy(&mut run.take(start - position), out)?;
        let len = element_len(&tensor.name, tensor.element_type)? as usize;
        let mut span = vec![0; tensor.place.span(&tensor.shape) * len];
        run.read_exact(&mut span).map_err(|cause| {
            Error::read(format!("tensor '{}' cannot be read", tensor.name), cause)
        })?;
        match &tensor.place.strides {
            None => span = new,
            Some(strides) => {
                let mut elements = new.chunks_exact(len);
                for_each_element(&tensor.shape, strides, |at| {
                    if let Some(element) = elements.next() {
                        span[at * len..][..len].copy_from_slice(element);
                    }
                });
            }
        }
        out.write_all(&span)
            .map_err(|cause| Error::io(format!("cannot write tensor '{}'", tensor.name), cause))?;
        position = start + span.len() as u64;
    }
    copy(run, out)
}

fn copy<E: From<Error>>(mut from: &mut dyn Read, out: &mut dyn Write) -> Result<(), E> {
    io::copy(&mut from, out).map_err(|cause| Error::read("cannot copy the file", cause))?;
    Ok(())
}
